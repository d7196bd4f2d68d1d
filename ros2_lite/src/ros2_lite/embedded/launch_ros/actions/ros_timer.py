"""A timer by ROS time."""

from __future__ import annotations

from collections.abc import Callable

from launch.actions import TimerAction
from launch.launch_context import LaunchContext

from ..ros_adapters import get_ros_node


class ROSTimer(TimerAction):
    """Visits its actions once, after ``period`` seconds of ROS time, which may be simulated (``SetUseSimTime``)."""

    def describe(self) -> str:
        return f"ROSTimer(period={self.period}, actions=<actions>)"

    def _arm(self, context: LaunchContext, seconds: float, fire: Callable[[], None]) -> Callable[[], None]:
        from rclpy.parameter import Parameter

        node = get_ros_node(context)
        loop = context.asyncio_loop
        assert loop is not None
        settings = [item for item in context.launch_configurations.get("global_params", []) if isinstance(item, tuple)]
        if any(name == "use_sim_time" and value for name, value in settings):
            node.set_parameters([Parameter("use_sim_time", value=True)])

        def fired() -> None:
            timer.cancel()
            loop.call_soon_threadsafe(fire)

        timer = node.create_timer(seconds, fired)
        return lambda: node.destroy_timer(timer) and None


RosTimer = ROSTimer
