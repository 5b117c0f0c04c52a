"""The subject of a console: the parts of an application, or of any program that works with a transport."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TypeAlias

from eip.app import App, ChannelInfo
from eip.app._channels import Channels
from eip.app._metrics import consumer_families
from eip.app.journal import Journal
from eip.channels import Queue, Transport
from eip.health import Health
from eip.runtime.consumer import Consumer
from eip.runtime.handlers import name_of
from eip.runtime.service import Service
from eip.telemetry.families import Family
from eip.topology import QueueSpec, RuleSpec, SubscriptionSpec, Topology

__all__ = ["DeadLetterQueue", "Reader", "Subject"]

_Sources: TypeAlias = dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A handler and the channel that it reads."""

    consumer: str
    """The consumer's name, by which it is counted."""
    handler: str
    """The name of its function."""
    channel: ChannelInfo | None
    """None: a channel of another transport."""
    source: str
    """The name of the channel that its dead letters name as their source: a queue's, also of a subscription."""
    output: str | None = None
    dead_letters: str | None = None
    """Where what it can never handle goes; None: to the dead-letter queue of its channel."""
    message_types: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeadLetterQueue:
    """A queue of dead letters, and the queues that they may have failed on."""

    name: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The subject of a console, which it shows and operates; `of` makes one of an application.

    Args:
        name: shown in the title.
        transport: open while the console is.
        topology: the channels, with their dead-letter queues.
        consumers: those that run in this process.
        services: those of this process: process managers, schedulers and scatter-gathers are shown with what they hold.
        families: the metrics, see `eip.telemetry.families`; default: what the consumers count.
        parts: the health of each part; default: of the transport, the services and the consumers.
        readers: the handlers; default: those of ``consumers``.
        publications: the channels that are sent to by others than handlers.
        journal: what its messages went through.
    """

    name: str
    transport: Transport
    topology: Topology = field(default_factory=Topology)
    consumers: Callable[[], Iterable[Consumer]] = tuple
    services: Callable[[], Iterable[object]] = tuple
    families: Callable[[], Iterable[Family]] | None = None
    parts: Callable[[], Mapping[str, Health]] | None = None
    readers: Callable[[], Iterable[Reader]] | None = None
    publications: Callable[[], Iterable[ChannelInfo]] = tuple
    journal: Journal | None = None

    @classmethod
    def of(cls, app: App) -> Subject:
        """An application, whether it runs or is only looked at (`eip.App.inspected`)."""
        return cls(
            name=app.name,
            transport=app.transport,
            topology=app.topology,
            consumers=lambda: app.consumers,
            services=lambda: app.services,
            families=app.families,
            parts=lambda: app.parts() if app.is_open else {"transport": app.transport.health()},
            readers=lambda: _readers_of(app),
            publications=lambda: _publications_of(app),
            journal=app.journal,
        )

    def all_readers(self) -> list[Reader]:
        """The handlers, each with the channel that it reads."""
        return list(map(_reader_of, self.consumers()) if self.readers is None else self.readers())

    def all_families(self) -> Iterable[Family]:
        """The metrics."""
        return consumer_families(self.consumers) if self.families is None else self.families()

    def all_parts(self) -> Mapping[str, Health]:
        """The health of each part."""
        if self.parts is not None:
            return self.parts()
        services = {f"service {each.name}": each.health() for each in self.services() if isinstance(each, Service)}
        consumers = {f"consumer {each.name}": each.health() for each in self.consumers()}
        return {"transport": self.transport.health(), **services, **consumers}

    def dead_letter_queues(self) -> list[DeadLetterQueue]:
        """The queues of dead letters that are known, by name."""
        sources: _Sources = {}
        for each in self.topology.resources:
            if isinstance(each, QueueSpec):
                _add(sources, each.dead_letter_name, each.name)
            elif isinstance(each, SubscriptionSpec):
                _add(sources, each.undelivered_name, each.target.name)
            elif isinstance(each, RuleSpec):
                _add(sources, each.undelivered_name, *() if each.target is None else (each.target.name,))
        for reader in self.all_readers():
            _add(sources, reader.dead_letters, reader.source)
        return [DeadLetterQueue(name, sources[name]) for name in sorted(sources)]

    def queues(self) -> dict[str, Queue]:
        """All queues that are known and are not for dead letters, by name."""
        dead = {each.name for each in self.dead_letter_queues()}
        declared = (each.name for each in self.topology.resources if isinstance(each, QueueSpec))
        channels = (each.channel for each in self.all_readers() if each.channel is not None)
        used = (each.name for each in (*channels, *self.publications()) if each.kind == "queue")
        return {name: self.transport.queue(name) for name in dict.fromkeys((*declared, *used)) if name not in dead}


def _add(sources: _Sources, dead_letters: str | None, *failed_on: str) -> None:
    if dead_letters is not None:
        sources[dead_letters] = tuple(dict.fromkeys((*sources.get(dead_letters, ()), *failed_on)))


def _readers_of(app: App) -> list[Reader]:
    channels = Channels(app.transport, app.topology)
    found = []
    for info, running in zip_longest(app.handlers, app.consumers):
        if info is None:
            break
        if running is not None:
            source = running.source.name
        else:
            source = "" if info.channel is None else channels.source(info.channel).name
        found.append(
            Reader(
                consumer=running.name if running is not None else info.options.get("name") or source or info.name,
                handler=info.name.rpartition("<locals>.")[2],
                channel=info.channel,
                source=source,
                output=info.output,
                dead_letters=info.dead_letters,
                message_types=tuple(info.message_types),
            )
        )
    return found


def _publications_of(app: App) -> list[ChannelInfo]:
    """The channels that others than handlers send to, as far as is known."""
    by_handlers = {name for each in app.handlers for name in (each.output, each.dead_letters)}
    return [each.channel for each in app.publications if each.channel.name not in by_handlers]


def _reader_of(consumer: Consumer) -> Reader:
    return Reader(
        consumer=consumer.name,
        handler=name_of(consumer.handler).rpartition("<locals>.")[2],
        channel=ChannelInfo("queue", consumer.source.name) if isinstance(consumer.source, Queue) else None,
        source=consumer.source.name,
        output=None if consumer.output is None else consumer.output.name,
    )
