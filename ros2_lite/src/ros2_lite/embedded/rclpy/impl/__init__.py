"""Internals that some programs import by their ROS 2 names."""
