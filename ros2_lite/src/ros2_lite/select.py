"""The choice between a real ROS 2 and the embedded one: all or nothing, made once, at the first import of a ROS name.

`install` runs at interpreter start (from ``ros2_lite.pth``) and puts one finder first in `sys.meta_path`.  Until one of
the names below is imported the finder costs one set look-up per import.  Then it decides for all names together: where
an ordinary search finds a real ``rclpy``, it leaves for good; otherwise it serves every name from ``embedded``, so that
half of another ROS (Debian packages a ROS 1 ``sensor_msgs``) can never be mixed in.

``ROS2_LITE=auto|always|never`` overrides.  ``ROS2_LITE_INTERFACES`` names folders with interface packages of the user's
own, whose modules are made as those of the embedded ones are.

This module imports nothing at its top but `sys`, to keep start-up free.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

CODE_PACKAGES = frozenset({"ament_index_python", "cv_bridge", "launch", "launch_ros", "rclpy"})
INTERFACE_PACKAGES = frozenset(
    {
        "action_msgs",
        "builtin_interfaces",
        "diagnostic_msgs",
        "example_interfaces",
        "geometry_msgs",
        "lifecycle_msgs",
        "nav_msgs",
        "rcl_interfaces",
        "rmw_dds_common",
        "rosgraph_msgs",
        "sensor_msgs",
        "service_msgs",
        "shape_msgs",
        "std_msgs",
        "std_srvs",
        "stereo_msgs",
        "tf2_msgs",
        "trajectory_msgs",
        "type_description_interfaces",
        "unique_identifier_msgs",
        "visualization_msgs",
    }
)
NAMES = CODE_PACKAGES | INTERFACE_PACKAGES
MODES = ("auto", "always", "never")


_own: "dict[str, str] | None" = None


def own_packages() -> "dict[str, str]":
    """Name and folder of each interface package in the folders of ROS2_LITE_INTERFACES (read once).

    Such a folder holds packages (``FOLDER/my_msgs/msg/*.msg``), or is one itself.  The first of a name counts, and
    none replaces a package that is embedded.
    """
    global _own
    if _own is None:
        import os

        _own = {}
        for folder in os.environ.get("ROS2_LITE_INTERFACES", "").split(os.pathsep):
            if folder:
                _collect(os.path.abspath(folder), _own)
    return _own


def _collect(folder: str, found: "dict[str, str]") -> None:
    import os

    try:
        inside = [folder, *sorted(entry.path for entry in os.scandir(folder) if entry.is_dir())]
    except OSError:
        print(f"ros2_lite: ROS2_LITE_INTERFACES names '{folder}', which is no folder", file=sys.stderr)
        return
    for path in inside:
        name = os.path.basename(path)
        if name.isidentifier() and name not in NAMES and any(_holds(path, kind) for kind in ("msg", "srv", "action")):
            found.setdefault(name, path)


def _holds(package: str, kind: str) -> bool:
    import os

    try:
        return any(name.endswith(f".{kind}") for name in os.listdir(os.path.join(package, kind)))
    except OSError:
        return False


class Finder:
    """The meta path finder; `decision` is None until the first ROS name was asked for."""

    def __init__(self) -> None:
        self.decision: str | None = None
        self.reason = ""
        self.own = own_packages()

    def find_spec(
        self, fullname: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        top, _, rest = fullname.partition(".")
        if top not in NAMES and top not in self.own:
            return None
        if self.decision is None:
            self.decision, self.reason = decide()
        if self.decision == "real":
            return None
        from ros2_lite import provide

        return provide.find_spec(top, rest, fullname)


def decide() -> tuple[str, str]:
    """``("real" | "embedded", why)``; ImportError when the choice is impossible."""
    import os

    mode = os.environ.get("ROS2_LITE", "").strip().lower() or "auto"
    if mode not in MODES:
        raise ImportError(f"ROS2_LITE is '{mode}'; choose from {', '.join(MODES)}")
    if mode == "never":
        return "real", "ROS2_LITE=never"
    if mode == "always":
        return "embedded", "ROS2_LITE=always"
    folder = real_rclpy()
    if folder is None:
        return "embedded", "no other rclpy is on sys.path"
    other = foreign_python(folder)
    if other:
        here = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise ImportError(
            f"the sourced ROS 2 ({folder}) is built for Python {other}, this is Python {here}: run that Python, or use"
            " a shell without the ROS 2 environment, or set ROS2_LITE=always to use ros2_lite instead of it"
        )
    return "real", f"a real rclpy is in {folder}"


def real_rclpy() -> "str | None":
    """The folder of an rclpy that the ordinary search finds; None if there is none."""
    from importlib.machinery import PathFinder

    spec = PathFinder.find_spec("rclpy")
    if spec is None or not spec.submodule_search_locations:
        return None
    return next(iter(spec.submodule_search_locations), None)


def foreign_python(folder: str) -> "str | None":
    """The Python version(s) that a real rclpy was built for, when its extension does not fit this one."""
    import os
    from importlib.machinery import EXTENSION_SUFFIXES

    try:
        files = [name for name in os.listdir(folder) if name.startswith("_rclpy_pybind11.")]
    except OSError:
        return None
    if not files or any(name == "_rclpy_pybind11" + suffix for name in files for suffix in EXTENSION_SUFFIXES):
        return None
    import re

    found = {f"{m[1]}.{m[2]}" for name in files for m in [re.search(r"(?:cpython-|cp)(\d)(\d+)", name)] if m}
    return " and ".join(sorted(found)) or "another version"


FINDER = Finder()


def install() -> None:
    """Put the finder first in `sys.meta_path`; harmless when it is there already."""
    if FINDER not in sys.meta_path:
        sys.meta_path.insert(0, FINDER)
