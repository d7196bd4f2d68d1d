"""Clients of actions."""

from __future__ import annotations

import functools
import uuid
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from action_msgs.msg import GoalStatus
from unique_identifier_msgs.msg import UUID

from rclpy.action._parts import ActionSide, uuid_of, wait_for
from rclpy.client import Client
from rclpy.publisher import wait_until
from rclpy.qos import QoSProfile, qos_profile_action_status_default, qos_profile_services_default
from rclpy.task import Future
from rclpy.waitable import NumberOfEntities

if TYPE_CHECKING:
    from rclpy.callback_groups import CallbackGroup
    from rclpy.node import Node

_FINAL = (GoalStatus.STATUS_SUCCEEDED, GoalStatus.STATUS_CANCELED, GoalStatus.STATUS_ABORTED)


class ClientGoalHandle:
    """A goal that was sent."""

    def __init__(self, action_client: ActionClient, goal_id: Any, goal_response: Any) -> None:
        self._action_client = action_client
        self._goal_id = goal_id
        self._goal_response = goal_response
        self._status: int = GoalStatus.STATUS_UNKNOWN

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClientGoalHandle) and bool(self._goal_id == other.goal_id)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"ClientGoalHandle <id={self.goal_id.uuid}, accepted={self.accepted}, status={self.status}>"

    @property
    def goal_id(self) -> Any:
        """Its unique_identifier_msgs/msg/UUID."""
        return self._goal_id

    @property
    def stamp(self) -> Any:
        """When the server accepted it: builtin_interfaces/msg/Time."""
        return self._goal_response.stamp

    @property
    def accepted(self) -> bool:
        return bool(self._goal_response.accepted)

    @property
    def status(self) -> int:
        """The last status that the server told: one of action_msgs/msg/GoalStatus."""
        return self._status

    def cancel_goal(self) -> Any:
        """Ask that it be cancelled, and wait for the answer.  Not from a callback: it would wait for itself."""
        return self._action_client._wait(self.cancel_goal_async())

    def cancel_goal_async(self) -> Future:
        """Ask that it be cancelled; the future of the action_msgs/srv/CancelGoal response."""
        return self._action_client._cancel_goal_async(self)

    def get_result(self) -> Any:
        """Wait for its end; status and result.  Not from a callback: it would wait for itself."""
        return self._action_client._wait(self.get_result_async())

    def get_result_async(self) -> Future:
        """The future of its status and result."""
        return self._action_client._get_result_async(self)


