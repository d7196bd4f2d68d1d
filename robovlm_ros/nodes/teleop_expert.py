"""The scripted expert of the simulator in a person's place: for trying out, and for interventions without a person."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from visualization_msgs.msg import MarkerArray

from robovlm_ros import messages
from robovlm_ros.cli.session import joint_source, tool_source
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.nodes.instruction import hear_instructions
from robovlm_ros.nodes.intervention import LATCHED
from robovlm_ros.sim.expert import as_action
from robovlm_ros.sim.manipulation import Expert as TaskExpert
from robovlm_ros.sim.measure import Moment
from robovlm_ros.sim.model import GRIPPER_JOINT
from robovlm_ros.sim.tasks import Block, Pad, parse_order
from robovlm_ros.sim.truth import blocks_of, pads_of


class Expert:
    """Knows from the simulator's truth how the instruction is followed."""

    def __init__(self, node: Node, contract: Contract) -> None:
        """UserError if the contract is not one of the simulator that this expert knows."""
        if contract.simulator != "mujoco":
            raise UserError(f"input 'expert': contract '{contract.name}' names no simulator (simulator: mujoco)")
        as_action(contract, np.zeros(4))
        self._contract = contract
        self._expert = TaskExpert(np.random.default_rng(0))
        self._blocks: tuple[Block, ...] = ()
        self._pads: tuple[Pad, ...] = ()
        self._tool: NDArray[np.float64] | None = None
        self._opening = 0.0
        self._instruction = ""
        self.reason = ""
        """Why it does nothing."""
        tool = tool_source(contract)
        kind = messages.message_class(tool.type)
        node.create_subscription(kind, tool.topic, lambda m: self._see(messages.state_values(m, tool)), 10)
        joints = joint_source(contract)
        if GRIPPER_JOINT in joints.dims:
            place, kind = joints.dims.index(GRIPPER_JOINT), messages.message_class(joints.type)
            node.create_subscription(
                kind, joints.topic, lambda m: self._feel(float(messages.state_values(m, joints)[place])), 10
            )
        node.create_subscription(MarkerArray, "/sim_node/blocks", self._on_blocks, LATCHED)
        hear_instructions(node, contract, self._on_instruction)

    def act(self) -> NDArray[np.float64] | None:
        """(action_dim,) what to command now; None: nothing, with the reason."""
        tool, blocks, instruction = self._tool, self._blocks, self._instruction
        if tool is None or not blocks or not instruction:
            missing = "instruction" if not instruction else "simulator"
            self.reason = f"the expert waits for the {missing}"
            return None
        try:
            moment = Moment(tool=tool, opening=self._opening, blocks=blocks, pads=self._pads)
            action = as_action(self._contract, self._expert.act(moment, parse_order(instruction)))
        except UserError as error:
            self.reason = str(error)
            return None
        self.reason = ""
        return action

    def _see(self, values: NDArray[np.float64]) -> None:
        self._tool = values[:3]

    def _feel(self, opening: float) -> None:
        self._opening = opening

    def _on_blocks(self, message: Any) -> None:
        self._blocks, self._pads = blocks_of(message), pads_of(message)

    def _on_instruction(self, message: Any, _latched: bool) -> None:
        self._instruction = messages.instruction(message)
