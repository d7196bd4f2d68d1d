"""Action chunks, and the relation between what the policy decides and what is sent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robovlm_ros.contract import Contract


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
    """Policy actions (..., action_dim) to values to send, given the state (..., state_dim) they were decided in."""
    return np.asarray(relative, np.float64) + _offset(contract, state)


def to_relative(contract: Contract, absolute: NDArray[np.floating], state: NDArray[np.floating]) -> NDArray[np.float64]:
    """Inverse of `to_absolute`: sent values (..., action_dim) to what the policy must decide."""
    return np.asarray(absolute, np.float64) - _offset(contract, state)


def _offset(contract: Contract, state: NDArray[np.floating]) -> NDArray[np.float64]:
    """(..., action_dim) the state value that each action is relative to, 0 for absolute ones."""
    state = np.asarray(state, np.float64)
    index = contract.reference_index
    padded = np.concatenate([state, np.zeros((*state.shape[:-1], 1))], axis=-1)  # (..., state_dim + 1)
    offset: NDArray[np.float64] = padded[..., index]  # (..., action_dim); index -1 takes the zero
    return offset
