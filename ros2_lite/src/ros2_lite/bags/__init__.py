"""rosbag2 folders: MCAP written and read, SQLite read, as `ros2 bag` does."""
