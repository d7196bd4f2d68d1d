"""A robot that stands still, from a process of its own: its cameras and its state, for measurements of what follows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robovlm_ros.cli.traffic import Traffic
from robovlm_ros.contract import Contract, StateSource


@dataclass(frozen=True, kw_only=True)
class StillRobot(Traffic):
    """Everything that a contract's policy may look at, each source at its own rate, stamped when it is sent."""

    robot: str = "tabletop"
    """The contract: a YAML file or a shipped name."""
    state_hz: float = 100.0
    """Samples per second of each state source [Hz]."""

    def contract(self) -> Contract:
        """The robot that stands still."""
        return Contract.load(self.robot)

    def rates(self) -> dict[str, float]:
        """Topic → messages per second [Hz]: cameras at the contract's rate."""
        contract = self.contract()
        rates = {camera.topic: contract.rate_hz for camera in contract.cameras}
        return rates | {source.topic: self.state_hz for source in contract.state}

    def awaited(self) -> list[str]:
        """Topics that every policy listens to: of the cameras it may look at some only."""
        contract = self.contract()
        return [source.topic for source in contract.state] or [contract.cameras[0].topic]

    def state_values(self, source: StateSource) -> NDArray[np.float64]:
        """(len(source.dims),) where it stands: in the middle of what its commands may be, 0 where none says."""
        contract = self.contract()
        middles = {
            name: sum(dim.limits) / 2
            for name, dim in zip(contract.measured_by, contract.action_dims, strict=True)
            if name is not None and dim.kind != "binary"
        }
        return np.array([middles.get(f"{source.name}.{dim}", 0.0) for dim in source.dims])
