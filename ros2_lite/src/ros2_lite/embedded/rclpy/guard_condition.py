"""Conditions that the program itself triggers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ros2_lite.dds import entities

from rclpy._entity import Entity, Work

if TYPE_CHECKING:
    from rclpy.callback_groups import CallbackGroup
    from rclpy.context import Context


class GuardCondition(Entity):
    """Calls back in the executor after `trigger`.  Made by `Node.create_guard_condition`."""

    def __init__(
        self,
        callback: Callable[[], Any] | None,
        callback_group: CallbackGroup | None,
        context: Context | None = None,
    ) -> None:
        super().__init__(callback_group)
        self.callback = callback
        self._guard = entities.GuardCondition()
        self.condition = self._guard.handle

    @property
    def handle(self) -> entities.GuardCondition:
        return self._guard

    def trigger(self) -> None:
        self._guard.set()

    def _take(self) -> Work | None:
        if not self._guard.take() or self.callback is None:
            return None
        return self.callback, ()

    def destroy(self) -> None:
        super().destroy()
        self._guard.close()
