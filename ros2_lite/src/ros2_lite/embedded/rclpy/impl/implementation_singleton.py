"""Where rclpy keeps its extension module; programs import its exceptions from here."""

from rclpy import _rclpy_pybind11

rclpy_implementation = _rclpy_pybind11
