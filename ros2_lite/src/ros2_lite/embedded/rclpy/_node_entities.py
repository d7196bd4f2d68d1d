"""What a node owns: its publishers, subscriptions, services, clients, timers and guard conditions, and their end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rclpy._entity import Entity
from rclpy._graph import Graph, NodeEntry
from rclpy.client import Client
from rclpy.event_handler import EventHandler
from rclpy.guard_condition import GuardCondition
from rclpy.publisher import Publisher
from rclpy.service import Service
from rclpy.subscription import Subscription
from rclpy.timer import Rate, Timer
from rclpy.waitable import Waitable, WaitableEntity


class NodeEntities:
    """The part of `Node` that keeps and destroys what it made."""

    _rclpy_graph: Graph
    _rclpy_entry: NodeEntry
    _rclpy_destroyed: bool

    def _rclpy_init_entities(self) -> None:
        self._publishers: list[Publisher] = []
        self._subscriptions: list[Subscription] = []
        self._clients: list[Client] = []
        self._services: list[Service] = []
        self._timers: list[Timer] = []
        self._guards: list[GuardCondition] = []
        self._rclpy_events: list[EventHandler] = []
        self._rclpy_waitables: list[WaitableEntity] = []
        self._rclpy_rates: dict[Rate, Timer] = {}
        self._rclpy_hidden: list[Entity] = []  # what actions are made of: handled, and nowhere listed
        self._rclpy_actions: list[Any] = []

    def _rclpy_changed(self) -> None:
        raise NotImplementedError

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

    @property
    def waitables(self) -> Iterator[Any]:
        yield from self._rclpy_events
        yield from [entity.waitable for entity in self._rclpy_waitables]
        yield from self._rclpy_actions

    def add_waitable(self, waitable: Waitable) -> None:
        """Let the executor handle a waitable of one's own."""
        self._rclpy_waitables.append(WaitableEntity(waitable))
        self._rclpy_changed()

    def remove_waitable(self, waitable: Waitable) -> None:
        """Leave a waitable alone from now on.  ValueError when it was not added."""
        index = [entity.waitable for entity in self._rclpy_waitables].index(waitable)
        self._rclpy_waitables.pop(index).destroy()
        self._rclpy_changed()

    def _rclpy_entities(self) -> list[Entity]:
        """Everything that the executor handles, timers first."""
        return [
            *self._timers,
            *self._subscriptions,
            *self._guards,
            *self._clients,
            *self._services,
            *self._rclpy_hidden,
            *self._rclpy_events,
            *self._rclpy_waitables,
        ]

    def destroy_publisher(self, publisher: Publisher) -> bool:
        """Destroy a publisher; False when it is not this node's."""
        return self._rclpy_destroy(publisher, self._publishers)

    def destroy_subscription(self, subscription: Subscription) -> bool:
        return self._rclpy_destroy(subscription, self._subscriptions)

    def destroy_client(self, client: Client) -> bool:
        return self._rclpy_destroy(client, self._clients)

    def destroy_service(self, service: Service) -> bool:
        return self._rclpy_destroy(service, self._services)

    def destroy_timer(self, timer: Timer) -> bool:
        return self._rclpy_drop(timer, self._timers)

    def destroy_guard_condition(self, guard: GuardCondition) -> bool:
        return self._rclpy_drop(guard, self._guards)

    def destroy_rate(self, rate: Rate) -> bool:
        timer = self._rclpy_rates.pop(rate, None)
        if timer is None:
            return False
        rate.destroy()
        return self.destroy_timer(timer)

    def _rclpy_hide(self, made: Any) -> Any:
        """Take what the node just made out of its public lists."""
        for items in (self._publishers, self._subscriptions, self._clients, self._services, self._timers):
            if made in items:
                items.remove(made)  # type: ignore[attr-defined]
        if isinstance(made, Entity):
            self._rclpy_hidden.append(made)
            self._rclpy_changed()
        return made

    def _rclpy_drop(self, item: Any, items: list[Any]) -> bool:
        """Destroy what is no endpoint of the middleware, and so does not say itself that it is gone."""
        if item not in items:
            return False
        items.remove(item)
        item.destroy()
        self._rclpy_changed()
        return True

    def _rclpy_destroy(self, item: Any, items: list[Any]) -> bool:
        if item not in items:
            return False
        item.destroy()
        return True

    def _rclpy_publisher_gone(self, publisher: Publisher) -> None:
        self._rclpy_gone(publisher, self._publishers, [], [publisher.handle])

    def _rclpy_subscription_gone(self, subscription: Subscription) -> None:
        self._rclpy_gone(subscription, self._subscriptions, [subscription.handle], [])

    def _rclpy_client_gone(self, client: Client) -> None:
        self._rclpy_gone(client, self._clients, [client.handle.reader], [client.handle.writer])

    def _rclpy_service_gone(self, service: Service) -> None:
        self._rclpy_gone(service, self._services, [service.handle.reader], [service.handle.writer])

    def _rclpy_gone(self, item: Any, items: list[Any], readers: list[Any], writers: list[Any]) -> None:
        for owner in (items, self._rclpy_hidden):
            if item in owner:
                owner.remove(item)
        for handler in getattr(item, "event_handlers", []):
            handler.destroy()
            self._rclpy_events.remove(handler)
        for mine, theirs in ((self._rclpy_entry.readers, readers), (self._rclpy_entry.writers, writers)):
            for endpoint in theirs:
                if endpoint.guid in mine:
                    mine.remove(endpoint.guid)
        if not self._rclpy_destroyed:
            self._rclpy_graph.announce()
        self._rclpy_changed()
