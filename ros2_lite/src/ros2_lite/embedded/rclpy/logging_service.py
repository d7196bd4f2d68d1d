"""The two services through which others read and set the levels of a node's process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rcl_interfaces.msg import LoggerLevel, SetLoggerLevelsResult
from rcl_interfaces.srv import GetLoggerLevels, SetLoggerLevels

from rclpy import logging

if TYPE_CHECKING:
    from rclpy.node import Node


class LoggingService:
    """Serves ``~/get_logger_levels`` and ``~/set_logger_levels``."""

    def __init__(self, node: Node) -> None:
        node.create_service(GetLoggerLevels, "~/get_logger_levels", self._get)
        node.create_service(SetLoggerLevels, "~/set_logger_levels", self._set)

    def _get(self, request: Any, response: Any) -> Any:
        response.levels = [
            LoggerLevel(name=name, level=int(logging.get_logger_level(name) if name else 0)) for name in request.names
        ]
        return response

    def _set(self, request: Any, response: Any) -> Any:
        response.results = [self._set_one(level) for level in request.levels]
        return response

    def _set_one(self, level: Any) -> Any:
        try:
            logging.set_logger_level(level.name, level.level)
        except ValueError:
            return SetLoggerLevelsResult(successful=False, reason="Failed reason: Invalid logger level.")
        return SetLoggerLevelsResult(successful=True)
