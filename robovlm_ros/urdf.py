"""What a URDF says of a robot's joints: how they hang together, and how far and fast they may move.

Shapes, meshes and masses are not read. A URDF is at https://wiki.ros.org/urdf/XML; lengths in m, angles in rad.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from robovlm_ros.errors import UserError

MOVING = ("revolute", "continuous", "prismatic")
"""Kinds of joints with one axis to move along or about."""


@dataclass(frozen=True, kw_only=True)
class Mimic:
    """A joint that follows another one: position = multiplier * that of `joint` + offset."""

    joint: str
    multiplier: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Joint:
    """One joint: where its child stands in its parent, and how it moves."""

    name: str
    kind: str
    """fixed, one of MOVING, or what else the file says."""
    parent: str
    child: str
    xyz: tuple[float, float, float]
    """Origin of the child in the parent [m]."""
    rpy: tuple[float, float, float]
    """Turn of the child in the parent: about the fixed x, then y, then z axis [rad]."""
    axis: tuple[float, float, float]
    """Axis of motion in the child."""
    lower: float
    upper: float
    """Smallest and largest position [rad or m]; infinite for continuous joints."""
    velocity: float
    """Largest speed [rad/s or m/s]; infinite where the file says none, or 0."""
    effort: float
    """Largest torque or force [N m or N]; infinite where the file says none, or 0."""
    mimic: Mimic | None = None
    damping: float = 0.0
    """Viscous friction [N m s/rad or N s/m]."""
    friction: float = 0.0
    """Static friction [N m or N]."""

    @property
    def moves(self) -> bool:
        """Whether it has a position of its own, which no other joint decides."""
        return self.kind in MOVING and self.mimic is None


class Urdf:
    """The joints of one robot."""

    def __init__(self, text: str, where: str = "URDF") -> None:
        """UserError, beginning with `where`, if the text is no URDF whose links form one tree."""
        try:
            root = ElementTree.fromstring(text)
        except ElementTree.ParseError as error:
            raise UserError(f"{where} is no XML: {error}") from error
        if root.tag != "robot":
            raise UserError(f"{where}: its outermost element is <{root.tag}>, not <robot>")
        if any("{http://www.ros.org/wiki/xacro}" in f"{item.tag}" for item in root.iter()):
            raise UserError(f"{where} is a xacro file: make a URDF of it with `xacro FILE > arm.urdf`")
        self.name = root.get("name", "robot")
        """Name of the robot."""
        self.text = text
        """The file itself."""
        self.links = tuple(link.get("name", "") for link in root.findall("link"))
        """Names of all links."""
        self.joints = {joint.name: joint for joint in _joints(root, where)}
        """All joints by name, in the order of the file."""
        self._above = {joint.child: joint for joint in self.joints.values()}
        ends = [end for joint in self.joints.values() for end in (joint.parent, joint.child)]
        unknown = [end for end in ends if end not in self.links]
        if unknown:
            raise UserError(f"{where}: a joint names the link '{unknown[0]}', which is not there")
        roots = [link for link in self.links if link not in self._above]
        if len(roots) != 1 or len(self._above) != len(self.joints):
            raise UserError(f"{where}: its links form no tree (roots: {', '.join(roots) or 'none'})")
        self.root = roots[0]
        """The link that is no joint's child."""

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Urdf:
        """Read a file; UserError if it cannot be read, or is none."""
        try:
            return cls(Path(path).expanduser().read_text(encoding="utf-8"), f"URDF {path}")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"URDF {path} cannot be read: {error}") from error

    def chain(self, base: str, tool: str) -> tuple[Joint, ...]:
        """The joints from link `base` to link `tool`; UserError if there is no such way."""
        for link in (base, tool):
            if link not in self.links:
                raise UserError(f"the URDF of '{self.name}' has no link '{link}' (links: {', '.join(self.links)})")
        way: list[Joint] = []
        link = tool
        while link != base:
            if link not in self._above:
                raise UserError(f"the URDF of '{self.name}' leads no way from link '{base}' to link '{tool}'")
            way.append(self._above[link])
            link = way[-1].parent
        return tuple(reversed(way))

    def followers(self, name: str) -> tuple[Joint, ...]:
        """The joints that follow that one."""
        return tuple(joint for joint in self.joints.values() if joint.mimic and joint.mimic.joint == name)


def rotation_of(rpy: tuple[float, float, float]) -> NDArray[np.float64]:
    """(4,) unit quaternion (x, y, z, w) of a turn about the fixed x, y and z axes in this order [rad].

    The product of the three half-angle quaternions q_z q_y q_x, written out.
    """
    (cr, cp, cy), (sr, sp, sy) = ([f(angle / 2) for angle in rpy] for f in (math.cos, math.sin))
    return np.array(
        [
            sr * cp * cy - cr * sp * sy,
            cr * sp * cy + sr * cp * sy,
            cr * cp * sy - sr * sp * cy,
            cr * cp * cy + sr * sp * sy,
        ]
    )


def _joints(root: ElementTree.Element, where: str) -> Iterator[Joint]:
    for item in root.findall("joint"):
        name, kind = item.get("name", ""), item.get("type", "")
        place = f"{where}: joint '{name}'"
        limit, mimic, dynamics = item.find("limit"), item.find("mimic"), item.find("dynamics")
        if limit is None and kind in ("revolute", "prismatic") and mimic is None:
            raise UserError(f"{place} has no <limit>, which a {kind} joint needs")
        bounded = limit is not None and kind in ("revolute", "prismatic")
        yield Joint(
            name=name,
            kind=kind,
            parent=_link(item, "parent", place),
            child=_link(item, "child", place),
            xyz=_three(item.find("origin"), "xyz", (0.0, 0.0, 0.0), place),
            rpy=_three(item.find("origin"), "rpy", (0.0, 0.0, 0.0), place),
            axis=_three(item.find("axis"), "xyz", (1.0, 0.0, 0.0), place),
            lower=_number(limit, "lower", 0.0, place) if bounded else -math.inf,
            upper=_number(limit, "upper", 0.0, place) if bounded else math.inf,
            velocity=_number(limit, "velocity", 0.0, place) or math.inf,
            effort=_number(limit, "effort", 0.0, place) or math.inf,
            mimic=None
            if mimic is None
            else Mimic(
                joint=mimic.get("joint", ""),
                multiplier=_number(mimic, "multiplier", 1.0, place),
                offset=_number(mimic, "offset", 0.0, place),
            ),
            damping=_number(dynamics, "damping", 0.0, place),
            friction=_number(dynamics, "friction", 0.0, place),
        )


def _link(item: ElementTree.Element, which: str, place: str) -> str:
    found = item.find(which)
    if found is None or not found.get("link"):
        raise UserError(f"{place} names no {which} link")
    return found.get("link", "")


def _number(item: ElementTree.Element | None, key: str, default: float, place: str) -> float:
    text = None if item is None else item.get(key)
    try:
        value = default if text is None else float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{place}: {key} is '{text}', no number")
    return value


def _three(
    item: ElementTree.Element | None, key: str, default: tuple[float, float, float], place: str
) -> tuple[float, float, float]:
    text = None if item is None else item.get(key)
    if text is None:
        return default
    try:
        x, y, z = (float(part) for part in text.split())
    except ValueError as error:
        raise UserError(f"{place}: {key} is '{text}', not three numbers") from error
    return x, y, z
