"""The goals of a server: their states (http://design.ros2.org/articles/actions.html), and which a request cancels."""

from __future__ import annotations

import threading
from enum import Enum
from typing import TYPE_CHECKING, Any

from action_msgs.msg import GoalStatus
from action_msgs.srv import CancelGoal

from rclpy._rclpy_pybind11 import RCLError
from rclpy.action._parts import uuid_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rclpy.action.server import ActionServer


class GoalEvent(Enum):
    """What happens to a goal."""

    EXECUTE = 1
    CANCEL_GOAL = 2
    SUCCEED = 3
    ABORT = 4
    CANCELED = 5


_S, _E = GoalStatus, GoalEvent
_NEXT: dict[tuple[int, GoalEvent], int] = {
    (_S.STATUS_ACCEPTED, _E.EXECUTE): _S.STATUS_EXECUTING,
    (_S.STATUS_ACCEPTED, _E.CANCEL_GOAL): _S.STATUS_CANCELING,
    (_S.STATUS_EXECUTING, _E.CANCEL_GOAL): _S.STATUS_CANCELING,
    (_S.STATUS_EXECUTING, _E.SUCCEED): _S.STATUS_SUCCEEDED,
    (_S.STATUS_EXECUTING, _E.ABORT): _S.STATUS_ABORTED,
    (_S.STATUS_CANCELING, _E.SUCCEED): _S.STATUS_SUCCEEDED,
    (_S.STATUS_CANCELING, _E.ABORT): _S.STATUS_ABORTED,
    (_S.STATUS_CANCELING, _E.CANCELED): _S.STATUS_CANCELED,
}
ACTIVE = (_S.STATUS_ACCEPTED, _S.STATUS_EXECUTING, _S.STATUS_CANCELING)
CANCELABLE = (_S.STATUS_ACCEPTED, _S.STATUS_EXECUTING)


class ServerGoalHandle:
    """A goal that was accepted."""

    def __init__(self, action_server: ActionServer, goal_info: Any, goal_request: Any) -> None:
        self._action_server = action_server
        self._goal_info = goal_info
        self._goal_request = goal_request
        self._status: int = GoalStatus.STATUS_ACCEPTED
        self._destroyed = False
        self._lock = threading.RLock()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ServerGoalHandle) and bool(self.goal_id == other.goal_id)

    __hash__ = None  # type: ignore[assignment]

    @property
    def request(self) -> Any:
        """The goal."""
        return self._goal_request

    @property
    def goal_id(self) -> Any:
        """Its unique_identifier_msgs/msg/UUID."""
        return self._goal_info.goal_id

    @property
    def is_active(self) -> bool:
        """Whether it has not ended."""
        return self.status in ACTIVE

    @property
    def is_cancel_requested(self) -> bool:
        return bool(self.status == GoalStatus.STATUS_CANCELING)

    @property
    def status(self) -> int:
        """One of action_msgs/msg/GoalStatus."""
        return GoalStatus.STATUS_UNKNOWN if self._destroyed else self._status

    def _update_state(self, event: GoalEvent) -> None:
        """Go on to what follows from `event`, and tell it.  RCLError when nothing does."""
        with self._lock:
            if self._destroyed:
                return
            following = _NEXT.get((self._status, event))
            if following is None:
                raise RCLError(f"Failed to update goal state: a goal of status {self._status} cannot {event.name}")
            self._status = following
            self._action_server._publish_status()
            if following not in ACTIVE:
                self._action_server.notify_goal_done()

    def execute(self, execute_callback: Callable[[ServerGoalHandle], Any] | None = None) -> None:
        """Start it, with the server's callback or another; one that is being cancelled is started too."""
        if not self.is_cancel_requested:
            self._update_state(GoalEvent.EXECUTE)
        self._action_server.notify_execute(self, execute_callback)

    def publish_feedback(self, feedback: Any) -> None:
        """Tell how it goes.  TypeError when `feedback` is none of this action."""
        action_type = self._action_server.action_type
        if not isinstance(feedback, action_type.Feedback):
            raise TypeError(f"Expected {action_type.Feedback}, got {type(feedback)}")
        with self._lock:
            if not self._destroyed:
                self._action_server._publish_feedback(
                    action_type.Impl.FeedbackMessage(goal_id=self.goal_id, feedback=feedback)
                )

    def succeed(self) -> None:
        self._update_state(GoalEvent.SUCCEED)

    def abort(self) -> None:
        self._update_state(GoalEvent.ABORT)

    def canceled(self) -> None:
        self._update_state(GoalEvent.CANCELED)

    def destroy(self) -> None:
        """Forget it: its status is unknown from now on, and nothing is told any more."""
        with self._lock:
            self._destroyed = True


def nanoseconds(stamp: Any) -> int:
    return int(stamp.sec) * 10**9 + int(stamp.nanosec)


def to_cancel(request: Any, goals: Iterable[ServerGoalHandle]) -> tuple[int, list[ServerGoalHandle]]:
    """The return code of a cancel request and the goals that it means.

    The request's goal, and all up to its time: without a goal and a time, all; with a goal and no time, just that goal.
    """
    wanted = uuid_of(request.goal_info.goal_id)
    time = nanoseconds(request.goal_info.stamp)
    codes = CancelGoal.Response
    if any(wanted) and time == 0:
        found = [goal for goal in goals if uuid_of(goal.goal_id) == wanted]
        if not found:
            return codes.ERROR_UNKNOWN_GOAL_ID, []
        if found[0].status not in CANCELABLE:
            return codes.ERROR_GOAL_TERMINATED, []
        return codes.ERROR_NONE, found
    limit = time if any(wanted) or time else 2**63
    return codes.ERROR_NONE, [
        goal
        for goal in goals
        if goal.status in CANCELABLE
        and (nanoseconds(goal._goal_info.stamp) <= limit or uuid_of(goal.goal_id) == wanted)
    ]
