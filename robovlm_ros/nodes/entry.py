"""How every node of this package begins and ends."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Protocol

import rclpy
from rclpy._rclpy_pybind11 import RCLError, UnknownROSArgsError  # have no public names
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from robovlm_ros.errors import UserError
from robovlm_ros.nodes.overrides import refusing

END_SECONDS = 5.0
"""How long callbacks may take to end [s]."""


class Closing(Protocol):
    """What a node does beyond a plain node's life."""

    failure: str | None
    """Why the node ended itself; None: it was asked to end."""

    def close(self) -> None:
        """Join threads and say the last words; called once, after spinning has ended."""


def spin(make: Callable[[], Node], threads: int, *, last_words: bool = False) -> int:
    """Make a node and spin it with `threads` threads; 0 after SIGINT or SIGTERM, 1 after one line for bad input.

    A node that is `Closing` is closed before it is destroyed, and its `failure` becomes that line. Usually a signal
    closes the topics first; `last_words`: they stay open until the node is closed. Such a node needs a timer, for
    Python handles signals between two waits only.
    """
    failure: str | None = None
    node: Node | None = None
    executor: MultiThreadedExecutor | None = None
    begun = False
    try:
        if last_words:
            rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        else:
            rclpy.init()
        begun = True
        with refusing():
            node = make()
        executor = MultiThreadedExecutor(num_threads=threads)
        executor.add_node(node)
        executor.spin()
    except UserError as error:
        failure = str(error)
    except (RCLError, UnknownROSArgsError) as error:
        ended = begun and not rclpy.ok()  # a signal came between two steps: whatever was next fails, and need not
        if not ended:
            if node is not None:
                raise
            failure = f"ROS 2 cannot start: {' '.join(str(error).split())}"
    except (KeyboardInterrupt, ExternalShutdownException):
        failure = None
    finally:
        # At a terminal a node is interrupted twice, by the terminal and by `ros2 launch`: closing goes on.
        interrupted = signal.signal(signal.SIGINT, signal.SIG_IGN)
        if executor is not None:
            executor.shutdown(timeout_sec=END_SECONDS)  # callbacks end before what they use does
        if node is not None:
            close = getattr(node, "close", None)
            if close is not None:
                close()
            failure = getattr(node, "failure", None) or failure
            node.destroy_node()
        rclpy.try_shutdown()
        signal.signal(signal.SIGINT, interrupted or signal.SIG_DFL)
    if failure is not None:
        print(f"error: {failure}", file=sys.stderr, flush=True)
        return 1
    return 0
