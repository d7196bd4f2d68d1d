"""Thin rclpy nodes: copy, check, hand off."""
