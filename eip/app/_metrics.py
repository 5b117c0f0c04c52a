"""The metrics of an application: what its consumers, senders and transports count, as families to export."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Final, TypeAlias

from eip import clock
from eip._histogram import Histogram
from eip._logging import get_logger
from eip._repeated import RepeatedLines
from eip.channels import Queue, Transport
from eip.cost import bill, prices
from eip.errors import EipError, error_text
from eip.health import Health
from eip.runtime.consumer import Consumer
from eip.telemetry.families import SYSTEMS, Family, Kind, Labels, Sample, usage_families
from eip.telemetry.meter import UsageMeter

__all__ = ["DepthSampler", "consumer_families", "cost_family", "health_families", "usage_of"]

_log = RepeatedLines(get_logger("eip.app"))

_OUTCOMES: Final = ("handled", "retried", "dead_lettered", "expired", "released", "lost")
_LOOKED_AT_S: Final = 300.0
"""Depths are asked for only while somebody reads them."""


_Consumers: TypeAlias = Callable[[], Iterable[Consumer]]


def consumer_families(consumers: _Consumers) -> Iterator[Family]:
    """The metrics of consumers."""
    for name, kind, unit, description, value in _OF_EACH:
        yield Family(name, kind, unit, description, partial(_read_each, consumers, value))
    yield Family("eip.consumer.messages", "counter", "{message}", "By outcome", partial(_by_outcome, consumers))
    yield Family("eip.dead_letters", "counter", "{message}", "By the kind of reason", partial(_by_reason, consumers))


_OF_EACH: Final[tuple[tuple[str, Kind, str, str, Callable[[Consumer], float | Histogram | None]], ...]] = (
    ("eip.consumer.received", "counter", "{message}", "Messages received", lambda it: it.stats.received),
    ("eip.consumer.in_flight", "gauge", "{message}", "Messages in hand", lambda it: it.stats.in_flight),
    ("eip.lease_losses", "counter", "{lease}", "Leases that ended early", lambda it: it.stats.lost),
    ("eip.pack.messages", "histogram", "{message}", "Messages of each pack received", lambda it: it.stats.pack_sizes),
)


def _read_each(consumers: _Consumers, value: Callable[[Consumer], float | Histogram | None]) -> Iterator[Sample]:
    for consumer in consumers():
        if (found := value(consumer)) is not None:
            yield Sample({"consumer": consumer.name}, found)


def _by_outcome(consumers: _Consumers) -> Iterator[Sample]:
    for consumer in consumers():
        for outcome in _OUTCOMES:
            yield Sample({"consumer": consumer.name, "outcome": outcome}, getattr(consumer.stats, outcome))


def _by_reason(consumers: _Consumers) -> Iterator[Sample]:
    for consumer in consumers():
        for reason, count in list(consumer.stats.reasons.items()):
            yield Sample({"consumer": consumer.name, "reason": reason}, count)


def health_families(parts: Callable[[], Mapping[str, Health]], blocked_for: Callable[[], float]) -> Iterator[Family]:
    """Which parts are well."""

    def up() -> Iterator[Sample]:
        for name, health in parts().items():
            yield Sample({"part": name}, int(health.ok))

    def backlog() -> Iterator[Sample]:
        for name, health in parts().items():
            kind, _, consumer = name.partition(" ")
            if kind == "consumer":
                yield Sample({"consumer": consumer}, health.backlog_age or 0.0)

    def blocked() -> Iterator[Sample]:
        yield Sample({}, blocked_for())

    yield Family("eip.part.up", "gauge", "", "1 where the part is well, 0 where it is not", up)
    yield Family("eip.consumer.backlog_age", "gauge", "s", "Age of the oldest message in hand", backlog)
    yield Family("eip.loop.blocked", "gauge", "s", "For how long the event loop has been blocked", blocked)


def usage_of(transport: Transport) -> Iterator[Family]:
    """The calls of the transport and what they cost, where a `UsageMeter` records them."""
    meter = getattr(transport, "meter", None)
    if isinstance(meter, UsageMeter):
        yield from usage_families(meter)
        yield cost_family(meter, getattr(transport, "region", None))


def cost_family(meter: UsageMeter, region: str | None) -> Family:
    """Dollars by service and channel, at the list prices of the region; nothing where these are not known."""

    def read() -> Iterator[Sample]:
        try:
            costs = bill(meter.usage(), prices(region or "us-east-1")).by_channel()
        except EipError as error:
            _log.warning("prices_unknown", region=region, error=error_text(error))
            return
        for (service, channel), dollars in costs.items():
            yield Sample({"system": SYSTEMS.get(service, service), "channel": channel}, dollars)

    return Family("eip.cost", "counter", "USD", "What the calls cost at list prices", read)


class DepthSampler:
    """Asks queues how many messages they hold, every ``interval`` while somebody reads the answers.

    Args:
        queues: what to ask.
        interval: seconds; each look at a queue is a billed call on SQS.
    """

    def __init__(self, queues: Iterable[Queue], interval: float) -> None:
        self._queues, self._interval = list(queues), interval
        self._found: dict[str, Mapping[str, int]] = {}
        self._read_at: float | None = None

    def family(self) -> Family:
        """The depths of the last look, by queue and state."""
        return Family("eip.queue.depth", "gauge", "{message}", "About how many messages a queue holds", self._read)

    def _read(self) -> Iterator[Sample]:
        self._read_at = clock.now()
        for queue, depth in list(self._found.items()):
            for state, count in depth.items():
                labels: Labels = {"queue": queue, "state": state}
                yield Sample(labels, count)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            if self._read_at is not None and clock.now() - self._read_at < _LOOKED_AT_S:
                for queue in self._queues:
                    await self._look(queue)
                await asyncio.sleep(self._interval)
            else:
                await asyncio.sleep(min(self._interval, 1.0))

    async def _look(self, queue: Queue) -> None:
        try:
            found = await queue.depth()
        except Exception as error:  # noqa: BLE001 - a queue that cannot be asked must not end the looks
            self._found.pop(queue.name, None)
            _log.warning("depth_unknown", channel=queue.name, error=error_text(error))
        else:
            if found is not None:
                self._found[queue.name] = found
