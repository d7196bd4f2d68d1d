"""Nodes."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from rcl_interfaces.msg import Log, ParameterEvent
from ros2_lite.messages import registry

from rclpy import executors as executors
from rclpy._arguments import Arguments
from rclpy._entity import Entity
from rclpy._node_checks import check_service_type, logger_name, message_spec, node_identity, profile_of
from rclpy._node_graph import NodeGraph
from rclpy._parameters import Parameters
from rclpy.callback_groups import CallbackGroup, MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.client import Client
from rclpy.clock import Clock, ROSClock
from rclpy.context import Context
from rclpy.event_handler import (
    EventHandler,
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


class Node(NodeGraph, Parameters):
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
        self._publishers: list[Publisher] = []
        self._subscriptions: list[Subscription] = []
        self._clients: list[Client] = []
        self._services: list[Service] = []
        self._timers: list[Timer] = []
        self._guards: list[GuardCondition] = []
        self._events: list[EventHandler] = []
        self._rates: dict[Rate, Timer] = {}
        self._default_callback_group = MutuallyExclusiveCallbackGroup()
        self._rate_group = ReentrantCallbackGroup()
        self._executor_ref: Callable[[], Executor | None] = lambda: None
        self._destroyed = False
        self._rosout: Publisher | None = None
        self._allow_undeclared_parameters = allow_undeclared_parameters
        self._init_parameters()

        sources = [Arguments(cli_args or [], implicit=True)]
        if use_global_arguments:
            sources.append(self._context._arguments)
        self._name, self._namespace = node_identity(node_name, namespace or "", sources)
        self._rules = [rule for source in sources for rule in source.topic_rules()]
        for source in sources:
            for name, level in source.log_levels.items():
                rcutils_logger.set_level(name, level)
        self._logger = get_logger(logger_name(self._namespace, self._name))

        for source in reversed(sources):
            for name, value in source.parameters_for(self._name, self._namespace).items():
                self._parameter_overrides[name] = Parameter(name, value=value)
        for parameter in parameter_overrides or []:
            self._parameter_overrides[parameter.name] = parameter

        self._graph = self._context._join()
        self._entry = self._graph.add_node(self._name, self._namespace)
        if enable_rosout and all(source.rosout for source in sources):
            rosout = self.create_publisher(Log, "/rosout", qos_profile_rosout_default)
            self._publishers.remove(rosout)
            self._rosout = rosout
            rcutils_logger._sinks[self._logger.name] = rosout_sink(rosout)
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
        return self._name

    def get_namespace(self) -> str:
        return self._namespace

    def get_fully_qualified_name(self) -> str:
        """Namespace and name, after remaps."""
        return f"/{self._name}" if self._namespace == "/" else f"{self._namespace}/{self._name}"

    def get_clock(self) -> Clock:
        return self._clock

    def get_logger(self) -> RcutilsLogger:
        return self._logger

    @property
    def context(self) -> Context:
        return self._context

    @property
    def handle(self) -> Node:
        return self

    @property
    def default_callback_group(self) -> CallbackGroup:
        return self._default_callback_group

    @property
    def publishers(self) -> Iterator[Publisher]:
        yield from self._publishers

    @property
    def subscriptions(self) -> Iterator[Subscription]:
        yield from self._subscriptions

    @property
    def clients(self) -> Iterator[Client]:
        yield from self._clients

    @property
    def services(self) -> Iterator[Service]:
        yield from self._services

    @property
    def timers(self) -> Iterator[Timer]:
        yield from self._timers

    @property
    def guards(self) -> Iterator[GuardCondition]:
        yield from self._guards

    def _entities(self) -> list[Entity]:
        """Everything that the executor handles, timers first."""
        return [
            *self._timers,
            *self._subscriptions,
            *self._guards,
            *self._clients,
            *self._services,
            *self._events,
        ]

    @property
    def executor(self) -> Executor | None:
        """The executor that runs this node's callbacks."""
        return self._executor_ref()

    @executor.setter
    def executor(self, new_executor: Executor | None) -> None:
        current = self.executor
        if current is new_executor:
            return
        self._executor_ref = (lambda: None) if new_executor is None else weakref.ref(new_executor)
        if current is not None:
            current.remove_node(self)
        if new_executor is not None:
            new_executor.add_node(self)

    def _changed(self) -> None:
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
        settings = qos._to_dds(f"typehash={registry.hash_of(spec.name)};".encode())
        writer = self._graph.participant.writer(f"rt{name}", spec, settings)
        publisher = publisher_class(
            writer,
            msg_type,
            name,
            qos,
            event_callbacks=event_callbacks,
            callback_group=group,
            context=self._context,
            on_destroy=self._publisher_gone,
        )
        self._publishers.append(publisher)
        self._listen(writer, publisher, event_callbacks or PublisherEventCallbacks(), group)
        self._entry.writers.append(writer.guid)
        self._graph.announce()
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
        settings = qos._to_dds(f"typehash={registry.hash_of(spec.name)};".encode())
        reader = self._graph.participant.reader(f"rt{name}", spec, settings)
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
            on_destroy=self._subscription_gone,
        )
        self._subscriptions.append(subscription)
        group.add_entity(subscription)
        self._listen(reader, subscription, event_callbacks or SubscriptionEventCallbacks(), group)
        self._entry.readers.append(reader.guid)
        self._graph.announce()
        self._changed()
        return subscription

    def _listen(self, endpoint: Any, owner: Any, callbacks: Any, group: CallbackGroup) -> None:
        try:
            owner.event_handlers = handlers_of(callbacks, group, endpoint, owner.topic, self._logger)
        except UnsupportedEventTypeError:
            owner.destroy()
            raise
        self._events += owner.event_handlers
        if owner.event_handlers:
            self._changed()

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
        pair = Pair(self._graph, srv_type, name, qos_profile, server=False)
        client = Client(
            pair,
            self._context,
            srv_type,
            name,
            qos_profile,
            group,
            logger=self._logger,
            on_destroy=self._client_gone,
        )
        self._clients.append(client)
        group.add_entity(client)
        self._add_pair(pair)
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
        pair = Pair(self._graph, srv_type, name, qos_profile, server=True)
        service = Service(
            pair,
            srv_type,
            name,
            callback,
            group,
            qos_profile,
            context=self._context,
            logger=self._logger,
            on_destroy=self._service_gone,
        )
        self._services.append(service)
        group.add_entity(service)
        self._add_pair(pair)
        return service

    def _add_pair(self, pair: Pair) -> None:
        self._entry.readers.append(pair.reader.guid)
        self._entry.writers.append(pair.writer.guid)
        self._graph.announce()
        self._changed()

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
        self._changed()
        return timer

    def create_guard_condition(
        self, callback: Callable[[], Any], callback_group: CallbackGroup | None = None
    ) -> GuardCondition:
        """Call back after `GuardCondition.trigger`."""
        group = callback_group or self._default_callback_group
        guard = GuardCondition(callback, group, self._context)
        self._guards.append(guard)
        group.add_entity(guard)
        self._changed()
        return guard

    def create_rate(self, frequency: float, clock: Clock | None = None) -> Rate:
        """Sleep at a rate [Hz] with `Rate.sleep`."""
        if frequency <= 0:
            raise ValueError("frequency must be > 0")
        timer = self.create_timer(1.0 / frequency, None, self._rate_group, clock)
        rate = Rate(timer, context=self._context)
        self._rates[rate] = timer
        return rate

    # ---- destroying them ------------------------------------------------------------------------------------------

    def destroy_publisher(self, publisher: Publisher) -> bool:
        """Destroy a publisher; False when it is not this node's."""
        return self._destroy(publisher, self._publishers)

    def destroy_subscription(self, subscription: Subscription) -> bool:
        return self._destroy(subscription, self._subscriptions)

    def destroy_client(self, client: Client) -> bool:
        return self._destroy(client, self._clients)

    def destroy_service(self, service: Service) -> bool:
        return self._destroy(service, self._services)

    def destroy_timer(self, timer: Timer) -> bool:
        return self._drop(timer, self._timers)

    def destroy_guard_condition(self, guard: GuardCondition) -> bool:
        return self._drop(guard, self._guards)

    def destroy_rate(self, rate: Rate) -> bool:
        timer = self._rates.pop(rate, None)
        if timer is None:
            return False
        rate.destroy()
        return self.destroy_timer(timer)

    def _drop(self, item: Any, items: list[Any]) -> bool:
        """Destroy what is no endpoint of the middleware, and so does not say itself that it is gone."""
        if item not in items:
            return False
        items.remove(item)
        item.destroy()
        self._changed()
        return True

    def _destroy(self, item: Any, items: list[Any]) -> bool:
        if item not in items:
            return False
        item.destroy()
        return True

    def _publisher_gone(self, publisher: Publisher) -> None:
        self._gone(publisher, self._publishers, [], [publisher.handle])

    def _subscription_gone(self, subscription: Subscription) -> None:
        self._gone(subscription, self._subscriptions, [subscription.handle], [])

    def _client_gone(self, client: Client) -> None:
        self._gone(client, self._clients, [client.handle.reader], [client.handle.writer])

    def _service_gone(self, service: Service) -> None:
        self._gone(service, self._services, [service.handle.reader], [service.handle.writer])

    def _gone(self, item: Any, items: list[Any], readers: list[Any], writers: list[Any]) -> None:
        if item in items:
            items.remove(item)
        for handler in getattr(item, "event_handlers", []):
            handler.destroy()
            self._events.remove(handler)
        for mine, theirs in ((self._entry.readers, readers), (self._entry.writers, writers)):
            for endpoint in theirs:
                if endpoint.guid in mine:
                    mine.remove(endpoint.guid)
        if not self._destroyed:
            self._graph.announce()
        self._changed()

    def destroy_node(self) -> None:
        """Destroy the node and everything that it made."""
        if self._destroyed:
            return
        self._destroyed = True
        executor = self.executor
        if executor is not None:
            executor.remove_node(self)
        rcutils_logger._sinks.pop(self._logger.name, None)
        for rate in list(self._rates):
            self.destroy_rate(rate)
        local: list[Any] = [self._timers, self._guards]
        for items in (self._publishers, self._subscriptions, self._clients, self._services, *local):
            for item in list(items):
                item.destroy()
            items.clear()
        if self._rosout is not None:
            self._rosout.destroy()
        self._graph.remove_node(self._entry)
        self._context._release()

    def __enter__(self) -> Node:
        return self

    def __exit__(self, *exc: object) -> None:
        self.destroy_node()
