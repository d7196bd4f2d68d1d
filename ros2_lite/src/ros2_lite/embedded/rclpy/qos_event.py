"""The former name of `rclpy.event_handler`."""

from rclpy.event_handler import *  # noqa: F403
