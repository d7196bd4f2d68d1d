"""Nodes."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rcl_interfaces.msg import Log, ParameterEvent

from rclpy import executors as executors
from rclpy._arguments import Arguments
from rclpy._membership import Membership
from rclpy._node_checks import check_service_type, logger_name, message_spec, node_identity, profile_of
from rclpy._node_entities import NodeEntities
from rclpy._node_graph import NodeGraph
from rclpy._parameters import Parameters
from rclpy.callback_groups import CallbackGroup, MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.client import Client
from rclpy.clock import Clock, ROSClock
from rclpy.context import Context
from rclpy.event_handler import (
    PublisherEventCallbacks,
    SubscriptionEventCallbacks,
    UnsupportedEventTypeError,
    handlers_of,
)
from rclpy.exceptions import NotInitializedException
from rclpy.guard_condition import GuardCondition
from rclpy.impl import rcutils_logger
from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.logging import get_logger
from rclpy.logging_service import LoggingService
from rclpy.parameter import Parameter
from rclpy.parameter_service import ParameterService
from rclpy.publisher import Publisher, rosout_sink
from rclpy.qos import (
    QoSProfile,
    qos_profile_parameter_events,
    qos_profile_rosout_default,
    qos_profile_services_default,
)
from rclpy.qos_overriding_options import QoSOverridingOptions, overridden
from rclpy.service import Pair, Service
from rclpy.subscription import Subscription
from rclpy.time_source import TimeSource
from rclpy.timer import Rate, Timer
from rclpy.type_description_service import TypeDescriptionService
from rclpy.utilities import get_default_context

if TYPE_CHECKING:
    from rclpy.executors import Executor


class Node(NodeGraph, NodeEntities, Parameters):
    """A node: the owner of publishers, subscriptions, services, clients, timers and parameters."""

    def __init__(
        self,
        node_name: str,
        *,
        context: Context | None = None,
        cli_args: list[str] | None = None,
        namespace: str | None = None,
        use_global_arguments: bool = True,
        enable_rosout: bool = True,
        start_parameter_services: bool = True,
        parameter_overrides: list[Parameter] | None = None,
        allow_undeclared_parameters: bool = False,
        automatically_declare_parameters_from_overrides: bool = False,
        enable_logger_service: bool = False,
    ) -> None:
        self._context = get_default_context() if context is None else context
        if not self._context.ok():
            raise NotInitializedException("cannot create node")
        self._rclpy_init_entities()
        self._default_callback_group = MutuallyExclusiveCallbackGroup()
        self._rate_group = ReentrantCallbackGroup()
        self._rclpy_executor_ref: Callable[[], Executor | None] = lambda: None
        self._rclpy_destroyed = False
        self._rclpy_rosout: Publisher | None = None
        self._allow_undeclared_parameters = allow_undeclared_parameters
        self._rclpy_init_parameters()

        sources = [Arguments(cli_args or [], implicit=True)]
        if use_global_arguments:
            sources.append(self._context._arguments)
        self._rclpy_name, self._rclpy_namespace = node_identity(node_name, namespace or "", sources)
        self._rclpy_rules = [rule for source in sources for rule in source.topic_rules()]
        for source in sources:
            for name, level in source.log_levels.items():
                rcutils_logger.set_level(name, level)
        self._rclpy_logger_name = logger_name(self._rclpy_namespace, self._rclpy_name)
        self._logger = get_logger(self._rclpy_logger_name)

        for source in reversed(sources):
            for name, value in source.parameters_for(self._rclpy_name, self._rclpy_namespace).items():
                self._parameter_overrides[name] = Parameter(name, value=value)
        for parameter in parameter_overrides or []:
            self._parameter_overrides[parameter.name] = parameter

        self._rclpy_membership = Membership(self._context, self._rclpy_name, self._rclpy_namespace)
        self._rclpy_graph, self._rclpy_entry = self._rclpy_membership.graph, self._rclpy_membership.entry
        if enable_rosout and all(source.rosout for source in sources):
            rosout = self._rclpy_rosout = self._rclpy_unlisted_publisher(Log, "/rosout", qos_profile_rosout_default)
            rcutils_logger._sinks[self._rclpy_logger_name] = rosout_sink(rosout)
        self._clock = ROSClock()
        self._parameter_event_publisher = self.create_publisher(
            ParameterEvent, "/parameter_events", qos_profile_parameter_events
        )
        if automatically_declare_parameters_from_overrides:
            self.declare_parameters(
                "", [(name, parameter.value) for name, parameter in self._parameter_overrides.items()], True
            )
        self._time_source = TimeSource(node=self)
        self._time_source.attach_clock(self._clock)
        if start_parameter_services:
            self._parameter_service = ParameterService(self)
        if enable_logger_service:
            self._logger_service = LoggingService(self)
        self._type_description_service = TypeDescriptionService(self)

    # ---- who it is ------------------------------------------------------------------------------------------------

    def get_name(self) -> str:
        return self._rclpy_name

    def get_namespace(self) -> str:
        return self._rclpy_namespace

    def get_fully_qualified_name(self) -> str:
        """Namespace and name, after remaps."""
        return f"/{self._rclpy_name}" if self._rclpy_namespace == "/" else f"{self._rclpy_namespace}/{self._rclpy_name}"

    def get_clock(self) -> Clock:
        return self._clock

    def get_logger(self) -> RcutilsLogger:
        return self._logger

    @property
    def context(self) -> Context:
        return self._context

    @property
    def handle(self) -> Membership:
        """Its place in the graph, which a ``with`` block keeps; InvalidHandle when it was given up."""
        return self._rclpy_membership

    @property
    def default_callback_group(self) -> CallbackGroup:
        return self._default_callback_group

    @property
    def executor(self) -> Executor | None:
        """The executor that runs this node's callbacks."""
        return self._rclpy_executor_ref()

    @executor.setter
    def executor(self, new_executor: Executor | None) -> None:
        current = self.executor
        if current is new_executor:
            return
        self._rclpy_executor_ref = (lambda: None) if new_executor is None else weakref.ref(new_executor)
        if current is not None:
            current.remove_node(self)
        if new_executor is not None:
            new_executor.add_node(self)

    def _rclpy_changed(self) -> None:
        executor = self.executor
        if executor is not None:
            executor.wake()

    # ---- making things --------------------------------------------------------------------------------------------

    def create_publisher(
        self,
        msg_type: Any,
        topic: str,
        qos_profile: QoSProfile | int,
        *,
        callback_group: CallbackGroup | None = None,
        event_callbacks: PublisherEventCallbacks | None = None,
        qos_overriding_options: QoSOverridingOptions | None = None,
        publisher_class: type[Publisher] = Publisher,
    ) -> Publisher:
        """Publish messages of a type on a topic."""
        qos, name, spec = profile_of(qos_profile), self.resolve_topic_name(topic), message_spec(msg_type)
        qos = overridden(Publisher, self, name, qos, qos_overriding_options)
        group = callback_group or self._default_callback_group
        writer = self._rclpy_graph.participant.writer(
            f"rt{name}", spec, self._rclpy_settings(qos, name, spec, writer=True)
        )
        publisher = publisher_class(
            writer,
            msg_type,
            name,
            qos,
            event_callbacks=event_callbacks,
            callback_group=group,
            context=self._context,
            on_destroy=self._rclpy_publisher_gone,
        )
        self._publishers.append(publisher)
        self._rclpy_listen(writer, publisher, event_callbacks or PublisherEventCallbacks(), group, topic)
        self._rclpy_entry.writers.append(writer.guid)
        self._rclpy_graph.announce()
        return publisher

    def _rclpy_unlisted_publisher(self, msg_type: Any, topic: str, qos_profile: QoSProfile) -> Publisher:
        """A publisher that is not among the node's own `publishers`; whoever asked for it destroys it."""
        publisher = self.create_publisher(msg_type, topic, qos_profile)
        self._publishers.remove(publisher)
        return publisher

    def create_subscription(
        self,
        msg_type: Any,
        topic: str,
        callback: Callable[..., Any],
        qos_profile: QoSProfile | int,
        *,
        callback_group: CallbackGroup | None = None,
        event_callbacks: SubscriptionEventCallbacks | None = None,
        qos_overriding_options: QoSOverridingOptions | None = None,
        raw: bool = False,
    ) -> Subscription:
        """Call back with each message of a topic; with `raw`, with its serialised bytes."""
        qos, name, spec = profile_of(qos_profile), self.resolve_topic_name(topic), message_spec(msg_type)
        qos = overridden(Subscription, self, name, qos, qos_overriding_options)
        group = callback_group or self._default_callback_group
        reader = self._rclpy_graph.participant.reader(
            f"rt{name}", spec, self._rclpy_settings(qos, name, spec, writer=False)
        )
        subscription = Subscription(
            reader,
            msg_type,
            name,
            callback,
            group,
            qos,
            raw,
            event_callbacks=event_callbacks,
            logger=self._logger,
            on_destroy=self._rclpy_subscription_gone,
        )
        self._subscriptions.append(subscription)
        group.add_entity(subscription)
        self._rclpy_listen(reader, subscription, event_callbacks or SubscriptionEventCallbacks(), group, topic)
        self._rclpy_entry.readers.append(reader.guid)
        self._rclpy_graph.announce()
        self._rclpy_changed()
        return subscription

    def _rclpy_listen(self, endpoint: Any, owner: Any, callbacks: Any, group: CallbackGroup, topic: str) -> None:
        try:
            owner.event_handlers = handlers_of(callbacks, group, endpoint, topic, get_logger(self._rclpy_logger_name))
        except UnsupportedEventTypeError:
            owner.destroy()
            raise
        self._rclpy_events += owner.event_handlers
        if owner.event_handlers:
            self._rclpy_changed()

    def create_client(
        self,
        srv_type: Any,
        srv_name: str,
        *,
        qos_profile: QoSProfile = qos_profile_services_default,
        callback_group: CallbackGroup | None = None,
    ) -> Client:
        """Call a service."""
        name = self.resolve_service_name(srv_name)
        check_service_type(srv_type)
        group = callback_group or self._default_callback_group
        pair = Pair(self._rclpy_graph, srv_type, name, qos_profile, server=False)
        client = Client(
            pair,
            self._context,
            srv_type,
            name,
            qos_profile,
            group,
            logger=self._logger,
            make_publisher=self._rclpy_unlisted_publisher,
            on_destroy=self._rclpy_client_gone,
        )
        self._clients.append(client)
        group.add_entity(client)
        self._rclpy_add_pair(pair)
        return client

    def create_service(
        self,
        srv_type: Any,
        srv_name: str,
        callback: Callable[[Any, Any], Any],
        *,
        qos_profile: QoSProfile = qos_profile_services_default,
        callback_group: CallbackGroup | None = None,
    ) -> Service:
        """Answer requests: ``callback(request, response)`` returns the response."""
        name = self.resolve_service_name(srv_name)
        check_service_type(srv_type)
        group = callback_group or self._default_callback_group
        pair = Pair(self._rclpy_graph, srv_type, name, qos_profile, server=True)
        service = Service(
            pair,
            srv_type,
            name,
            callback,
            group,
            qos_profile,
            context=self._context,
            logger=self._logger,
            make_publisher=self._rclpy_unlisted_publisher,
            on_destroy=self._rclpy_service_gone,
        )
        self._services.append(service)
        group.add_entity(service)
        self._rclpy_add_pair(pair)
        return service

    def _rclpy_add_pair(self, pair: Pair) -> None:
        self._rclpy_entry.readers.append(pair.reader.guid)
        self._rclpy_entry.writers.append(pair.writer.guid)
        self._rclpy_graph.announce()
        self._rclpy_changed()

    def create_timer(
        self,
        timer_period_sec: float,
        callback: Callable[..., Any] | None,
        callback_group: CallbackGroup | None = None,
        clock: Clock | None = None,
        autostart: bool = True,
    ) -> Timer:
        """Call back every `timer_period_sec` by the node's clock or another."""
        group = callback_group or self._default_callback_group
        period = int(float(timer_period_sec) * 1e9)
        timer = Timer(callback, group, period, clock or self._clock, context=self._context, autostart=autostart)
        self._timers.append(timer)
        group.add_entity(timer)
        self._rclpy_changed()
        return timer

    def create_guard_condition(
        self, callback: Callable[[], Any], callback_group: CallbackGroup | None = None
    ) -> GuardCondition:
        """Call back after `GuardCondition.trigger`."""
        group = callback_group or self._default_callback_group
        guard = GuardCondition(callback, group, self._context)
        self._guards.append(guard)
        group.add_entity(guard)
        self._rclpy_changed()
        return guard

    def create_rate(self, frequency: float, clock: Clock | None = None) -> Rate:
        """Sleep at a rate [Hz] with `Rate.sleep`."""
        if frequency <= 0:
            raise ValueError("frequency must be > 0")
        timer = self.create_timer(1.0 / frequency, None, self._rate_group, clock)
        rate = Rate(timer, context=self._context)
        self._rclpy_rates[rate] = timer
        return rate

    def destroy_node(self) -> None:
        """Destroy the node and everything that it made."""
        if self._rclpy_destroyed:
            return
        self._rclpy_destroyed = True
        executor = self.executor
        if executor is not None:
            executor.remove_node(self)
        rcutils_logger._sinks.pop(self._rclpy_logger_name, None)
        for action in list(self._rclpy_actions):
            action.destroy()
        for rate in list(self._rclpy_rates):
            self.destroy_rate(rate)
        local: list[Any] = [self._timers, self._guards]
        for items in (self._publishers, self._subscriptions, self._clients, self._services, *local):
            for item in list(items):
                item.destroy()
            items.clear()
        if self._rclpy_rosout is not None:
            self._rclpy_rosout.destroy()
        self._rclpy_membership.destroy_when_not_in_use()

    def __enter__(self) -> Node:
        return self

    def __exit__(self, *exc: object) -> None:
        self.destroy_node()
