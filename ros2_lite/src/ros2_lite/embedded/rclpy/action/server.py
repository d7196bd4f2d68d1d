"""Servers of actions."""

from __future__ import annotations

import functools
import threading
import traceback
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any

from action_msgs.msg import GoalInfo, GoalStatus

from rclpy._rclpy_pybind11 import InvalidHandle, RCLError
from rclpy.action._goals import ACTIVE as _ACTIVE
from rclpy.action._goals import GoalEvent as GoalEvent
from rclpy.action._goals import ServerGoalHandle as ServerGoalHandle
from rclpy.action._goals import nanoseconds, to_cancel
from rclpy.action._parts import ActionSide, uuid_of
from rclpy.executors import await_or_execute
from rclpy.qos import QoSProfile, qos_profile_action_status_default, qos_profile_services_default
from rclpy.service import RequestHeader, Service
from rclpy.task import Future
from rclpy.waitable import NumberOfEntities

if TYPE_CHECKING:
    from rclpy.callback_groups import CallbackGroup
    from rclpy.node import Node


class GoalResponse(Enum):
    """Whether a goal is taken."""

    REJECT = 1
    ACCEPT = 2


class CancelResponse(Enum):
    """Whether a goal will be cancelled."""

    REJECT = 1
    ACCEPT = 2


def default_handle_accepted_callback(goal_handle: ServerGoalHandle) -> None:
    """Execute every goal at once."""
    goal_handle.execute()


def default_goal_callback(goal_request: Any) -> GoalResponse:
    """Accept every goal."""
    return GoalResponse.ACCEPT


def default_cancel_callback(cancel_request: Any) -> CancelResponse:
    """Cancel none."""
    return CancelResponse.REJECT


