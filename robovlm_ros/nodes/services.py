"""Services that either act or say why they cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from robovlm_ros.errors import UserError


def answering(act: Callable[[Any], str]) -> Any:
    """A callback for services with ``success`` and ``message``: the text that `act` gives, or its UserError."""

    def callback(request: Any, response: Any) -> Any:
        try:
            response.success, response.message = True, act(request)
        except UserError as error:
            response.success, response.message = False, str(error)
        return response

    return callback
