"""From the names and specifications that an application uses to the channels of its transport, once that is open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias, assert_never

from typing_extensions import override

from eip.app.declarations import ChannelInfo, ChannelKind
from eip.channels import Bus, Filter, Queue, Sender, Source, Stream, Topic, Transport
from eip.errors import ConfigurationError, StateError
from eip.message import Message
from eip.topology import BusSpec, QueueSpec, RuleSpec, StreamSpec, SubscriptionSpec, TopicSpec, Topology

__all__ = ["ChannelSpec", "Channels", "DeclaredSender"]

ChannelSpec: TypeAlias = str | QueueSpec | TopicSpec | BusSpec | StreamSpec | SubscriptionSpec | RuleSpec
"""A channel by its name, or by what declares it."""

_KINDS: Mapping[type, ChannelKind] = {TopicSpec: "topic", BusSpec: "bus", StreamSpec: "stream", QueueSpec: "queue"}


class Channels:
    """Finds channels by what the topology declares; a name that it does not declare is a queue's.

    Args:
        transport: of the channels.
        topology: declares them.
    """

    def __init__(self, transport: Transport, topology: Topology) -> None:
        self._transport = transport
        self._declared = {(type(each), each.name): each for each in topology.resources}
        self._subscriptions = {
            (each.topic, each.name): each for each in topology.resources if isinstance(each, SubscriptionSpec)
        }
        self._rules = {(each.bus, each.name): each for each in topology.resources if isinstance(each, RuleSpec)}

    def info(self, spec: ChannelSpec, subscription: str | None = None) -> ChannelInfo:
        """Which channel is meant.

        Args:
            spec: the channel.
            subscription: of a topic, bus or stream: its subscription, rule or group.

        Raises:
            TypeError: neither a name nor a specification.
            ConfigurationError: a subscription of a queue.
        """
        match spec:
            case SubscriptionSpec():
                return ChannelInfo("topic", spec.topic, spec.name)
            case RuleSpec():
                return ChannelInfo("bus", spec.bus, spec.name)
            case str():
                found = ChannelInfo(self._kind(spec), spec, subscription)
            case QueueSpec() | TopicSpec() | BusSpec() | StreamSpec():
                found = ChannelInfo(_KINDS[type(spec)], spec.name, subscription)
            case _:
                raise TypeError(f"a channel must be a name or a specification such as QueueSpec, got {spec!r}")
        if subscription is not None and found.kind == "queue":
            raise ConfigurationError(
                f"subscription is for topics, buses and streams; the topology declares no such {found.name!r}, "
                f"got subscription={subscription!r}"
            )
        return found

    def _kind(self, name: str) -> ChannelKind:
        for declared, kind in _KINDS.items():
            if (declared, name) in self._declared:
                return kind
        return "queue"

    def sender(self, channel: ChannelInfo) -> Sender:
        """The channel as messages are sent to it; the transport must be open."""
        return self._channel(channel)

    def _channel(self, channel: ChannelInfo) -> Queue | Topic | Bus | Stream:
        match channel.kind:
            case "queue":
                return self._transport.queue(channel.name)
            case "topic":
                return self._transport.topic(channel.name)
            case "bus":
                return self._transport.bus(channel.name)
            case "stream":
                return self._transport.stream(channel.name)
            case kind:
                assert_never(kind)

    def source(self, channel: ChannelInfo) -> Source:
        """The channel as a consumer reads it; the transport must be open.

        Raises:
            ConfigurationError: a topic, bus or stream without a subscription.
        """
        found, name = self._channel(channel), channel.subscription
        if isinstance(found, Queue):
            return found
        if name is None:
            raise ConfigurationError(f"{channel}: give the consumer subscription=..., whose messages it shares")
        if isinstance(found, Stream):
            return found.group(name)
        if isinstance(found, Bus):
            return self._of_rule(found, name)
        return self._of_subscription(found, name)

    def filter(self, channel: ChannelInfo) -> Filter | None:
        """What the consumer has to evaluate itself, as its subscription is a queue with a name of its own."""
        name = channel.subscription or ""
        if channel.kind == "bus":
            rule = self._rules.get((channel.name, name))
            return rule.pattern if rule is not None and rule.queue is not None else None
        spec = self._subscriptions.get((channel.name, name))
        return spec.filter if spec is not None and _is_renamed(spec) else None

    def _of_subscription(self, topic: Topic, name: str) -> Source:
        spec = self._subscriptions.get((topic.name, name))
        if spec is not None and _is_renamed(spec):
            return self._transport.queue(spec.target.name)
        return topic.subscription(name, filter=None if spec is None else spec.filter)

    def _of_rule(self, bus: Bus, name: str) -> Source:
        spec = self._rules.get((bus.name, name))
        if spec is not None and spec.queue is not None:
            return self._transport.queue(spec.queue.name)
        return bus.subscription(name, pattern=None if spec is None else spec.pattern)


def _is_renamed(spec: SubscriptionSpec) -> bool:
    """Whether its queue has another name than `eip.Topic.subscription` expects."""
    return spec.target.name != SubscriptionSpec(spec.topic, spec.name).target.name


class DeclaredSender(Sender):
    """A channel of an application, by its name: made before the application is open, sends while it is.

    Args:
        name: of the channel.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._sender: Sender | None = None

    def bind(self, sender: Sender | None) -> None:
        """Send there from now on; None: the application is closed."""
        self._sender = sender
        if sender is not None:
            self.address, self.limits, self.system = sender.address, sender.limits, sender.system

    @override
    async def send(self, *messages: Message[Any], **options: Any) -> None:
        """Send while the application is open; ``options`` (a queue's ``delay``) are passed on."""
        if self._sender is None:
            raise StateError(f"{self.name}: the application is not open; send inside its `async with`")
        await self._sender.send(*messages, **options)

    def __repr__(self) -> str:
        return f"<DeclaredSender {self.name} {'closed' if self._sender is None else 'open'}>"
