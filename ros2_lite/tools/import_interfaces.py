"""Write the .msg files of the embedded interface packages from the definitions that `rosbags` carries.

Run by hand when a ROS distribution changes a message: ``python tools/import_interfaces.py``.  Default values are
not part of those definitions, so they are listed here; services, actions and the package
example_interfaces are not either, and live as files of their own.
"""

from __future__ import annotations

from pathlib import Path

from ros2_lite.messages import registry
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_typestore

PACKAGES = {
    "action_msgs", "builtin_interfaces", "diagnostic_msgs", "geometry_msgs", "lifecycle_msgs", "nav_msgs",
    "rcl_interfaces", "rmw_dds_common", "rosgraph_msgs", "sensor_msgs", "service_msgs", "shape_msgs", "std_msgs",
    "stereo_msgs", "tf2_msgs", "trajectory_msgs", "type_description_interfaces", "unique_identifier_msgs",
    "visualization_msgs",
}  # fmt: skip
DEFAULTS = {
    ("geometry_msgs/msg/Quaternion", "x"): "0",
    ("geometry_msgs/msg/Quaternion", "y"): "0",
    ("geometry_msgs/msg/Quaternion", "z"): "0",
    ("geometry_msgs/msg/Quaternion", "w"): "1",
    ("sensor_msgs/msg/NavSatStatus", "status"): "-2",
    ("rcl_interfaces/msg/ParameterDescriptor", "read_only"): "false",
    ("rcl_interfaces/msg/ParameterDescriptor", "dynamic_typing"): "false",
}


def type_text(desc: tuple, package: str) -> str:  # type: ignore[type-arg]
    """One field's type as .msg text."""
    kind, args = desc
    if kind == Nodetype.BASE:
        name, bound = args
        return f"{name}<={bound}" if bound else name
    if kind == Nodetype.NAME:
        owner, _, name = args.split("/")
        return name if owner == package else f"{owner}/{name}"
    inner, size = args
    if kind == Nodetype.ARRAY:
        return f"{type_text(inner, package)}[{size}]"
    return f"{type_text(inner, package)}[<={size}]" if size else f"{type_text(inner, package)}[]"


def main() -> None:
    root = Path(__file__).resolve().parents[1] / "src" / "ros2_lite" / "interfaces"
    store = get_typestore(Stores.ROS2_JAZZY)
    for full, (constants, fields) in store.fielddefs.items():
        package, _, name = full.split("/")
        if package not in PACKAGES:
            continue
        lines = [f"{kind} {key}={value}" for key, kind, value in constants]
        for field, desc in fields:
            if field == "structure_needs_at_least_one_member":
                continue
            default = DEFAULTS.get((full, field))
            lines.append(f"{type_text(desc, package)} {field}" + (f" {default}" if default else ""))
        path = root / package / "msg" / f"{name}.msg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines))
    for folder in sorted(root.iterdir()):
        write_manifest(folder)


def write_manifest(folder: Path) -> None:
    """A package.xml, so that the folder is a package's share directory for tools of others too."""
    names = [name for kind in ("msg", "srv", "action") for name in registry.names(folder.name, kind)]
    specs = [registry.spec(f"{folder.name}/msg/{name}") for name in registry.names(folder.name, "msg")]
    for name in registry.names(folder.name, "srv"):
        specs += registry.service(folder.name, name)
    for name in registry.names(folder.name, "action"):
        specs += registry.action(folder.name, name).values()
    bases = {field.type.base for spec in specs for field in spec.fields if not field.type.is_primitive}
    depends = sorted({base.split("/")[0] for base in bases} - {folder.name})
    lines = [
        '<?xml version="1.0"?>',
        '<package format="3">',
        f"  <name>{folder.name}</name>",
        "  <version>0.1.0</version>",
        f"  <description>{len(names)} interfaces of ROS 2 Jazzy, as ros2_lite carries them.</description>",
        '  <maintainer email="ros2_lite@example.org">ros2_lite</maintainer>',
        "  <license>Apache-2.0</license>",
        *[f"  <depend>{name}</depend>" for name in depends],
        "  <member_of_group>rosidl_interface_packages</member_of_group>",
        "</package>",
    ]
    (folder / "package.xml").write_text("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    main()
