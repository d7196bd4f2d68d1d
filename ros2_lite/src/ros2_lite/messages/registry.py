"""Where interface definitions are found, and the cache of what was read from them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from ros2_lite import select
from ros2_lite.messages.spec import (
    InterfaceError,
    MessageSpec,
    action_specs,
    parse_action,
    parse_message,
    parse_service,
)
from ros2_lite.messages.typehash import action_spec, service_spec, type_hash

INTERFACES = Path(__file__).resolve().parent.parent / "interfaces"


def packages() -> tuple[str, ...]:
    """The names of the interface packages, the embedded ones and the user's own, sorted."""
    return tuple(sorted({*select.INTERFACE_PACKAGES, *select.own_packages()}))


def folder_of(package: str) -> Path:
    """The folder that holds a package's ``msg``, ``srv`` and ``action``."""
    if package in select.INTERFACE_PACKAGES:
        return INTERFACES / package
    return Path(select.own_packages().get(package) or INTERFACES / package)


def names(package: str, kind: str) -> tuple[str, ...]:
    """Bare names of a package's interfaces of one kind (``msg``, ``srv``, ``action``), sorted; empty if it has none."""
    folder = folder_of(package) / kind
    if not folder.is_dir():
        return ()
    return tuple(sorted(path.stem for path in folder.glob(f"*.{kind}")))


def text_of(package: str, kind: str, name: str) -> str:
    """The text of a definition.  InterfaceError when there is none, with those that there are."""
    path = folder_of(package) / kind / f"{name}.{kind}"
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if package not in packages():
            raise InterfaceError(
                f"there is no interface package '{package}' for '{package}/{kind}/{name}'; there are:"
                f" {', '.join(packages())}; folders with more are named by ROS2_LITE_INTERFACES"
            ) from None
        choices = ", ".join(names(package, kind)) or "none of that kind"
        raise InterfaceError(f"there is no interface '{package}/{kind}/{name}'; {package} has: {choices}") from None


@cache
def service(package: str, name: str) -> tuple[MessageSpec, MessageSpec]:
    """Request and response of a service."""
    return parse_service(f"{package}/srv/{name}", text_of(package, "srv", name))


@cache
def action(package: str, name: str) -> dict[str, MessageSpec]:
    """All messages of an action by their full names."""
    full_name = f"{package}/action/{name}"
    return action_specs(full_name, *parse_action(full_name, text_of(package, "action", name)))


@cache
def spec(full_name: str) -> MessageSpec:
    """The definition of ``package/msg/Name``, or of a part of a service (``..._Request``) or action (``..._Goal``)."""
    package, kind, name = full_name.split("/")
    if kind == "msg":
        return parse_message(full_name, text_of(package, "msg", name))
    if name.endswith("_Event"):
        return service_spec(full_name[: -len("_Event")])[1]
    if _is_service(kind, name):
        return service_spec(full_name)[0]
    stem, _, side = name.rpartition("_")
    if kind == "action":
        found = action(package, stem.removesuffix("_SendGoal").removesuffix("_GetResult")).get(full_name)
        if found is not None:
            return found
    elif side in ("Request", "Response"):
        return service(package, stem)[0 if side == "Request" else 1]
    raise InterfaceError(f"'{full_name}' names no message")


def description_spec(full_name: str) -> MessageSpec:
    """What a type's hash is made from: a message, or a whole service or action given as ``package/srv/Name``."""
    parts = full_name.split("/")
    if len(parts) != 3:
        raise InterfaceError(f"'{full_name}' is no name of an interface, such as std_msgs/msg/String")
    _, kind, name = parts
    return action_spec(full_name) if kind == "action" and "_" not in name else spec(full_name)


def _is_service(kind: str, name: str) -> bool:
    if kind == "action":
        return name.endswith(("_SendGoal", "_GetResult"))
    return kind == "srv" and not name.endswith(("_Request", "_Response", "_Event"))


def source_of(full_name: str) -> tuple[str, str]:
    """The kind (``msg``, ``srv``, ``action``, ``implicit``) and the text that a type was made from."""
    package, kind, name = full_name.split("/")
    return ("implicit", "") if kind != "msg" and "_" in name else (kind, text_of(package, kind, name))


@cache
def hash_of(full_name: str) -> str:
    """RIHS01 hash of a message, or of a whole service or action given as ``package/srv/Name``."""
    return type_hash(description_spec(full_name), spec)
