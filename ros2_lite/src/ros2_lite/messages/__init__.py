"""Messages and services: .msg/.srv text → rclpy-shaped classes, their codec and their RIHS01 type hash."""
