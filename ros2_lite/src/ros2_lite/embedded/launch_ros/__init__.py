"""The part of ROS 2's ``launch_ros`` that launch files of ordinary packages use."""

from . import actions, descriptions, event_handlers, events, parameter_descriptions, substitutions

__all__ = ["actions", "descriptions", "event_handlers", "events", "parameter_descriptions", "substitutions"]
