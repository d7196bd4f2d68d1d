"""The layers of ARCHITECTURE.md: imports point down only."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "robovlm_ros"

# Each layer with the layers it may import; "core" are the top modules.
ALLOWED = {
    "core": set(),
    "bags": {"core"},
    "vlm": {"core"},
    "runtime": {"vlm", "core"},
    "training": {"vlm", "bags", "core"},
    "sim": {"core"},
    "cli": {"sim", "training", "runtime", "vlm", "bags", "core"},
    "nodes": {"cli", "sim", "training", "runtime", "vlm", "bags", "core"},
}
ROS = {"rclpy", "launch", "launch_ros", "ament_index_python", "cv_bridge"}
CORE_MAY_IMPORT = {"numpy", "yaml", "PIL", "cv2"}  # PIL and cv2 only inside functions, for encoded images


def layer_of(module: str) -> str:
    """Layer of a dotted module name of this package."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ALLOWED else "core"


def imports_of(path: Path) -> list[tuple[str, int, bool]]:
    """(module, line, at top level) of each import in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = {id(node) for node in tree.body}
    found: list[tuple[str, int, bool]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno, id(node) in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append((node.module, node.lineno, id(node) in top))
            if node.module == "robovlm_ros":
                found += [(f"robovlm_ros.{alias.name}", node.lineno, id(node) in top) for alias in node.names]
    return found


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def violations(path: Path, module: str) -> list[str]:
    """What this file imports against the rules."""
    layer = layer_of(module)
    wrong = []
    for name, line, at_top in imports_of(path):
        root = name.split(".")[0]
        where = f"{module}:{line} ({layer}) imports {name}"
        if root == "robovlm_ros":
            other = layer_of(name)
            if other != layer and other not in ALLOWED[layer]:
                wrong.append(where)
        else:
            is_ros = root in ROS or root.endswith("_msgs")
            allowed_in_core = root in sys.stdlib_module_names or (
                root in CORE_MAY_IMPORT and not (root in {"PIL", "cv2"} and at_top)
            )
            if (
                root == "ros2_lite"
                or (layer == "core" and not allowed_in_core)
                or (is_ros and layer not in {"nodes", "cli"})
            ):
                wrong.append(where)
    return wrong


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down_only(path: Path) -> None:
    module = ".".join(("robovlm_ros", *path.relative_to(PACKAGE).with_suffix("").parts))
    assert violations(path, module) == []


def test_the_layer_check_sees_a_forbidden_import(tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    file.write_text("import rclpy\nfrom robovlm_ros.nodes import sim_node\nimport ros2_lite\n")
    assert len(violations(file, "robovlm_ros.vlm.bad")) == 3


def test_importing_the_package_loads_neither_torch_nor_rclpy() -> None:
    code = "import sys, robovlm_ros, robovlm_ros.contract; sys.exit('torch' in sys.modules or 'rclpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_node_files_stay_thin_and_no_file_is_long() -> None:
    long = {
        str(path.relative_to(PACKAGE)): lines
        for path in modules()
        if (lines := len(path.read_text().splitlines())) > (320 if path.parent.name == "nodes" else 520)
    }
    assert long == {}
