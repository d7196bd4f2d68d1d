"""What feeds ``/clock`` into a node's clock when ``use_sim_time`` is true."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rcl_interfaces.msg import SetParametersResult

from rclpy.clock import ROSClock
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.time import Time

if TYPE_CHECKING:
    from rclpy.node import Node
    from rclpy.subscription import Subscription

CLOCK_TOPIC = "/clock"
USE_SIM_TIME_NAME = "use_sim_time"


class TimeSource:
    """Declares ``use_sim_time`` on a node and subscribes to ``/clock`` while it is true."""

    def __init__(self, *, node: Node) -> None:
        self._node = node
        self._clocks: list[ROSClock] = []
        self._subscription: Subscription | None = None
        self._active = False
        if not node.has_parameter(USE_SIM_TIME_NAME):
            node.declare_parameter(USE_SIM_TIME_NAME, False)
        value = node.get_parameter(USE_SIM_TIME_NAME)
        if value.type_ == Parameter.Type.BOOL:
            self._activate(value.value)
        else:
            node.get_logger().error(f"Invalid type for parameter '{USE_SIM_TIME_NAME}' {value.type_!r} should be bool")
        node.add_on_set_parameters_callback(self._on_parameters)

    @property
    def ros_time_is_active(self) -> bool:
        return self._active

    def _activate(self, enabled: bool) -> None:
        if enabled == self._active:
            return
        self._active = enabled
        for clock in self._clocks:
            clock._set_ros_time_is_active(enabled)
        if enabled:
            from rosgraph_msgs.msg import Clock

            from rclpy.callback_groups import MutuallyExclusiveCallbackGroup

            # A group of its own: time must go on while a callback of the default group runs.
            self._subscription = self._node.create_subscription(
                Clock,
                CLOCK_TOPIC,
                self._on_clock,
                QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT),
                callback_group=MutuallyExclusiveCallbackGroup(),
            )
        elif self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def attach_clock(self, clock: ROSClock) -> None:
        """Let the clock follow this source."""
        if not isinstance(clock, ROSClock):
            raise ValueError("Only clocks with type ROS_TIME can be attached.")
        clock._set_ros_time_is_active(self._active)
        self._clocks.append(clock)

    def _on_clock(self, message: Any) -> None:
        now = Time.from_msg(message.clock)
        for clock in self._clocks:
            clock.set_ros_time_override(now)

    def _on_parameters(self, parameters: list[Parameter]) -> Any:
        for parameter in parameters:
            if parameter.name == USE_SIM_TIME_NAME:
                if parameter.type_ != Parameter.Type.BOOL:
                    return SetParametersResult(
                        successful=False, reason=f"'{USE_SIM_TIME_NAME}' must be a bool, not {parameter.type_.name}"
                    )
                self._activate(parameter.value)
        return SetParametersResult(successful=True)
