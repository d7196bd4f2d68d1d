"""What the simulator publishes: state, truth and images of one instant, all with the same stamp."""

from __future__ import annotations

from typing import Any

import numpy as np
from cv_bridge import CvBridge
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from visualization_msgs.msg import Marker, MarkerArray

from robovlm_ros import messages
from robovlm_ros.contract import Contract, joint_field
from robovlm_ros.errors import UserError
from robovlm_ros.sim.truth import BASE_FRAME, fill_marker, fill_pad
from robovlm_ros.sim.world import Tabletop

RELIABLE = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
"""Serves subscribers of either reliability."""
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
"""Whoever comes later gets the newest message."""


class SimTopics:
    """The publishers of a simulated robot, as its contract names them."""

    def __init__(self, node: Node, contract: Contract, world: Tabletop, *, clock: bool) -> None:
        """UserError when the contract asks for a state that the arm does not measure."""
        known = world.measured()
        for source in contract.state:
            unknown = [dim for dim in source.dims if dim not in known]
            if unknown:
                raise UserError(
                    f"state '{source.name}': the simulated arm does not measure '{unknown[0]}' "
                    f"(it does: {', '.join(known)})"
                )
            if joint_field(source.unit) != "position":
                raise UserError(f"state '{source.name}': the simulated arm measures no {joint_field(source.unit)}")
        self._world = world
        self._bridge = CvBridge()
        self._states = []
        for source in contract.state:
            kind = messages.message_class(source.type)
            self._states.append((source, kind, node.create_publisher(kind, source.topic, RELIABLE)))
        self._cameras = [
            (camera, node.create_publisher(messages.message_class(camera.type), camera.topic, RELIABLE))
            for camera in contract.cameras
        ]
        self._clock = node.create_publisher(Clock, "/clock", RELIABLE) if clock else None
        self._blocks = node.create_publisher(MarkerArray, "~/blocks", LATCHED)

    def publish(self, stamp_ns: int) -> None:
        """Publish what is measured and seen now: the time first, then truth, state and images."""
        self.tell_time(stamp_ns)
        world, measured = self._world, self._world.measured()
        things = [fill_marker(Marker(), block, stamp_ns) for block in world.blocks]
        things += [fill_pad(Marker(), pad, stamp_ns) for pad in world.pads]
        self._blocks.publish(MarkerArray(markers=things))
        for source, kind, publisher in self._states:
            message = kind()
            if hasattr(message, "pose"):
                turn = message.pose.orientation
                turn.x, turn.y, turn.z, turn.w = world.tool_orientation.tolist()
            values = np.array([measured[dim] for dim in source.dims])
            publisher.publish(messages.fill_state(message, source, values, stamp_ns, BASE_FRAME))
        for camera, publisher in self._cameras:
            if publisher.get_subscription_count():  # an image costs more than all the rest: draw none for nobody
                publisher.publish(self._image(camera.type, world.render(camera.name), stamp_ns, camera.frame))

    def tell_time(self, time_ns: int) -> None:
        """Publish simulated time, if this simulator keeps it."""
        if self._clock is not None:
            message = Clock()
            message.clock.sec, message.clock.nanosec = divmod(time_ns, 1_000_000_000)
            self._clock.publish(message)

    def listeners(self) -> int:
        """How many look at the cameras."""
        return sum(int(publisher.get_subscription_count()) for _, publisher in self._cameras)

    def _image(self, kind: str, image: NDArray[np.uint8], stamp_ns: int, frame: str) -> Any:
        if kind.endswith("CompressedImage"):
            message = self._bridge.cv2_to_compressed_imgmsg(np.ascontiguousarray(image[..., ::-1]), "jpeg")
        else:
            message = self._bridge.cv2_to_imgmsg(image, "rgb8")
        messages.set_stamp(message, stamp_ns, frame)
        return message
