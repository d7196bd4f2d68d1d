"""What `python -m ros2_lite doctor` tells."""

from __future__ import annotations

import os
import sys
from importlib import metadata

from ros2_lite import __version__, select

_VARIABLES = (
    "ROS2_LITE", "ROS2_LITE_INTERFACES", "ROS_DISTRO", "ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE",
    "ROS_STATIC_PEERS", "ROS_LOCALHOST_ONLY", "RMW_IMPLEMENTATION", "CYCLONEDDS_URI", "AMENT_PREFIX_PATH",
)  # fmt: skip


def report() -> int:
    """Print it; 0 when ROS nodes can run here, 1 when not."""
    print(f"ros2_lite {__version__}, Python {sys.version.split()[0]} ({sys.executable})")
    for name in _VARIABLES:
        if name in os.environ:
            print(f"  {name}={os.environ[name]}")
    try:
        decision, reason = select.decide()
    except ImportError as error:
        print(f"in use: nothing: {error}")
        return 1
    if select.FINDER not in sys.meta_path:
        print("in use: nothing: ros2_lite.pth is not active (python -S, or not installed in this environment)")
        return 1
    if decision == "real":
        folder = select.real_rclpy()
        if folder is None:
            print(f"in use: nothing: {reason}, and no other rclpy is on sys.path")
            return 1
        print(f"in use: the real ROS 2 in {folder} ({reason})")
        return 0
    print(f"in use: ros2_lite ({reason})")
    return _check_embedded()


def _check_embedded() -> int:
    try:
        print(f"  cyclonedds {metadata.version('cyclonedds')}")
        import rclpy
        from rclpy.context import Context

        context = Context()
        rclpy.init(args=[], context=context)
        node = rclpy.create_node("ros2_lite_doctor", context=context)
        print(f"  joined domain {context.get_domain_id()}; other nodes: ", end="")
        node.wait_for_node("/none", 0.5)
        others = sorted(set(node.get_fully_qualified_node_names()) - {"/ros2_lite_doctor"})
        print(", ".join(others) or "none seen within 0.5 s")
        node.destroy_node()
        context.shutdown()
    except (ImportError, RuntimeError) as error:
        print(f"  cannot communicate: {error}")
        return 1
    return 0
