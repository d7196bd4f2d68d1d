"""A URDF as an SDF model: links, joints, primitive shapes and colours, with every frame of the URDF by its name.

libsdformat converts URDF, too, but lumps fixed links together and forgets their frames and colours by rules that differ
between its versions. SDF is described at http://sdformat.org/spec; this writes version 1.9, which all users here read.
"""

from __future__ import annotations

import math
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from robovlm_ros import rotation
from robovlm_ros.errors import UserError
from robovlm_ros.urdf import Joint, Urdf, rotation_of

Element = ElementTree.Element


def add(parent: Element, tag: str, text: object = None, **attributes: str) -> Element:
    """A child element; numbers and sequences of numbers become text."""
    child = ElementTree.SubElement(parent, tag, attributes)
    if isinstance(text, bool):
        child.text = "true" if text else "false"
    elif isinstance(text, (tuple, list, np.ndarray)):
        child.text = " ".join(f"{float(value):.9g}" for value in text)
    elif isinstance(text, float):
        child.text = f"{text:.9g}"
    elif text is not None:
        child.text = str(text)
    return child


def add_material(visual: Element, rgb: tuple[float, float, float]) -> None:
    """A dull surface that looks of this colour: Gazebo shades linear light, and its cameras encode it as sRGB."""
    material = add(visual, "material")
    colour = [*(linear(value) for value in rgb), 1.0]
    add(material, "ambient", colour)
    add(material, "diffuse", colour)
    add(material, "specular", [0.0, 0.0, 0.0, 1.0])


def linear(value: float) -> float:
    """Linear light of an sRGB value in 0..1 (IEC 61966-2-1)."""
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def add_arm(world: Element, urdf: Urdf, name: str) -> Element:
    """Add a URDF to a world as a model that stands on its origin; the model."""
    source = ElementTree.fromstring(urdf.text)
    model = add(world, "model", name=name)
    fixed = add(model, "joint", name="stand", type="fixed")
    add(fixed, "parent", "world")
    add(fixed, "child", urdf.root)
    above = {joint.child: joint for joint in urdf.joints.values()}
    links: dict[str, Element] = {}
    for part in source.findall("link"):
        link = part.get("name", "")
        joint = above.get(link)
        if part.find("inertial") is None:  # a frame only: it belongs to the link that it is fixed to
            if joint is None or joint.kind != "fixed":
                raise UserError(f"link '{link}' moves and has no <inertial>, which Gazebo needs")
            frame = add(model, "frame", name=link, attached_to=joint.parent)
            add(frame, "pose", _pose(joint), relative_to=joint.parent)
        else:
            links[link] = add(model, "link", name=link)
            if joint is not None:
                add(links[link], "pose", relative_to=joint.name)
            _add_inertia(links[link], part)
            add(links[link], "gravity", False)  # a robot's controller compensates it
    colours = {
        item.get("name", ""): _numbers(item, "color", "rgba", [0.5] * 4)[:3] for item in source.findall("material")
    }
    for part in source.findall("link"):
        _add_shapes(links, part, *place_in_link(urdf, part.get("name", ""), set(links)), colours)
    for joint in urdf.joints.values():
        if joint.child in links:
            _add_joint(model, joint)
    return model


def place_in_link(urdf: Urdf, frame: str, links: set[str]) -> tuple[str, NDArray[np.float64], NDArray[np.float64]]:
    """The first of `links` above a frame, and position (3,) and orientation (4,) of the frame in it."""
    above = {joint.child: joint for joint in urdf.joints.values()}
    position: NDArray[np.float64] = np.zeros(3)
    turn: NDArray[np.float64] = rotation.IDENTITY
    while frame not in links:
        joint = above[frame]
        own = rotation_of(joint.rpy)
        position = np.array(joint.xyz) + rotation.rotate(own, position)
        turn = rotation.multiply(own, turn)
        frame = joint.parent
    return frame, position, turn


