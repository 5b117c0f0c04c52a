"""Replay: events and messages of the past, sent once more.

    await bus.archives.create("orders", retention=timedelta(days=30))          # or declared: `eip.topology.ArchiveSpec`
    replay = await start_replay(bus, "orders", start=monday, end=tuesday, rules=["billing"])
    async for status in replay.watch():
        print(f"{status.state} {status.progress:.0%}")

Of an event bus the service replays, to all rules or to chosen ones; of a stream `replay_stream` reads a group of its
own from a timestamp on; of a queue or a topic `replay_messages` sends what an `eip.patterns.message_store` kept.

A replayed message names its replay: `eip.Message.replay_name`, ``{"replay-name": [{"exists": true}]}`` in patterns. It
has the id that it had before, so an idempotent receiver takes it for a duplicate, unless it handles replays again
(``idempotent(store, replays=True)``: once per replay). Delivery stays at-least-once. A bus replays the events of each
minute in any order.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterable, AsyncIterator, Collection
from typing import Any, Final

from eip import clock
from eip._checks import check_instant
from eip._ids import new_id
from eip._logging import get_logger
from eip.channels import Bus, Delivery, Filter, Sender, Source
from eip.clock import Duration, Instant, seconds
from eip.errors import ConfigurationError, TransportError
from eip.matching import as_predicate
from eip.message import Message
from eip.topology.archives import Archives, HasArchives, ReplayState, ReplayStatus

__all__ = ["Instant", "Replay", "replay_messages", "replay_stream", "start_replay", "timestamp"]

_log = get_logger("eip.replay")

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_BATCH: Final = 10


def timestamp(instant: Instant) -> float:
    """The instant in seconds since the epoch; kept for one release.

    Raises:
        TypeError: neither a number nor a datetime.
        ConfigurationError: a datetime without a time zone, or a time before 1970 or after the year 9999.
    """
    return check_instant("instant", instant)


class Replay:
    """A replay of a bus's archive, started here or elsewhere; what it is doing is known to the service only.

    Args:
        bus: the archive's own.
        name: of the replay.
    """

    def __init__(self, bus: Bus, name: str) -> None:
        self.name = name
        self._archives = _archives(bus)

    async def status(self) -> ReplayStatus:
        """How it is now; raises `ChannelNotFound` for a replay that was never started, or 90 days ago."""
        return await self._archives.describe_replay(self.name)

    async def watch(self, *, interval: Duration = 5.0) -> AsyncIterator[ReplayStatus]:
        """How it is, each ``interval`` seconds (or timedelta), until it is over; the last one tells how it ended."""
        while True:
            status = await self.status()
            yield status
            if status.state.over:
                return
            await asyncio.sleep(seconds(interval))

    async def wait(self, *, interval: Duration = 5.0) -> ReplayStatus:
        """Return when it is over, asking each ``interval`` seconds; raises `TransportError` where it failed."""
        status = [each async for each in self.watch(interval=interval)][-1]
        if status.state is ReplayState.FAILED:
            raise TransportError(f"replay {self.name} failed: {status.reason or 'no reason given'}")
        return status

    async def cancel(self) -> ReplayStatus:
        """End it; what was replayed already stays replayed. Raises `Conflict` where it is over."""
        return await self._archives.cancel_replay(self.name)

    def __repr__(self) -> str:
        return f"<Replay {self.name}>"


async def start_replay(
    bus: Bus,
    archive: str,
    *,
    start: Instant,
    end: Instant,
    rules: Collection[str] = (),
    name: str | None = None,
    description: str = "",
) -> Replay:
    """Have the bus's events of that window sent to its rules once more.

    Args:
        bus: the archive's own; another is refused.
        archive: its name.
        start: of the window: the time when the bus took an event counts.
        end: of the window, after its start. EventBridge asks to wait ten minutes until all events are archived.
        rules: those that get the events; none: all.
        name: unique among those of the last 90 days; default: the archive's with a random end.
        description: for people, at most 512 characters.

    Raises:
        ConfigurationError: a window that is none, an archive that is unknown or another bus's, a transport without
            archives.
        Conflict: a name that was used.
        Throttled: ten replays run already.
    """
    name = name or f"{archive[:40]}-{new_id()[:16]}"
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"{name!r} is no name of a replay: at most 64 letters, digits, and ._-")
    archives = _archives(bus)
    window = {"start": check_instant("start", start), "end": check_instant("end", end)}
    await archives.start_replay(name, archive=archive, **window, rules=tuple(rules), description=description)
    _log.info("replay_started", replay=name, archive=archive, bus=bus.name)
    return Replay(bus, name)


def _archives(bus: Bus) -> Archives:
    if not isinstance(bus, HasArchives):
        raise ConfigurationError(f"{bus.name} ({type(bus).__name__}) has no archives")
    return bus.archives


async def replay_messages(
    messages: AsyncIterable[Message[Any]],
    to: Sender,
    *,
    name: str,
    filter: Filter | None = None,  # noqa: A002 - the library's term
    rate: float | None = None,
) -> int:
    """Send the messages, in their order, with the replay's name; returns how many were sent.

    A message is sent again under its id; on FIFO channels with a deduplication id of the replay, so that the same
    replay started twice within five minutes is dropped and another one is not.

    Args:
        messages: of `eip.patterns.message_store.MessageStore.messages`, or any others.
        to: usually the channel that they were sent to.
        name: of the replay.
        filter: only those are sent.
        rate: messages a second at most.
    """
    pace = _Pace(to, name, filter, rate)
    batch: list[Message[Any]] = []
    async for message in messages:
        batch.append(message)
        if len(batch) == _BATCH:
            await pace.turn()
            await pace.send(batch)
            batch = []
    if batch:
        await pace.turn()
        await pace.send(batch)
    _log.info("replayed", replay=name, to=to.name, messages=pace.sent)
    return pace.sent


async def replay_stream(
    group: Source,
    to: Sender,
    *,
    name: str,
    until: Instant | None = None,
    filter: Filter | None = None,  # noqa: A002 - the library's term
    rate: float | None = None,
    idle: Duration = 30.0,
) -> int:
    """Send a stream's messages with the replay's name, each key in its order; returns how many were sent.

    The group must be the replay's own, new, and start at the time from which on is replayed:
    ``stream.group("again-2026-11", start=yesterday)``. Each message is sent before its record counts as done, so a
    replay that was killed goes on when it is started again, and sends a few messages twice.

    Args:
        group: reads the stream.
        to: where the messages go.
        name: of the replay.
        until: messages created later are left out; default: now.
        filter: only those are sent.
        rate: messages a second at most.
        idle: it is over when nothing from before ``until`` came for so long (seconds or timedelta); longer than a new
            group takes to get hold of the stream's shards.
    """
    last = clock.now() if until is None else check_instant("until", until)
    loop, patience, quiet = asyncio.get_running_loop(), seconds(idle), 0.0
    pace = _Pace(to, name, filter, rate)
    async with group.receiver(capacity=_BATCH) as receiver:
        while quiet < patience:
            await pace.turn()  # with nothing on lease
            started = loop.time()
            taken = await receiver.receive(_BATCH, wait=patience - quiet)
            due = [message for message in map(_readable, taken) if message is not None and message.created_at <= last]
            await pace.send(due)
            quiet = 0.0 if due else quiet + loop.time() - started
            for failed in await receiver.ack(taken):
                raise failed.error
    _log.info("replayed", replay=name, to=to.name, messages=pace.sent)
    return pace.sent


def _readable(delivery: Delivery) -> Message[Any] | None:
    """The message; None, and a line in the log, where it cannot be read: in the stream it stays."""
    if delivery.error is None:
        return delivery.message
    _log.warning("not_replayed", message_id=delivery.message.id, error=str(delivery.error))
    return None


class _Pace:
    """Sends what is wanted under the replay's name, evenly."""

    def __init__(self, to: Sender, name: str, filter: Filter | None, rate: float | None) -> None:  # noqa: A002
        if not _NAME.fullmatch(name):
            raise ConfigurationError(f"{name!r} is no name of a replay: at most 64 letters, digits, and ._-")
        if rate is not None and rate <= 0:
            raise ConfigurationError("a rate is more than 0 messages a second")
        self.sent = 0
        self._to, self._name, self._rate = to, name, rate
        self._wants = None if filter is None else as_predicate(filter)
        self._next = 0.0

    async def turn(self) -> None:
        """Wait until the rate allows the next messages."""
        await asyncio.sleep(max(self._next - asyncio.get_running_loop().time(), 0.0))

    async def send(self, messages: Collection[Message[Any]]) -> None:
        wants = self._wants
        due = [_renamed(each, self._name) for each in messages if wants is None or wants(each)]
        if not due:
            return
        if self._rate is not None:
            self._next = max(self._next, asyncio.get_running_loop().time()) + len(due) / self._rate
        await self._to.send(*due)
        self.sent += len(due)


def _renamed(message: Message[Any], replay: str) -> Message[Any]:
    """The message as a replay brings it; one that had expired does not expire again."""
    envelope: dict[str, Any] = {"headers": {**message.headers, "replay-name": replay}, "expires_at": None}
    if message.group_id is not None:
        first = message.deduplication_id or message.id
        envelope["deduplication_id"] = hashlib.sha256(f"{replay}\0{first}".encode()).hexdigest()
    return message.replace(**envelope)
