"""The part of ROS 2's ``launch_ros`` that launch files of ordinary packages use."""

from launch._aliases import LAUNCH_ROS as _LAUNCH_ROS
from launch._aliases import provide as _provide

from . import actions, descriptions, event_handlers, events, parameter_descriptions, substitutions

_provide("launch_ros", _LAUNCH_ROS)

__all__ = ["actions", "descriptions", "event_handlers", "events", "parameter_descriptions", "substitutions"]
