"""What feeds ``/clock`` into a node's clock when ``use_sim_time`` is true."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rcl_interfaces.msg import SetParametersResult

from rclpy.clock import ROSClock
from rclpy.clock_type import ClockType
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

    def __init__(self, *, node: Node | None = None) -> None:
        self._node: Node | None = None
        self._clocks: list[ROSClock] = []
        self._clock_sub: Subscription | None = None
        self._active = False
        self._last = Time(clock_type=ClockType.ROS_TIME)
        if node is not None:
            self.attach_node(node)

    def attach_node(self, node: Node) -> None:
        """Follow a node's ``use_sim_time`` and subscribe through it."""
        from rclpy.node import Node as NodeClass

        if not isinstance(node, NodeClass):
            raise TypeError("Node must be of type rclpy.node.Node")
        if self._node is not None:
            self.detach_node()
        self._node = node
        if not node.has_parameter(USE_SIM_TIME_NAME):
            node.declare_parameter(USE_SIM_TIME_NAME, False)
        value = node.get_parameter(USE_SIM_TIME_NAME)
        if value.type_ == Parameter.Type.BOOL:
            self._activate(value.value)
        else:
            node.get_logger().error(f"Invalid type for parameter '{USE_SIM_TIME_NAME}' {value.type_!r} should be bool")
        node.add_on_set_parameters_callback(self._on_parameters)

    def detach_node(self) -> None:
        """Leave the node; the clocks keep their time."""
        if self._clock_sub is not None and self._node is not None:
            self._node.destroy_subscription(self._clock_sub)
        self._clock_sub = None
        self._node = None

    def _get_node(self) -> Node | None:
        return self._node

    @property
    def ros_time_is_active(self) -> bool:
        return self._active

    @ros_time_is_active.setter
    def ros_time_is_active(self, enabled: bool) -> None:
        self._activate(enabled)

    def _activate(self, enabled: bool) -> None:
        if enabled == self._active:
            return
        self._active = enabled
        for clock in self._clocks:
            clock._set_ros_time_is_active(enabled)
        if self._node is None:
            return
        if enabled:
            from rosgraph_msgs.msg import Clock

            from rclpy.callback_groups import MutuallyExclusiveCallbackGroup

            # A group of its own: time must go on while a callback of the default group runs.
            self._clock_sub = self._node.create_subscription(
                Clock,
                CLOCK_TOPIC,
                self.clock_callback,
                QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT),
                callback_group=MutuallyExclusiveCallbackGroup(),
            )
        elif self._clock_sub is not None:
            self._node.destroy_subscription(self._clock_sub)
            self._clock_sub = None

    def attach_clock(self, clock: ROSClock) -> None:
        """Let the clock follow this source."""
        if not isinstance(clock, ROSClock):
            raise ValueError("Only clocks with type ROS_TIME can be attached.")
        clock.set_ros_time_override(self._last)
        clock._set_ros_time_is_active(self._active)
        if clock not in self._clocks:
            self._clocks.append(clock)

    def clock_callback(self, message: Any) -> None:
        """Take the time of a rosgraph_msgs/msg/Clock."""
        self._last = now = Time.from_msg(message.clock)
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
