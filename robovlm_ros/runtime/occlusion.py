"""Which places of an image an action depends on: cover one after the other, and see how far the action moves."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from robovlm_ros.action import to_relative
from robovlm_ros.errors import UserError
from robovlm_ros.observation import Observation
from robovlm_ros.runtime.engine import PolicyEngine


def occlude(engine: PolicyEngine, observation: Observation, camera: str, cells: int) -> NDArray[np.float64]:
    """(cells, cells) mean absolute change of the chunk when that part of a camera's image shows its mean colour.

    Occlusion sensitivity of Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks" (2014), section
    4.2, of actions instead of a class. Attention says what could have been read; this says what made a difference.
    Changes are in normalised units, as the policy learned them, so that dimensions of any unit count alike; where
    binary, it is the share of decisions that flipped. The engine decides from what it remembers, and remembers the
    same afterwards. UserError for a number of cells that does not fit into the image.
    """
    image = observation.images[camera]
    height, width = image.shape[:2]
    if not 1 <= cells <= min(height, width):
        raise UserError(f"camera '{camera}' has {width} x {height} px, which make no {cells} x {cells} parts")
    memory, scale = engine.memory, engine.processor.action_normaliser.scale  # (A,)

    def decide(seen: Observation) -> NDArray[np.float64]:
        engine.memory = memory
        actions = engine.infer(seen).actions  # (C, A)
        return to_relative(engine.processor.contract, actions, seen.state) / scale  # (C, A), as they are decided

    rows, columns = (
        np.linspace(0, height, cells + 1).round().astype(int),
        np.linspace(0, width, cells + 1).round().astype(int),
    )
    mean = image.mean((0, 1)).round().astype(np.uint8)  # (3,)
    found = np.zeros((cells, cells))
    try:
        plain = decide(observation)
        for row, column in itertools.product(range(cells), repeat=2):
            covered = image.copy()
            covered[rows[row] : rows[row + 1], columns[column] : columns[column + 1]] = mean
            images = {**observation.images, camera: covered}
            found[row, column] = np.abs(decide(replace(observation, images=images)) - plain).mean()
    finally:
        engine.memory = memory
    return found
