"""Message definitions: the text that goes into a bag, and deserialisation of what comes out of it."""

from __future__ import annotations

import functools
import io
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from robovlm_ros.errors import UserError
from robovlm_ros.images import COMPRESSED_FORMATS


@dataclass(frozen=True)
class Definition:
    """What a bag says about a message type."""

    text: str
    """Full definition in ROS 2's msg format, with those of all types it contains."""
    type_hash: str
    """RIHS01 hash of the type."""
    stamped: bool
    """Messages begin with a ``std_msgs/Header``."""


@functools.lru_cache(maxsize=1)
def _typestore() -> Typestore:
    return get_typestore(Stores.ROS2_JAZZY)


@functools.cache
def definition(type_name: str) -> Definition:
    """Of ``package/msg/Name``: one of ROS 2's common types, or one installed in the sourced workspace.

    UserError if it is neither.
    """
    store = _typestore()
    if type_name not in store.fielddefs:
        _register_installed(type_name)
    text = store.generate_msgdef(type_name, ros_version=2)[0]
    return Definition(
        text=text,
        type_hash=store.hash_rihs01(type_name),
        stamped=is_stamped(text),
    )


def is_stamped(text: str) -> bool:
    """Whether messages of this definition begin with a header."""
    return text.lstrip().startswith(("std_msgs/Header ", "std_msgs/msg/Header "))


def deserialize(data: bytes | memoryview, type_name: str, text: str = "") -> Any:
    """CDR bytes to a message object; ``text`` defines a type that is not known yet (schema of a bag).

    UserError if the bytes are not such a message or the type is unknown.
    """
    store = _typestore()
    if type_name not in store.fielddefs:
        if text:
            _register(type_name, text)
        else:
            _register_installed(type_name)
    try:
        return store.deserialize_cdr(memoryview(data), type_name)  # slicing it copies nothing
    except Exception as error:  # the generated code raises whatever broken bytes lead it to
        raise UserError(f"{len(data)} bytes are not a {type_name}: {error}") from error


def blank(type_name: str) -> Any:
    """An empty message of a type, to be filled and serialised where there is no ROS; a trajectory has one point."""
    store = _typestore()
    if type_name not in store.fielddefs:
        _register_installed(type_name)
    values: dict[str, Any] = {}
    for name, (kind, detail) in _fields(type_name):
        if kind == Nodetype.NAME:
            values[name] = blank(str(detail))
        elif kind == Nodetype.BASE:
            values[name] = "" if detail[0] == "string" else False if detail[0] == "bool" else 0
        else:
            (inner, element), length = detail
            is_list = inner == Nodetype.NAME or element[0] == "string"
            values[name] = [] if is_list else np.zeros(length if kind == Nodetype.ARRAY else 0, element[0])
    if type_name == "trajectory_msgs/msg/JointTrajectory":
        values["points"] = [blank("trajectory_msgs/msg/JointTrajectoryPoint")]
    return store.types[type_name](**values)


def serialize(message: Any) -> memoryview:
    """CDR bytes of a message that `blank` made; lists of numbers may stand where the type has arrays."""
    _lists_to_arrays(message)
    return _typestore().serialize_cdr(message, message.__msgtype__)


def _fields(type_name: str) -> list[tuple[str, tuple[Nodetype, Any]]]:
    """Name and type of each field; what describes a type depends on its kind."""
    fields: list[tuple[str, tuple[Nodetype, Any]]] = _typestore().fielddefs[type_name][1]  # type: ignore[assignment]
    return fields


def _lists_to_arrays(message: Any) -> None:
    for name, (kind, detail) in _fields(message.__msgtype__):
        value = getattr(message, name)
        if kind == Nodetype.NAME:
            _lists_to_arrays(value)
        elif kind != Nodetype.BASE:
            (inner, element), _ = detail
            if inner == Nodetype.NAME:
                for item in value:
                    _lists_to_arrays(item)
            elif element[0] != "string" and not isinstance(value, np.ndarray):
                setattr(message, name, np.array(value, element[0]))


def header_stamp_ns(data: bytes | memoryview) -> int | None:
    """Header stamp [ns] of the CDR bytes of a stamped message; None if it is not set, or no time at all."""
    if len(data) < 12:
        return None
    sec, nanosec = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
    return int(sec) * 1_000_000_000 + int(nanosec) if sec >= 0 and (sec or nanosec) else None


def image_size(data: bytes, type_name: str) -> tuple[int, int] | None:
    """(width, height) [px] of the CDR bytes of an ``Image`` or ``CompressedImage``; None if they tell none.

    Nothing is decoded but what stands before the pixels: this may look at every image that passes.
    """
    order = "<" if len(data) > 1 and data[1] & 1 else ">"
    try:
        place = _after_text(data, 12, order)  # 4 bytes of CDR header, 8 of the stamp, then frame_id
        if type_name == "sensor_msgs/msg/Image":
            height, width = struct.unpack_from(f"{order}II", data, place)
            return (width, height) if width and height else None
        place = _after_text(data, place, order)  # format
    except struct.error:
        return None
    from PIL import Image, UnidentifiedImageError  # only where compressed images are recorded

    try:
        with Image.open(io.BytesIO(data[place + 4 :]), formats=COMPRESSED_FORMATS) as image:
            return image.width, image.height
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError):
        return None


def _after_text(data: bytes, place: int, order: str) -> int:
    """Where the 4-byte number behind a CDR text lies that begins at ``place``; alignment counts from byte 4."""
    (length,) = struct.unpack_from(f"{order}I", data, place)
    return place + 4 + int(length) + -int(length) % 4


def _register(type_name: str, text: str) -> None:
    types = get_types_from_msg(text, type_name)
    known = _typestore().fielddefs
    _typestore().register({name: fields for name, fields in types.items() if name not in known})


def _register_installed(type_name: str) -> None:
    """Read a definition from the share folders of a sourced ROS 2 workspace, with those it contains."""
    package, _, name = type_name.partition("/msg/")
    prefixes = [Path(prefix) for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    for prefix in prefixes:
        path = prefix / "share" / package / "msg" / f"{name}.msg"
        if name and path.is_file():
            text = path.read_text(encoding="utf-8")
            for part in _contained(text, package):
                if part not in _typestore().fielddefs:
                    _register_installed(part)
            _register(type_name, text)
            return
    raise UserError(f"message type '{type_name}' has no definition here: source the workspace that has it")


def _contained(text: str, package: str) -> list[str]:
    """Names of the message types that a definition's fields have."""
    found = []
    for line in text.splitlines():
        kind = line.split("#")[0].strip().split(" ")[0].split("[")[0].split("<")[0]
        if kind and kind[:1].isupper():
            found.append(f"std_msgs/msg/{kind}" if kind == "Header" else f"{package}/msg/{kind}")
        elif "/" in kind:
            found.append(kind if "/msg/" in kind else kind.replace("/", "/msg/"))
    return found
