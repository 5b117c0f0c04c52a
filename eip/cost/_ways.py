"""The ways to carry a flow, each priced."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from eip.cost._carried import Load, carried
from eip.cost._limits import broker_limits, bus_limits, fifo_limits, lost, needs_fan_out, shards, stream_limits, unfit
from eip.cost.alternatives import Alternative, Item, Packing
from eip.cost.prices import GB, MILLION, Prices
from eip.cost.profile import HOURS, SECONDS, Profile
from eip.cost.services import quota

__all__ = ["Ways"]

_DAY: Final = 86_400.0
_OF_A_LOG: Final = (
    "filters, as each consumer reads all",
    "going on behind a failing message, as it holds up its shard",
    "input transformation",
)


class Ways:
    """Makes the alternatives of one profile at one price list."""

    def __init__(self, profile: Profile, prices: Prices) -> None:
        self.profile, self.prices = profile, prices

    def queue(self, packing: Packing, *, fifo: bool) -> Alternative:
        """One queue, for one consumer."""
        profile = self.profile
        on_wire = carried(profile, "sqs", packing, fifo=fifo)
        items = [self._sent("sqs", on_wire, fifo=fifo), *self._consumed(on_wire, [1.0], fifo=fifo)]
        return Alternative(
            name=_named("SQS FIFO" if fifo else "SQS", packing),
            items=tuple(items),
            received=profile.messages,
            unfit=tuple(unfit(profile, "sqs", fifo=fifo)),
            limits=tuple(fifo_limits(profile, "sqs", on_wire) if fifo else ()),
            lost=tuple(lost(profile, packing, "more than one consumer", "filters", "replay", fifo=fifo)),
        )

    def topic(self, packing: Packing, *, fifo: bool, filtered: bool, one_by_one: bool = False) -> Alternative:
        """A topic with a queue per consumer; filters in front of the queues where ``filtered``."""
        profile = self.profile
        on_wire = carried(profile, "sns", packing, fifo=fifo)
        shares = profile.shares if filtered else (1.0,) * profile.consumers
        items = [
            self._sent("sns", on_wire, fifo=fifo, one_by_one=one_by_one),
            *self._consumed(on_wire, shares, fifo=fifo, one_by_one=one_by_one),
        ]
        if fifo:
            delivered = profile.messages * on_wire.per_message * sum(shares)
            items += [
                self._item(
                    "published bytes", profile.messages * on_wire.per_message * on_wire.size / GB, "sns.fifo.gb"
                ),
                self._item("deliveries", delivered / MILLION, "sns.fifo.delivery.million"),
                self._item("delivered bytes", delivered * on_wire.size / GB, "sns.fifo.delivery.gb"),
            ]
        most = quota("sns", "fifo_targets" if fifo else "targets")
        limits = [f"{profile.endpoints:,} subscriptions; a topic has {most:,}"] if profile.endpoints > most else []
        name = "SNS FIFO + SQS FIFO" if fifo else "SNS + SQS"
        return Alternative(
            name=_named(name, packing, filtered=filtered, one_by_one=one_by_one),
            items=tuple(items),
            received=profile.messages * sum(shares),
            unfit=tuple(unfit(profile, "sns", fifo=fifo)),
            limits=(*limits, *(fifo_limits(profile, "sns", on_wire) if fifo else ())),
            lost=tuple(lost(profile, packing, "input transformation", "replay", fifo=fifo)),
        )

    def bus(self, packing: Packing, *, filtered: bool) -> Alternative:
        """An event bus, a rule with a queue as target per consumer."""
        profile = self.profile
        on_wire = carried(profile, "eventbridge", packing, fifo=False)
        shares = profile.shares if filtered else (1.0,) * profile.consumers
        units = profile.messages * on_wire.units("eventbridge", 1, each=True)
        items = [
            self._item("events", units / MILLION, "eventbridge.million"),
            *self._consumed(on_wire, shares, fifo=False),
        ]
        if profile.replay:
            archived = profile.messages * on_wire.per_message * on_wire.size / GB
            items.append(self._item("archived", archived, "eventbridge.archive.gb"))
            kept = archived * max(profile.retention_days, 1.0) * _DAY / SECONDS
            items.append(self._item("archive kept", kept, "eventbridge.storage.gb_month"))
        return Alternative(
            name=_named("EventBridge + SQS", packing, filtered=filtered),
            items=tuple(items),
            received=profile.messages * sum(shares),
            unfit=tuple(unfit(profile, "eventbridge", fifo=False)),
            limits=tuple(bus_limits(profile, on_wire)),
            lost=tuple(
                lost(profile, packing, *(("patterns on bodies, as rules see packs",) if packing else ()), fifo=False)
            ),
        )

    def stream(self, packing: Packing) -> Alternative:
        """A stream with provisioned shards, read by every consumer in full."""
        profile = self.profile
        on_wire = carried(profile, "kinesis", packing, fifo=profile.ordered)
        count = shards(profile, on_wire)
        put = profile.messages * on_wire.units("kinesis", 1, each=True)
        items = [
            self._item("shards", count * HOURS, "kinesis.shard.hour"),
            self._item("records put", put / MILLION, "kinesis.put_unit.million"),
        ]
        if profile.retention_days > 1:
            items.append(self._item("kept longer", count * HOURS, "kinesis.retention.shard.hour"))
        if needs_fan_out(profile):
            read = profile.messages * on_wire.per_message * on_wire.size * profile.consumers / GB
            items += [
                self._item("fan-out shards", count * HOURS * profile.consumers, "kinesis.fanout.shard.hour"),
                self._item("fan-out bytes", read, "kinesis.fanout.gb"),
            ]
        return Alternative(
            name=_named("Kinesis", packing),
            items=tuple(items),
            received=profile.messages * profile.consumers,
            unfit=tuple(unfit(profile, "kinesis", fifo=True)),
            limits=tuple(stream_limits(profile, count)),
            lost=tuple(lost(profile, packing, *_OF_A_LOG, "scaling by itself", fifo=True)),
        )

    def stream_on_demand(self) -> Alternative:
        """A stream that scales itself."""
        profile = self.profile
        read = profile.messages * math.ceil(profile.size / 1024) * 1024 / GB
        items = (
            self._item("stream", HOURS, "kinesis.stream.hour"),
            self._item("bytes in", read, "kinesis.in.gb"),
            self._item("bytes out", read * profile.consumers, "kinesis.out.gb"),
        )
        return Alternative(
            name="Kinesis on demand",
            items=items,
            received=profile.messages * profile.consumers,
            unfit=tuple(unfit(profile, "kinesis", fifo=True)),
            lost=tuple(lost(profile, "", *_OF_A_LOG, fifo=True)),
        )

    def broker(self) -> Alternative:
        """Amazon MQ: a pair of brokers, active and standby, and what waits in them on disk."""
        profile = self.profile
        kept = profile.messages * profile.size / GB * min(profile.retention_days * _DAY / SECONDS, 1.0)
        items = (
            self._item("two brokers", 2 * HOURS, "mq.m5.large.hour"),
            self._item("storage, if all were kept so long", kept, "mq.storage.gb_month"),
        )
        return Alternative(
            name="Amazon MQ, active/standby",
            items=items,
            received=profile.messages * sum(profile.shares),
            unfit=(*unfit(profile, "mq", fifo=True), *broker_limits(profile)),
            lost=("replay", "scaling by itself"),
        )

    # Positions.

    def _sent(self, service: str, on_wire: Load, *, fifo: bool, one_by_one: bool = False) -> Item:
        profile = self.profile
        rate = profile.rate * on_wire.per_message
        batch = 1.0 if one_by_one else profile.gathered(rate, quota(service, "batch"))
        millions = profile.messages * on_wire.units(service, batch) / MILLION
        return self._item("published" if service == "sns" else "sent", millions, f"{service}.{_kind(fifo)}.million")

    def _consumed(
        self, on_wire: Load, shares: list[float] | tuple[float, ...], *, fifo: bool, one_by_one: bool = False
    ) -> Iterator[Item]:
        """Receives, deletes and empty receives of the consumers' queues."""
        profile, rate_name = self.profile, f"sqs.{_kind(fifo)}.million"
        most, long_poll = 1 if one_by_one else quota("sqs", "batch"), quota("sqs", "long_poll_seconds")
        received = deleted = empty = 0.0
        for share in shares:
            rate = profile.rate * share * on_wire.per_message / profile.pollers
            batch = profile.gathered(rate, most)
            received += profile.messages * share * on_wire.units("sqs", batch)
            deleted += profile.messages * share * on_wire.per_message / batch
            # A long poll comes back empty where nothing arrives in its time: arrivals at random.
            empty += profile.pollers * SECONDS / long_poll * math.exp(-rate * long_poll)
        yield self._item("received", received / MILLION, rate_name)
        yield self._item("deleted", deleted / MILLION, rate_name)
        yield self._item("empty receives", empty / MILLION, rate_name)

    def _item(self, what: str, quantity: float, rate: str) -> Item:
        return Item(what=what, quantity=quantity, rate=rate, dollars=quantity * self.prices[rate])


def _kind(fifo: bool) -> str:  # noqa: FBT001 - part of a rate's name
    return "fifo" if fifo else "standard"


def _named(name: str, packing: Packing, *, filtered: bool = False, one_by_one: bool = False) -> str:
    how = ["filtered" if filtered else "", packing, "one by one" if one_by_one else ""]
    return ", ".join([name, *(each for each in how if each)])