class ActionServer(ActionSide):
    """Takes goals, executes them and keeps their results for `result_timeout` seconds.

    Callbacks may be coroutines: `goal_callback` (goal) → GoalResponse, `handle_accepted_callback` (goal handle),
    `execute_callback` (goal handle) → result, `cancel_callback` (goal handle) → CancelResponse.
    TypeError when `execute_callback` cannot be called, AttributeError when `action_type` is no action class.
    """

    def __init__(
        self,
        node: Node,
        action_type: Any,
        action_name: str,
        execute_callback: Callable[[ServerGoalHandle], Any],
        *,
        callback_group: CallbackGroup | None = None,
        goal_callback: Callable[[Any], Any] | None = default_goal_callback,
        handle_accepted_callback: Callable[[ServerGoalHandle], Any] | None = default_handle_accepted_callback,
        cancel_callback: Callable[[ServerGoalHandle], Any] | None = default_cancel_callback,
        goal_service_qos_profile: QoSProfile = qos_profile_services_default,
        result_service_qos_profile: QoSProfile = qos_profile_services_default,
        cancel_service_qos_profile: QoSProfile = qos_profile_services_default,
        feedback_pub_qos_profile: QoSProfile = QoSProfile(depth=10),
        status_pub_qos_profile: QoSProfile = qos_profile_action_status_default,
        result_timeout: float = 900,
    ) -> None:
        self.register_handle_accepted_callback(handle_accepted_callback)
        self.register_goal_callback(goal_callback)
        self.register_cancel_callback(cancel_callback)
        self.register_execute_callback(execute_callback)
        super().__init__(node, action_type, action_name, callback_group)
        self._lock = threading.RLock()
        self._goal_handles: dict[bytes, ServerGoalHandle] = {}
        self._result_futures: dict[bytes, Future] = {}
        self._timeout = int(result_timeout * 1e9)
        self._logger = node.get_logger().get_child("action_server")
        impl, group = action_type.Impl, self.callback_group

        def service(kind: Any, part: str, qos: QoSProfile, answer: Callable[[RequestHeader, Any], Any]) -> Service:
            made: Service = node.create_service(
                kind, self._path(part), self._no_callback, qos_profile=qos, callback_group=group
            )
            made._on_request = answer
            return self._own(made)  # type: ignore[no-any-return]

        # In the order in which rclpy looks at them: what is ready at the same time is handled in it.
        self._feedback = self._own(
            node.create_publisher(impl.FeedbackMessage, self._path("feedback"), feedback_pub_qos_profile)
        )
        self._status = self._own(
            node.create_publisher(impl.GoalStatusMessage, self._path("status"), status_pub_qos_profile)
        )
        self._expiry = self._own(node.create_timer(1.0, self._expire, group, autostart=False))
        self._goals = service(impl.SendGoalService, "send_goal", goal_service_qos_profile, self._on_goal)
        self._cancels = service(impl.CancelGoalService, "cancel_goal", cancel_service_qos_profile, self._on_cancel)
        self._results = service(impl.GetResultService, "get_result", result_service_qos_profile, self._on_result)

    @staticmethod
    def _no_callback(request: Any, response: Any) -> Any:
        """Never called: requests go to `Service._on_request`."""
        return response

    @property
    def action_type(self) -> Any:
        return self._action_type

    def get_num_entities(self) -> NumberOfEntities:
        return NumberOfEntities(0, 0, 1, 0, 3)

    # ---- callbacks ------------------------------------------------------------------------------------------------

    def register_handle_accepted_callback(self, handle_accepted_callback: Callable[[Any], Any] | None) -> None:
        """What is to be done with an accepted goal; None: execute it at once."""
        self._handle_accepted_callback = handle_accepted_callback or default_handle_accepted_callback

    def register_goal_callback(self, goal_callback: Callable[[Any], Any] | None) -> None:
        """What decides about a goal; None: accept all."""
        self._goal_callback = goal_callback or default_goal_callback

    def register_cancel_callback(self, cancel_callback: Callable[[Any], Any] | None) -> None:
        """What decides about a request to cancel a goal; None: refuse all."""
        self._cancel_callback = cancel_callback or default_cancel_callback

    def register_execute_callback(self, execute_callback: Callable[[Any], Any]) -> None:
        """What executes a goal and returns its result.  TypeError when it cannot be called."""
        if not callable(execute_callback):
            raise TypeError("Failed to register goal execution callback: not callable")
        self._execute_callback = execute_callback

    # ---- requests -------------------------------------------------------------------------------------------------

    async def _on_goal(self, header: RequestHeader, request: Any) -> None:
        key = uuid_of(request.goal_id)
        with self._lock:
            known = key in self._goal_handles
        accepted = False
        if not known:
            answer = await await_or_execute(self._goal_callback, request.goal)
            accepted = answer == GoalResponse.ACCEPT
            if not isinstance(answer, GoalResponse):
                self._logger.warn("Goal request callback did not return a GoalResponse type. Rejecting goal.")
        info = GoalInfo(goal_id=request.goal_id)
        if accepted:
            info.stamp = self._node.get_clock().now().to_msg()
            handle = ServerGoalHandle(self, info, request.goal)
            with self._lock:
                # Another thread may have accepted the same goal while the callback decided.
                accepted = self._goal_handles.setdefault(key, handle) is handle
                if accepted:
                    self._result_futures[key] = Future()
        response = self._goals.srv_type.Response(accepted=accepted, stamp=info.stamp)
        if not self._answer(self._goals, header, response, "goal") or not accepted:
            return
        await await_or_execute(self._handle_accepted_callback, handle)

    async def _on_cancel(self, header: RequestHeader, request: Any) -> None:
        with self._lock:
            goals = list(self._goal_handles.values())
        response = self._cancels.srv_type.Response()
        response.return_code, wanted = to_cancel(request, goals)
        for goal in wanted:
            if await await_or_execute(self._cancel_callback, goal) != CancelResponse.ACCEPT:
                continue
            try:
                goal._update_state(GoalEvent.CANCEL_GOAL)
            except RCLError as error:  # it ended while the callback decided
                self._logger.debug(f"Failed to cancel goal in cancel callback: {error}")
                continue
            response.goals_canceling.append(goal._goal_info)
        self._answer(self._cancels, header, response, "cancel")

    async def _on_result(self, header: RequestHeader, request: Any) -> None:
        with self._lock:
            future = self._result_futures.get(uuid_of(request.goal_id))
        if future is None:
            response = self._results.srv_type.Response(status=GoalStatus.STATUS_UNKNOWN)
            self._answer(self._results, header, response, "result")
            return
        future.add_done_callback(functools.partial(self._send_result, header))

    def _send_result(self, header: RequestHeader, future: Future) -> None:
        self._answer(self._results, header, future.result(), "result")

    def _answer(self, service: Service, header: RequestHeader, response: Any, what: str) -> bool:
        try:
            service.send_response(response, header)
        except (RCLError, InvalidHandle):
            self._logger.warn(f"Failed to send {what} response (the client may have gone away)")
            return False
        return True

    # ---- goals ----------------------------------------------------------------------------------------------------

    def notify_execute(self, goal_handle: ServerGoalHandle, execute_callback: Callable[[Any], Any] | None) -> None:
        """Let the executor execute a goal.  RuntimeError when the node is in none."""
        executor = self._node.executor
        if executor is None:
            raise RuntimeError("a goal cannot be executed while its node is in no executor")
        executor.create_task(self._execute_goal, execute_callback or self._execute_callback, goal_handle)

    async def _execute_goal(self, execute_callback: Callable[[Any], Any], goal_handle: ServerGoalHandle) -> None:
        try:
            result = await await_or_execute(execute_callback, goal_handle)
        except Exception as error:  # the client gets an empty result, and the server goes on
            result = self._action_type.Result()
            self._logger.error(f"Error raised in execute callback: {error}")
            traceback.print_exc()
        if goal_handle.is_active:
            self._logger.warn(f"Goal state not set, assuming aborted. Goal ID: {goal_handle.goal_id.uuid}")
            goal_handle.abort()
        response = self._results.srv_type.Response(status=goal_handle.status, result=result)
        with self._lock:
            future = self._result_futures.get(uuid_of(goal_handle.goal_id))
        if future is not None:
            future.set_result(response)

    def _publish_feedback(self, message: Any) -> None:
        self._feedback.publish(message)

    def _publish_status(self) -> None:
        with self._lock:
            goals = list(self._goal_handles.values())
            message = self._status.msg_type()
            for goal in goals:
                status = GoalStatus(goal_info=goal._goal_info, status=goal.status)
                message.status_list.append(status)
            self._status.publish(message)

    def notify_goal_done(self) -> None:
        """Let the timer wait for the first result that is to be forgotten."""
        with self._lock:
            ended = [goal for goal in self._goal_handles.values() if goal.status not in _ACTIVE]
            if not ended:
                self._expiry.cancel()
                return
            now = self._node.get_clock().now().nanoseconds
            oldest = min(nanoseconds(goal._goal_info.stamp) for goal in ended)
            # Not above the whole: the clock may have jumped back.
            self._expiry.timer_period_ns = min(self._timeout, max(0, oldest + self._timeout - now))
            self._expiry.reset()

    def _expire(self) -> None:
        now, forgotten = self._node.get_clock().now().nanoseconds, []
        with self._lock:
            for key, goal in list(self._goal_handles.items()):
                if goal.status not in _ACTIVE and now - nanoseconds(goal._goal_info.stamp) >= self._timeout:
                    forgotten.append(self._goal_handles.pop(key))
                    del self._result_futures[key]
            self.notify_goal_done()
        for goal in forgotten:  # not under the lock: a goal has its own, and takes this one under it
            goal.destroy()

    def destroy(self) -> None:
        """Destroy it and forget its goals; harmless when that was done."""
        with self._lock:
            goals = list(self._goal_handles.values())
            self._goal_handles.clear()
            self._result_futures.clear()
        for goal in goals:
            goal.destroy()
        super().destroy()
