"""The package as ROS 2 sees it: what its manifests say is so."""

from __future__ import annotations

import ast
import importlib.metadata
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import robovlm_ros

ROOT = Path(__file__).resolve().parent.parent
MANIFEST = ElementTree.parse(ROOT / "package.xml").getroot()
ROS = {"rclpy", "launch", "launch_ros", "ament_index_python", "cv_bridge", "std_srvs"}


def test_all_manifests_name_one_version() -> None:
    assert MANIFEST.findtext("version") == robovlm_ros.__version__ == importlib.metadata.version("robovlm_ros")


def test_every_executable_has_its_entry_point() -> None:
    scripts = importlib.metadata.distribution("robovlm_ros").entry_points.select(group="console_scripts")
    nodes = {"policy_node", "recorder_node", "sim_node", "teleop_node", "view_node"}
    assert nodes | {"collect", "finetune", "evaluate", "inspect", "convert"} <= scripts.names
    for script in scripts:
        assert callable(script.load()), script.name


def test_the_manifest_names_every_ros_package_that_is_imported() -> None:
    imported: set[str] = set()
    for path in [*(ROOT / "robovlm_ros").rglob("*.py"), *(ROOT / "launch").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            imported |= {name.split(".")[0] for name in names}
    wanted = {name for name in imported if name in ROS or name.endswith(("_msgs", "_interfaces"))}
    named = {item.text for kind in ("depend", "exec_depend") for item in MANIFEST.findall(kind)}
    assert wanted
    assert wanted <= named


def test_a_folder_of_the_same_name_does_not_hide_the_package(tmp_path: Path) -> None:
    """As in the parent folder of a clone, where ``python -m`` looks first."""
    (tmp_path / "robovlm_ros").mkdir()
    command = [sys.executable, "-c", "import robovlm_ros; print(robovlm_ros.__version__)"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
