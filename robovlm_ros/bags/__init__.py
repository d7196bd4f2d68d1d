"""Episodes: rosbag2 folders in and out."""
