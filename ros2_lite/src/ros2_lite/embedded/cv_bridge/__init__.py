"""Images between ROS messages and arrays."""

from cv_bridge.core import CvBridge as CvBridge
from cv_bridge.core import CvBridgeError as CvBridgeError
