"""`ros2 action send_goal`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from ros2_lite.cli import graph
from ros2_lite.cli.errors import CliError
from ros2_lite.cli.values import get_action, message_to_yaml, parse_values, set_message_fields

if TYPE_CHECKING:
    from rclpy.node import Node

_STATES = ("UNKNOWN", "ACCEPTED", "EXECUTING", "CANCELING", "SUCCEEDED", "CANCELED", "ABORTED")
"""By the numbers of action_msgs/msg/GoalStatus."""
_CANCEL_WITHIN = 5.0  # [s]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action_name", help="Name of the ROS action (e.g. '/fibonacci')")
    parser.add_argument("action_type", help="Type of the ROS action (e.g. 'example_interfaces/action/Fibonacci')")
    parser.add_argument("goal", nargs="?", default="{}", help="Goal request values in YAML format (e.g. '{order: 10}')")
    parser.add_argument("--stdin", action="store_true", help="Read goal from standard input")
    parser.add_argument("-f", "--feedback", action="store_true", help="Echo feedback messages for the goal")


def main(args: argparse.Namespace) -> None:
    from rclpy.action import ActionClient
    from rclpy.signals import uninstall_signal_handlers

    action = get_action(args.action_type)
    goal = action.Goal()
    set_message_fields(goal, parse_values(sys.stdin.read() if args.stdin else args.goal))
    with graph.cli_node(f"_ros2cli_send_goal_{args.action_type.replace('/', '_')}") as node:
        uninstall_signal_handlers()  # Ctrl-C must leave the context as it is: the goal is to be cancelled through it
        client = ActionClient(node, action, args.action_name)
        print("Waiting for an action server to become available...", flush=True)
        client.wait_for_server()
        print(f"Sending goal:\n     {message_to_yaml(goal)}", flush=True)
        sent = client.send_goal_async(goal, _feedback if args.feedback else None)
        try:
            handle = _wait(node, sent)
            if not handle.accepted:
                print("Goal was rejected.")
                return
            print(f"Goal accepted with ID: {bytes(handle.goal_id.uuid).hex()}\n", flush=True)
            answer = _wait(node, handle.get_result_async())
        except KeyboardInterrupt:
            if sent.done() and sent.result().accepted:
                _cancel(node, sent.result())
            raise
        print(f"Result:\n    {message_to_yaml(answer.result)}")
        print(f"Goal finished with status: {_STATES[answer.status]}")


def _feedback(message: Any) -> None:
    print(f"Feedback:\n    {message_to_yaml(message.feedback)}", flush=True)


def _wait(node: Node, future: Any, timeout: float | None = None) -> Any:
    graph.spin_until(node, future.done, timeout)
    if future.exception() is not None:
        raise CliError(f"Exception while sending goal: {future.exception()!r}")
    return future.result()


def _cancel(node: Node, handle: Any) -> None:
    print("Canceling goal...", flush=True)
    answer = _wait(node, handle.cancel_goal_async(), _CANCEL_WITHIN)
    if answer is None or handle.goal_id not in [info.goal_id for info in answer.goals_canceling]:
        raise CliError("Failed to cancel goal")
    print("Goal canceled.")
