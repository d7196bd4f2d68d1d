"""Actions about ROS nodes."""

from .lifecycle import LifecycleNode, LifecycleTransition
from .node import Node
from .ros_context import (
    PushROSNamespace,
    PushRosNamespace,
    SetParameter,
    SetParametersFromFile,
    SetRemap,
    SetROSLogDir,
    SetUseSimTime,
)
from .ros_timer import ROSTimer, RosTimer

__all__ = [
    "LifecycleNode",
    "LifecycleTransition",
    "Node",
    "PushROSNamespace",
    "PushRosNamespace",
    "ROSTimer",
    "RosTimer",
    "SetParameter",
    "SetParametersFromFile",
    "SetROSLogDir",
    "SetRemap",
    "SetUseSimTime",
]