def angles_of(q: NDArray[np.float64]) -> tuple[float, float, float]:
    """The turn about the fixed x, then y, then z axis that a unit quaternion is [rad]; inverse of `rotation_of`."""
    x, y, z, w = q
    pitch = math.asin(max(-1.0, min(1.0, 2 * (w * y - z * x))))
    if abs(abs(pitch) - math.pi / 2) < 1e-6:  # x and z turn about one axis: leave it to x
        return 2 * math.atan2(float(x), float(w)), pitch, 0.0
    roll = math.atan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y))
    return roll, pitch, math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def _pose(joint: Joint) -> list[float]:
    return [*joint.xyz, *joint.rpy]


def _numbers(item: Element | None, tag: str, key: str, default: list[float]) -> list[float]:
    found = None if item is None else item.find(tag)
    text = None if found is None else found.get(key)
    return default if text is None else [float(part) for part in text.split()]


def _add_inertia(link: Element, part: Element) -> None:
    source = part.find("inertial")
    inertial = add(link, "inertial")
    add(
        inertial, "pose", [*_numbers(source, "origin", "xyz", [0.0] * 3), *_numbers(source, "origin", "rpy", [0.0] * 3)]
    )
    add(inertial, "mass", _numbers(source, "mass", "value", [0.0])[0])
    inertia = add(inertial, "inertia")
    for key in ("ixx", "ixy", "ixz", "iyy", "iyz", "izz"):
        add(inertia, key, _numbers(source, "inertia", key, [0.0])[0])


def _add_shapes(
    links: dict[str, Element],
    part: Element,
    link: str,
    position: NDArray[np.float64],
    turn: NDArray[np.float64],
    colours: dict[str, list[float]],
) -> None:
    """The shapes of a URDF link, on the SDF link that carries them."""
    for kind in ("collision", "visual"):
        for number, source in enumerate(part.findall(kind)):
            shape = add(links[link], kind, name=f"{part.get('name')}_{kind}_{number}")
            place = position + rotation.rotate(turn, np.array(_numbers(source, "origin", "xyz", [0.0] * 3)))
            r, p, y = _numbers(source, "origin", "rpy", [0.0] * 3)
            add(shape, "pose", [*place, *angles_of(rotation.multiply(turn, rotation_of((r, p, y))))])
            _add_geometry(shape, source, part.get("name", ""))
            if kind == "visual":
                named = source.find("material")
                r, g, b = colours.get("" if named is None else named.get("name", ""), [0.5] * 3)
                add_material(shape, (r, g, b))
            else:
                add_friction(shape, 1.0)


def add_friction(collision: Element, mu: float) -> None:
    """Friction of a surface, alike in both directions."""
    ode = add(add(add(collision, "surface"), "friction"), "ode")
    add(ode, "mu", mu)
    add(ode, "mu2", mu)


def _add_geometry(shape: Element, source: Element, link: str) -> None:
    geometry = add(shape, "geometry")
    box, cylinder = source.find("geometry/box"), source.find("geometry/cylinder")
    if box is not None:
        add(add(geometry, "box"), "size", [float(part) for part in box.get("size", "").split()])
    elif cylinder is not None:
        one = add(geometry, "cylinder")
        add(one, "radius", float(cylinder.get("radius", "")))
        add(one, "length", float(cylinder.get("length", "")))
    else:
        raise UserError(f"link '{link}' has a shape that is neither a box nor a cylinder")


def _add_joint(model: Element, source: Joint) -> None:
    joint = add(model, "joint", name=source.name, type=source.kind)
    add(joint, "pose", _pose(source), relative_to=source.parent)
    add(joint, "parent", source.parent)
    add(joint, "child", source.child)
    if source.kind == "fixed":
        return
    axis = add(joint, "axis")
    add(axis, "xyz", source.axis)
    limit = add(axis, "limit")
    for key, value in (("lower", source.lower), ("upper", source.upper)):
        add(limit, key, value if math.isfinite(value) else math.copysign(1e16, value))
    for key, value in (("effort", source.effort), ("velocity", source.velocity)):
        if math.isfinite(value):
            add(limit, key, value)
    dynamics = add(axis, "dynamics")
    add(dynamics, "damping", source.damping)
    add(dynamics, "friction", source.friction)
