"""A robot that stands still and can be broken: what `faults.py` disturbs a policy with."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from robovlm_ros import messages
from robovlm_ros.cli.processes import Nodes
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError

TOOL = {"x": 0.35, "y": 0.0, "z": 0.2}
"""Where its tool point stands [m]."""


class Robot:
    """A robot that stands still and can be broken; it remembers the commands and what the policy says of itself."""

    def __init__(self, contract: Contract, nodes: Nodes) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
        from rclpy.signals import SignalHandlerOptions
        from std_msgs.msg import Bool, String

        self.contract, self.nodes = contract, nodes
        self.sees = self.feels = True
        """Cameras and state are published."""
        self.frozen = self.renamed = False
        """Images are all the same; joints have other names."""
        self.offset_ns = 0
        """What the robot's clock is ahead by [ns]."""
        self.commands: list[tuple[float, np.ndarray]] = []
        """(time of arrival [s], (dims,) values) of the first command of the contract."""
        self.said: list[tuple[float, str]] = []
        """(time [s], situation and interventions) from /diagnostics."""
        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = node = rclpy.create_node("faulty_robot", context=self._context)
        self._count = 0
        self._cameras = [
            (camera, node.create_publisher(messages.message_class(camera.type), camera.topic, 10))
            for camera in contract.cameras
        ]
        self._states = [
            (source, node.create_publisher(messages.message_class(source.type), source.topic, 10))
            for source in contract.state
        ]
        command = contract.commands[0]
        node.create_subscription(
            messages.message_class(command.type),
            command.topic,
            lambda message: self.commands.append((time.monotonic(), messages.command_values(message, command))),
            100,
        )
        node.create_subscription(DiagnosticArray, "/diagnostics", self._hear, 10)
        latched = QoSProfile(
            depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
        )
        self._text, self._bool = String, Bool
        self._instruction = node.create_publisher(String, contract.instruction_topic, latched)
        self._stop = node.create_publisher(Bool, "/emergency_stop", latched)
        node.create_timer(1.0 / contract.rate_hz, self._look)
        node.create_timer(0.02, self._feel)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(node)
        self._thread = threading.Thread(target=self._executor.spin, name="robot")
        self._thread.start()

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        self._thread.join()
        self.node.destroy_node()
        self._context.try_shutdown()

    def instruct(self, text: str) -> None:
        """Say what to do."""
        self._instruction.publish(self._text(data=text))

    def emergency(self, pressed: bool) -> None:
        """Press or release the emergency stop."""
        self._stop.publish(self._bool(data=pressed))

    def call(self, name: str) -> Any:
        """The answer of a Trigger service of the policy node."""
        from std_srvs.srv import Trigger

        client = self.node.create_client(Trigger, f"/policy_node/{name}")
        return self._answer(client, Trigger.Request())

    def set(self, name: str, value: float) -> None:
        """Set a parameter of the policy node."""
        from rcl_interfaces.srv import SetParameters
        from rclpy.parameter import Parameter

        client = self.node.create_client(SetParameters, "/policy_node/set_parameters")
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        self._answer(client, request)

    def wait(self, done: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
        """UserError if it does not happen."""
        end_s = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end_s:
                raise UserError(f"{what} did not happen within {seconds:.0f} s")
            time.sleep(0.01)

    def obeyed(self, seconds: float = 10.0) -> None:
        """Wait for commands that come now."""
        since_s = time.monotonic()
        self.wait(lambda: sum(at > since_s for at, _ in self.commands) > 10, "a stream of commands", seconds)

    def _answer(self, client: Any, request: Any) -> Any:
        self.wait(client.service_is_ready, f"service {client.srv_name}")
        future = client.call_async(request)
        self.wait(future.done, f"the answer of {client.srv_name}")
        return future.result()

    def _hear(self, message: Any) -> None:
        for status in message.status:
            figures = {item.key: item.value for item in status.values}
            done = figures.get("interventions", "")
            self.said.append((time.monotonic(), f"{status.message}; interventions: {done}"))

    def _stamp_ns(self) -> int:
        return time.time_ns() + self.offset_ns

    def _look(self) -> None:
        if not self.sees:
            return
        self._count += not self.frozen
        for camera, publisher in self._cameras:
            pixels = np.random.default_rng(self._count).integers(0, 256, (camera.height, camera.width, 3), np.uint8)
            image = messages.message_class(camera.type)(
                height=camera.height, width=camera.width, encoding="rgb8", step=3 * camera.width, data=pixels.tobytes()
            )
            messages.set_stamp(image, self._stamp_ns(), camera.frame)
            publisher.publish(image)

    def _feel(self) -> None:
        for source, publisher in self._states if self.feels else ():
            values = np.array([TOOL.get(dim, 0.1) for dim in source.dims])
            state = messages.fill_state(messages.message_class(source.type)(), source, values, self._stamp_ns())
            if self.renamed and hasattr(state, "name"):
                state.name = [f"other_{name}" for name in state.name]
            publisher.publish(state)