class ActionClient(ActionSide):
    """Sends goals to the servers of an action.

    Errors: AttributeError when `action_type` is no action class, RCLError and the errors of names.
    """

    def __init__(
        self,
        node: Node,
        action_type: Any,
        action_name: str,
        *,
        callback_group: CallbackGroup | None = None,
        goal_service_qos_profile: QoSProfile = qos_profile_services_default,
        result_service_qos_profile: QoSProfile = qos_profile_services_default,
        cancel_service_qos_profile: QoSProfile = qos_profile_services_default,
        feedback_sub_qos_profile: QoSProfile = QoSProfile(depth=10),
        status_sub_qos_profile: QoSProfile = qos_profile_action_status_default,
    ) -> None:
        super().__init__(node, action_type, action_name, callback_group)
        impl = action_type.Impl

        def client(service: Any, part: str, qos: QoSProfile) -> Client:
            made = node.create_client(service, self._path(part), qos_profile=qos, callback_group=self.callback_group)
            return self._own(made)  # type: ignore[no-any-return]

        # In the order in which rclpy looks at them: what is ready at the same time is handled in it.
        self._goal_client = client(impl.SendGoalService, "send_goal", goal_service_qos_profile)
        self._cancel_client = client(impl.CancelGoalService, "cancel_goal", cancel_service_qos_profile)
        self._result_client = client(impl.GetResultService, "get_result", result_service_qos_profile)
        self._topics = [
            self._own(node.create_subscription(kind, self._path(part), listen, qos, callback_group=self.callback_group))
            for kind, part, listen, qos in (
                (impl.FeedbackMessage, "feedback", self._on_feedback, feedback_sub_qos_profile),
                (impl.GoalStatusMessage, "status", self._on_status, status_sub_qos_profile),
            )
        ]
        self._goal_handles: dict[bytes, weakref.ref[ClientGoalHandle]] = {}
        self._feedback_callbacks: dict[bytes, Callable[[Any], Any]] = {}

    def get_num_entities(self) -> NumberOfEntities:
        return NumberOfEntities(2, 0, 0, 3, 0)

    # ---- servers --------------------------------------------------------------------------------------------------

    def server_is_ready(self) -> bool:
        """Whether a server is there, with all that an action needs."""
        if not self._made:
            return False
        clients = (self._goal_client, self._cancel_client, self._result_client)
        return all(client.service_is_ready() for client in clients) and all(
            topic.get_publisher_count() > 0 for topic in self._topics
        )

    def wait_for_server(self, timeout_sec: float | None = None) -> bool:
        """Wait for a server; False after `timeout_sec` or at shutdown."""
        limit = None if timeout_sec is None else max(0.0, timeout_sec)
        return wait_until(self.server_is_ready, limit, self._node.context)

    # ---- goals ----------------------------------------------------------------------------------------------------

    def send_goal(self, goal: Any, feedback_callback: Callable[[Any], Any] | None = None, goal_uuid: Any = None) -> Any:
        """Send a goal and wait for its end; status and result.  Not from a callback: it would wait for itself."""
        handle = self._wait(self.send_goal_async(goal, feedback_callback, goal_uuid))
        return None if handle is None else handle.get_result()

    def send_goal_async(
        self, goal: Any, feedback_callback: Callable[[Any], Any] | None = None, goal_uuid: Any = None
    ) -> Future:
        """Send a goal; the future of its ClientGoalHandle, which says whether it was accepted.

        `feedback_callback` gets the messages in which the feedback travels, with the fields `goal_id` and `feedback`.
        TypeError when `goal` is no goal of this action.
        """
        if not isinstance(goal, self._action_type.Goal):
            raise TypeError(f"Expected {self._action_type.Goal}, got {type(goal)}")
        goal_id = UUID(uuid=list(uuid.uuid4().bytes)) if goal_uuid is None else goal_uuid
        key = uuid_of(goal_id)
        if feedback_callback is not None:
            self._feedback_callbacks[key] = feedback_callback

        def answered(response: Any) -> ClientGoalHandle:
            handle = ClientGoalHandle(self, goal_id, response)
            if not handle.accepted:
                self._feedback_callbacks.pop(key, None)
                return handle
            known = self._goal_handles.get(key)
            if known is not None and known() is not None:
                raise RuntimeError(f"Two goals were accepted with the same ID ({handle})")
            self._goal_handles[key] = weakref.ref(handle)
            return handle

        return self._ask(self._goal_client, self._goal_client.srv_type.Request(goal_id=goal_id, goal=goal), answered)

    def _cancel_goal_async(self, goal_handle: ClientGoalHandle) -> Future:
        request = self._cancel_client.srv_type.Request()
        request.goal_info.goal_id = goal_handle.goal_id
        return self._ask(self._cancel_client, request, lambda response: response)

    def _get_result_async(self, goal_handle: ClientGoalHandle) -> Future:
        request = self._result_client.srv_type.Request(goal_id=goal_handle.goal_id)
        future = self._ask(self._result_client, request, lambda response: response)
        # As a task of the executor, so that feedback that is here already still gets through.
        future.add_done_callback(functools.partial(self._end_feedback, uuid_of(goal_handle.goal_id)))
        return future

    def _end_feedback(self, key: bytes, future: Future) -> None:
        self._feedback_callbacks.pop(key, None)

    def _ask(self, client: Client, request: Any, answered: Callable[[Any], Any]) -> Future:
        """Call a service; the future of what `answered` makes of the response."""
        call = client.call_async(request)
        future = Future()

        def finish() -> None:
            future._set_executor(call._executor())
            try:
                result = answered(call.result())
            except Exception as error:  # whoever waits for the future is to know
                future.set_exception(error)
            else:
                future.set_result(result)

        call._on_done(finish)
        future._on_done(lambda: client.remove_pending_request(call))  # when it is cancelled
        return future

    def _wait(self, future: Future) -> Any:
        return wait_for(future, self._node.context)

    # ---- what servers tell ----------------------------------------------------------------------------------------

    def _on_feedback(self, message: Any) -> Any:
        callback = self._feedback_callbacks.get(uuid_of(message.goal_id))
        return None if callback is None else callback(message)

    def _on_status(self, message: Any) -> None:
        for status in message.status_list:
            key = uuid_of(status.goal_info.goal_id)
            reference = self._goal_handles.get(key)
            if reference is None:
                continue
            handle = reference()
            if handle is not None:
                handle._status = status.status
            if handle is None or status.status in _FINAL:
                self._goal_handles.pop(key, None)
