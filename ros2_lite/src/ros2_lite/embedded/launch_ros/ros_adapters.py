"""The ROS node of the launch itself, for actions that talk to the nodes they have started.

rclpy is loaded when the first of them is executed: an ordinary launch never joins the graph.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from launch.event_handlers import OnShutdown
from launch.launch_context import LaunchContext

if TYPE_CHECKING:
    from rclpy.context import Context
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.node import Node


class ROSAdapter:
    """A node in a context of its own, spun by a thread."""

    def __init__(self, *, argv: list[str] | None = None, autostart: bool = True) -> None:
        self.argv = argv or []
        self._context: Context | None = None
        self._node: Node | None = None
        self._executor: SingleThreadedExecutor | None = None
        self._thread: threading.Thread | None = None
        if autostart:
            self.start()

    def start(self) -> None:
        """Join the graph; RuntimeError where it was started already."""
        import rclpy
        from rclpy.context import Context
        from rclpy.executors import SingleThreadedExecutor

        if self._thread is not None:
            raise RuntimeError("Cannot start a ROS adapter that is already running")
        self._context = Context()
        rclpy.init(args=self.argv, context=self._context)
        self._node = rclpy.create_node(f"launch_ros_{os.getpid()}", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, name="launch_ros", daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        from rclpy.executors import ExternalShutdownException

        assert self._executor is not None
        try:
            self._executor.spin()
        except ExternalShutdownException:
            return  # the ordinary end

    def shutdown(self) -> None:
        """Leave the graph; RuntimeError where it does not run."""
        if self._thread is None or self._context is None or self._node is None:
            raise RuntimeError("Cannot shutdown a ROS adapter that is not running")
        self._context.try_shutdown()
        self._thread.join()
        self._thread = None
        self._node.destroy_node()

    @property
    def ros_context(self) -> Any:
        """The rclpy context."""
        return self._context

    @property
    def ros_node(self) -> Any:
        """The node."""
        return self._node

    @property
    def ros_executor(self) -> Any:
        """What spins the node."""
        return self._executor


def get_ros_adapter(context: LaunchContext) -> ROSAdapter:
    """The adapter of a launch, made at the first call; it ends with the launch's shutdown."""
    found: ROSAdapter | None = context.get_locals_as_dict().get("ros_adapter")
    if found is None:
        adapter = found = ROSAdapter()
        context.extend_globals({"ros_adapter": adapter})

        def end(event: Any, context: LaunchContext) -> None:
            adapter.shutdown()

        context.register_event_handler(OnShutdown(on_shutdown=end))
    return found


def get_ros_node(context: LaunchContext) -> Any:
    """The node of a launch, made at the first call."""
    return get_ros_adapter(context).ros_node
