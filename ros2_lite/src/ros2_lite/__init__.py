"""ros2_lite: the part of ROS 2 that Python nodes use, over the Cyclone DDS wheel, without a ROS 2 installation.

Nothing is imported from here by nodes: they import ``rclpy`` and its friends, and `ros2_lite.select` decides where
those names come from.  This package stays empty so that interpreter start-up pays nothing for it.
"""

__version__ = "0.1.0"
