"""A robot that stands still and the policy node for it, in the process of a test."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
import torch
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String
from std_srvs.srv import Trigger

from robovlm_ros import messages
from robovlm_ros.contract import Contract
from robovlm_ros.nodes.policy_node import PolicyNode
from robovlm_ros.vlm.checkpoint import save_policy
from robovlm_ros.vlm.configuration import ActionTokenConfig
from robovlm_ros.vlm.policy import ActionTokenPolicy
from robovlm_ros.vlm.processor import ActionTokenProcessor
from robovlm_ros.vlm.tiny import TinyVLMConfig, build_model, build_processor

from .robots import end_spinning, picture

PATIENCE_S = 3.0
"""Ages that a busy machine keeps, in place of a robot's [s]."""


def patient(name: str, **size: int) -> Contract:
    """A shipped contract for a machine that does much else."""
    contract = Contract.load(name)
    cameras = tuple(dataclasses.replace(camera, max_age_s=PATIENCE_S, **size) for camera in contract.cameras)
    state = tuple(dataclasses.replace(source, max_age_s=PATIENCE_S) for source in contract.state)
    return dataclasses.replace(contract, cameras=cameras, state=state)


def make_checkpoint(folder: Path, contract: Contract, decides: list[float] | None = None) -> Path:
    """A tiny policy for a contract: one with random weights, whose actions are small against the limits, or one that
    decides the same actions always."""
    size = TinyVLMConfig(hidden_size=32, vision_layers=1, text_layers=1, heads=2)
    words = build_processor(size)
    vlm = build_model(size, words)
    wide = contract.limits[:, 1] - contract.limits[:, 0]
    config = ActionTokenConfig(
        vlm_config=vlm.config,
        contract=contract.to_dict(),
        cameras=[camera.name for camera in contract.cameras],
        state=list(contract.state_names),
        head={"type": "mlp"},
        action_statistics={
            "offset": np.where(contract.binary, 0.0, decides or 0.0).tolist(),
            "scale": np.where(contract.binary, 1.0, wide / 20 if decides is None else 1e-9).tolist(),
        },
    )
    policy = ActionTokenPolicy.from_vlm(vlm, config)
    with torch.no_grad():
        policy.action_token.normal_()
    save_policy(folder, policy, ActionTokenProcessor(config, words))
    return folder


class Robot(Node):  # type: ignore[misc, unused-ignore]
    """A robot that stands still, seen by its cameras, and writes down the messages that it receives."""

    def __init__(self, contract: Contract, urdf: str = "") -> None:
        super().__init__("robot")
        self.contract = contract
        self.sees = True
        self.received: dict[str, list[tuple[float, Any]]] = {command.name: [] for command in contract.commands}
        self._cameras = [
            (
                picture(camera.type, camera.width, camera.height, i, 0, 0),
                self.create_publisher(messages.message_class(camera.type), camera.topic, 10),
            )
            for i, camera in enumerate(contract.cameras)
        ]
        self._states = [
            (source, self.create_publisher(messages.message_class(source.type), source.topic, 10))
            for source in contract.state
        ]
        for command in contract.commands:
            self.create_subscription(
                messages.message_class(command.type),
                command.topic,
                lambda message, name=command.name: self.received[name].append((time.monotonic(), message)),
                100,
            )
        if contract.urdf_topic is not None:
            latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
            self.description = self.create_publisher(String, contract.urdf_topic, latched)
            self.description.publish(String(data=urdf))
        self.instruction = self.create_publisher(String, contract.instruction_topic, 1)
        self.create_timer(1.0 / contract.rate_hz, self._observe)

    def _observe(self) -> None:
        stamp_ns = int(self.get_clock().now().nanoseconds)
        for source, publisher in self._states:
            values = np.full(len(source.dims), 0.1)
            message = messages.fill_state(messages.message_class(source.type)(), source, values, stamp_ns)
            if hasattr(message, "name"):  # a driver's own order, with a joint that nobody asked for
                message.name = ["wheel", *reversed(message.name)]
                message.position = [9.0, *reversed(message.position)]
            publisher.publish(message)
        for image, publisher in self._cameras if self.sees else ():
            messages.set_stamp(image, stamp_ns, "camera")
            publisher.publish(image)


class World:
    """A robot and the policy node for it, spinning in this process."""

    def __init__(
        self, contract: Contract, folder: Path, *parameters: str, decides: list[float] | None = None, urdf: str = ""
    ) -> None:
        """`decides`: see `make_checkpoint`; `urdf`: what the contract's ``urdf_topic`` says."""
        texts = (f"checkpoint:={make_checkpoint(folder, contract, decides)}", "max_chunk_age_s:=3.0", *parameters)
        rclpy.init(args=["--ros-args", *(item for text in texts for item in ("-p", text))])
        self._executor = MultiThreadedExecutor(num_threads=4)
        self.robot = Robot(contract, urdf)
        self.policy = PolicyNode()
        self._executor.add_node(self.robot)
        self._executor.add_node(self.policy)
        self._thread = threading.Thread(target=self._spin)
        self._thread.start()

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()

    def begin(self) -> None:
        self.wait(lambda: self.robot.instruction.get_subscription_count() >= 1, "the policy's subscription")
        self.robot.instruction.publish(String(data="go there"))
        self.wait(lambda: all(len(found) > 3 for found in self.robot.received.values()), "commands on every topic")

    def call(self, name: str) -> Any:
        client = self.robot.create_client(Trigger, f"/policy_node/{name}")
        assert client.wait_for_service(timeout_sec=10.0)
        future = client.call_async(Trigger.Request())
        self.wait(future.done, f"the answer of {name}")
        return future.result()

    def wait(self, done: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, f"{what} did not happen within {seconds} s: {self.policy.failure}"
            time.sleep(0.02)

    def close(self) -> None:
        self.policy.close()
        end_spinning(self._executor, self._thread)
