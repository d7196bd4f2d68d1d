"""Teach a robot with ROS 2: record demonstrations, fine-tune an action-token VLM, run it at control rate.

Importing this package loads neither torch nor rclpy; see ARCHITECTURE.md for its layers.
"""

__version__ = "0.1.0"
