"""The MuJoCo tabletop: its world, tasks, expert and questions, free of ROS."""
