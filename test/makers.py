"""Makers of small real things for tests of the model, its training and the engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from robovlm_ros.contract import Contract
from robovlm_ros.observation import Observation
from robovlm_ros.vlm.configuration import ActionTokenConfig
from robovlm_ros.vlm.policy import ActionTokenPolicy
from robovlm_ros.vlm.processor import ActionTokenProcessor
from robovlm_ros.vlm.tiny import TinyVLMConfig, build_model, build_processor

SMALL = TinyVLMConfig(image_size=48, hidden_size=32, vision_layers=1, text_layers=2, heads=2)


def small_vlm(seed: int = 0) -> tuple[Any, Any]:
    """A very small vision-language model of the real class, and its processor."""
    processor = build_processor(SMALL)
    return build_model(SMALL, processor, seed), processor


def arm_contract(action_dim: int, gripper: bool = True) -> Contract:
    """An arm with so many actions; the last one is a binary gripper unless told."""
    joints = [f"joint_{i + 1}" for i in range(action_dim)]
    dims: list[dict[str, Any]] = [
        {"name": name, "unit": "rad", "limits": [-2.0, 2.0], "reference": f"joints.{name}"} for name in joints
    ]
    if gripper:
        dims[-1] = {"name": joints[-1], "unit": "m", "limits": [0.0, 0.04], "kind": "binary"}
    return Contract.from_dict(
        {
            "name": f"arm{action_dim}",
            "rate_hz": 10.0,
            "command_rate_hz": 20.0,
            "cameras": {
                "front": {"topic": "/front", "width": 48, "height": 48},
                "side": {"topic": "/side", "width": 40, "height": 30},
            },
            "state": {"joints": {"topic": "/js", "type": "sensor_msgs/msg/JointState", "dims": joints, "unit": "rad"}},
            "commands": {"arm": {"topic": "/cmd", "type": "sensor_msgs/msg/JointState", "dims": dims}},
        }
    )


def small_policy(action_dim: int = 4, seed: int = 0, **settings: Any) -> tuple[ActionTokenPolicy, ActionTokenProcessor]:
    """A policy on a very small vision-language model, with random weights and action tokens that have moved."""
    vlm, backbone = small_vlm(seed)
    contract = arm_contract(action_dim)
    config = ActionTokenConfig(
        vlm_config=vlm.config,
        contract=contract.to_dict(),
        **{"cameras": ["front"], "state": list(contract.state_names), "chunk_size": 5, "head": {}, **settings},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        policy = ActionTokenPolicy.from_vlm(vlm, config).eval()
        if policy.action_token is not None:
            torch.nn.init.normal_(policy.action_token)
    return policy, ActionTokenProcessor(config, backbone)


def processor_for(contract: Contract) -> ActionTokenProcessor:
    """A processor that looks at all cameras and all state of a contract."""
    words = build_processor(SMALL)
    config = ActionTokenConfig(
        vlm_config=build_model(SMALL, words).config,
        contract=contract.to_dict(),
        cameras=[camera.name for camera in contract.cameras],
        state=list(contract.state_names),
        head={},
    )
    return ActionTokenProcessor(config, words)


def observation(
    contract: Contract, instruction: str = "reach the red block", seed: int = 0, stamp_ns: int = 1_000_000_000
) -> Observation:
    """A random observation that fits the contract."""
    rng = np.random.default_rng(seed)
    images = {c.name: rng.integers(0, 256, (c.height, c.width, 3), dtype=np.uint8) for c in contract.cameras}
    state = rng.normal(0, 0.3, len(contract.state_names)).astype(np.float32)
    return Observation(stamp_ns=stamp_ns, images=images, state=state, instruction=instruction)
