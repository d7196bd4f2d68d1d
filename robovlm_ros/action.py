"""Action chunks, and the relation between what the policy decides and what is sent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robovlm_ros import rotation
from robovlm_ros.contract import Contract, ToolFrame


@dataclass(frozen=True, kw_only=True)
class ActionChunk:
    """Actions for the next steps, each with the time at which it is due."""

    actions: NDArray[np.float64]
    """(chunk_size, action_dim) absolute values in the contract's units; binary dimensions are 0 or 1."""
    due_ns: NDArray[np.int64]
    """(chunk_size,) when each action is to be in force [ns], increasing: observation stamp + i x step."""
    instruction: str
    """The instruction that this chunk follows."""


def to_absolute(contract: Contract, relative: NDArray[np.floating], state: NDArray[np.floating]) -> NDArray[np.float64]:
    """Policy actions (..., action_dim) to values to send, given the state (..., state_dim) they were decided in.

    Inverse of `to_relative`, with the sign of a quaternion nearer to that of the tool: q and -q are one orientation.
    A policy's four numbers are no unit quaternion, and are made one; four zeros keep the tool's orientation. What is
    not finite stays so, for safety to refuse.
    """
    absolute = np.asarray(relative, np.float64) + _offset(contract, state)  # (..., action_dim)
    for frame in contract.tool_frames:
        p, q = _tool(frame, state)  # (..., 3), (..., 4)
        absolute[..., frame.position] = rotation.rotate(q, absolute[..., frame.position]) + p
        if len(frame.orientation):
            turn = rotation.short_way(_turn(absolute[..., frame.orientation], rotation.IDENTITY))  # (..., 4)
            absolute[..., frame.orientation] = rotation.multiply(q, turn)
    return absolute


def to_relative(contract: Contract, absolute: NDArray[np.floating], state: NDArray[np.floating]) -> NDArray[np.float64]:
    """Sent values (..., action_dim) to what the policy must decide, given the state (..., state_dim) it decides in.

    With a reference, the difference to it. Relative to a tool frame (position p, unit quaternion q), the pose in the
    tool's own axes: p' = R(q)^T (p_cmd - p) and q' = q^-1 q_cmd with w >= 0, the composition of T_tool^-1 and T_cmd
    (Lynch and Park 2017, "Modern Robotics", section 3.3.1). Four zeros as q_cmd are the tool's own orientation; a tool
    without an orientation gives NaN. Other actions are absolute.
    """
    relative = np.asarray(absolute, np.float64) - _offset(contract, state)  # (..., action_dim)
    for frame in contract.tool_frames:
        p, q = _tool(frame, state)  # (..., 3), (..., 4)
        back = rotation.conjugate(q)
        relative[..., frame.position] = rotation.rotate(back, relative[..., frame.position] - p)
        if len(frame.orientation):
            wanted = _turn(relative[..., frame.orientation], q)  # (..., 4)
            relative[..., frame.orientation] = rotation.short_way(rotation.multiply(back, wanted))
    return relative


def _tool(frame: ToolFrame, state: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(..., 3) position and (..., 4) unit quaternion of the tool."""
    values = np.asarray(state, np.float64)
    return values[..., frame.tool_position], rotation.unit(values[..., frame.tool_orientation])


def _turn(q: NDArray[np.float64], when_zero: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 4) unit quaternions of any four numbers; another one in place of four zeros."""
    return rotation.unit(np.where((q == 0).all(-1, keepdims=True), when_zero, q))


def _offset(contract: Contract, state: NDArray[np.floating]) -> NDArray[np.float64]:
    """(..., action_dim) the state value that each action is relative to, 0 for absolute ones."""
    state = np.asarray(state, np.float64)
    index = contract.reference_index
    padded = np.concatenate([state, np.zeros((*state.shape[:-1], 1))], axis=-1)  # (..., state_dim + 1)
    offset: NDArray[np.float64] = padded[..., index]  # (..., action_dim); index -1 takes the zero
    return offset
