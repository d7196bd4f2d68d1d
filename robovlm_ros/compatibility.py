"""Whether a policy that was trained with one contract may drive a robot that another contract describes."""

from __future__ import annotations

from typing import Any

from robovlm_ros.contract import Contract


def differences(trained: Contract, given: Contract) -> list[str]:
    """What differs in the things that a policy has learned, as ``name: trained, given``; empty: it may drive.

    Topics, frames, command rate, limits and ages may differ: they are the business of the robot at hand, not of
    the policy.
    """
    one, other = _learned(trained), _learned(given)
    names = list(dict.fromkeys((*one, *other)))
    return [
        f"{name}: trained with {one.get(name, 'none')}, given {other.get(name, 'none')}"
        for name in names
        if one.get(name) != other.get(name)
    ]


def _learned(contract: Contract) -> dict[str, Any]:
    facts: dict[str, Any] = {"rate_hz": float(contract.rate_hz)}
    for camera in contract.cameras:
        facts[f"camera '{camera.name}'"] = f"{camera.width}x{camera.height}"
    facts["state"] = ", ".join(contract.state_names)
    for source in contract.state:
        facts[f"unit of state '{source.name}'"] = source.unit
    facts["actions"] = ", ".join(contract.action_names)
    for dim, relation in zip(contract.action_dims, contract.relations, strict=True):
        unit = "0 or 1" if dim.kind == "binary" else dim.unit
        facts[f"action '{dim.name}'"] = f"{dim.kind} [{unit}], relative to {relation or 'nothing'}"
    return facts
