"""What a lifecycle node makes when it is configured: with a quality of service that parameters override, and undone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from rclpy.exceptions import ParameterException
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos_overriding_options import InvalidQosOverridesError, QoSOverridingOptions

from robovlm_ros.errors import UserError


def overridable(name: str | None = None) -> dict[str, Any]:
    """Arguments of `create_subscription` and `create_publisher` by which parameters
    ``qos_overrides./TOPIC.subscription.reliability`` (``history``, ``depth``; ``publisher``) override the profile.

    `name` tells several on one topic apart (``subscription_NAME``).
    """
    return {"qos_overriding_options": QoSOverridingOptions.with_default_policies(entity_id=name)}


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """UserError for a quality of service that cannot be."""
    try:
        yield
    except (ParameterException, InvalidQosOverridesError) as error:
        raise UserError(" ".join(str(error).split())) from error
    except RuntimeError as error:
        if "QoS override" not in str(error):
            raise
        raise UserError(" ".join(str(error).split())) from error


class Entities:
    """Undoes what was made of a node's topics, services and timers since this was."""

    def __init__(self, node: LifecycleNode) -> None:
        self._node = node
        self._before = set(self._all())

    def destroy(self) -> None:
        """Destroy all that came later."""
        node = self._node
        for kind, destroy in (
            ("publishers", node.destroy_publisher),
            ("subscriptions", node.destroy_subscription),
            ("services", node.destroy_service),
            ("timers", node.destroy_timer),
        ):
            for entity in [entity for entity in getattr(node, kind) if entity not in self._before]:
                if isinstance(entity, LifecyclePublisher):
                    node.destroy_lifecycle_publisher(entity)
                else:
                    destroy(entity)

    def _all(self) -> list[Any]:
        node = self._node
        return [*node.publishers, *node.subscriptions, *node.services, *node.timers]
