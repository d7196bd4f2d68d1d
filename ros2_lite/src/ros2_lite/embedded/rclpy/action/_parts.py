"""What the two sides of an action have in common."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from rclpy.task import Future
from rclpy.type_support import check_for_type_support
from rclpy.waitable import Waitable

if TYPE_CHECKING:
    from rclpy.callback_groups import CallbackGroup
    from rclpy.context import Context
    from rclpy.node import Node


class ActionSide(Waitable):
    """A client or a server: three services and two topics of a node, which it does not list among its own."""

    def __init__(self, node: Node, action_type: Any, action_name: str, callback_group: CallbackGroup | None) -> None:
        super().__init__(node.default_callback_group if callback_group is None else callback_group)
        check_for_type_support(action_type)
        if not hasattr(action_type, "Impl"):
            raise AttributeError(f"{action_type!r} is no action class")
        self._node = node
        self._action_type = action_type
        self._action_name = action_name
        self._made: list[Any] = []
        node._rclpy_actions.append(self)

    def _own(self, made: Any) -> Any:
        """Hide what the node just made, and destroy it with this."""
        self._made.append(self._node._rclpy_hide(made))
        return made

    def _path(self, part: str) -> str:
        return f"{self._action_name}/_action/{part}"

    def destroy(self) -> None:
        """Destroy it; harmless when that was done."""
        made, self._made = self._made, []
        for item in made:
            item.destroy()
        if self in self._node._rclpy_actions:
            self._node._rclpy_actions.remove(self)
        hidden = self._node._rclpy_hidden
        hidden[:] = [entity for entity in hidden if entity not in made]
        self._node._rclpy_changed()


def uuid_of(goal_id: Any) -> bytes:
    """The 16 bytes of a unique_identifier_msgs/msg/UUID."""
    return bytes(goal_id.uuid)


def wait_for(future: Future, context: Context) -> Any:
    """Wait, in this thread, for a future that another thread's executor finishes; its result.

    None when the context ends before.
    """
    done = threading.Event()
    future._on_done(done.set)
    context.on_shutdown(done.set)
    done.wait()
    return future.result()
