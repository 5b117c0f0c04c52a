"""Ways to carry a flow of messages: what each costs a month, which limits it meets, and what is lost with it.

Every way is one that this library offers, used as it uses it: calls in batches, long polls, filters pushed down to the
service, packs of `eip.patterns.batching.Packer`. What runs beside the services (computing, checkpoints, data transfer)
is the same for all, or nearly, and not counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from eip.cost.prices import MILLION, Prices
from eip.cost.profile import HOURS, SECONDS, Profile
from eip.cost.services import quota

__all__ = ["GB", "Advice", "Alternative", "Item", "Packing", "advise"]

GB: Final = 10**9
_LONG_POLL: Final = 20.0
_SPARED: Final = 3
"""Bytes that a message takes less in a pack than alone: no name and type of an attribute, but a comma."""
_FRAME: Final = 188
"""Bytes of a pack's own, see `eip.patterns.batching`."""
_DAY: Final = 86_400.0

Packing: TypeAlias = Literal["", "packed", "packed, zstd"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One position of a month's cost."""

    what: str
    quantity: float
    """In the rate's own measure: millions of requests, hours, gigabytes."""
    rate: str
    dollars: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """One way to carry the flow."""

    name: str
    items: tuple[Item, ...]
    received: float
    """Messages that consumers get in a month, wanted or not: what their computing is paid for."""
    unfit: tuple[str, ...] = ()
    """Why it cannot carry the flow as described."""
    limits: tuple[str, ...] = ()
    """Quotas that it meets; they can be raised, or worked around."""
    lost: tuple[str, ...] = ()
    """What other ways have and this one has not."""

    @property
    def monthly(self) -> float:
        """US dollars a month."""
        return sum(item.dollars for item in self.items)

    @property
    def fits(self) -> bool:
        """Whether it does what the profile asks for."""
        return not self.unfit


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """The alternatives, those that fit first, the cheapest first; and what to make of them."""

    profile: Profile
    prices: Prices
    alternatives: tuple[Alternative, ...]
    notes: tuple[str, ...]

    @property
    def best(self) -> Alternative | None:
        """The cheapest that fits."""
        return next((each for each in self.alternatives if each.fits), None)

    def named(self, name: str) -> Alternative:
        """The alternative of a name; raises `KeyError`."""
        for each in self.alternatives:
            if each.name == name:
                return each
        raise KeyError(name)

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "prices": {"region": self.prices.region, "date": self.prices.date.isoformat(), "currency": "USD"},
            "messages_per_month": self.profile.messages,
            "alternatives": [
                {
                    "name": each.name,
                    "fits": each.fits,
                    "monthly": each.monthly,
                    "per_million": each.monthly * MILLION / self.profile.messages,
                    "received": each.received,
                    "unfit": list(each.unfit),
                    "limits": list(each.limits),
                    "lost": list(each.lost),
                    "items": [
                        {"what": item.what, "quantity": item.quantity, "rate": item.rate, "dollars": item.dollars}
                        for item in each.items
                    ],
                }
                for each in self.alternatives
            ],
            "notes": list(self.notes),
        }


def advise(profile: Profile, prices: Prices) -> Advice:
    """The ways to carry the flow, compared.

    Raises `ConfigurationError` where the price list lacks a rate that is needed.
    """
    found = list(_alternatives(_Way(profile, prices)))
    ranked = sorted(found, key=lambda each: (not each.fits, each.monthly))
    return Advice(profile=profile, prices=prices, alternatives=tuple(ranked), notes=tuple(_notes(profile, found)))


def _alternatives(way: _Way) -> Iterator[Alternative]:
    """Each way plain, and packed where a pack would hold more than the way carries otherwise."""
    filters = (True, False) if any(share < 1 for share in way.profile.shares) else (False,)
    if way.profile.consumers == 1:
        for fifo in (False, True):
            for packing in way.packings("sqs", fifo=fifo):
                yield way.queue(packing, fifo=fifo)
    for filtered in filters:
        for fifo in (False, True):
            for packing in way.packings("sns", fifo=fifo):
                yield way.topic(packing, fifo=fifo, filtered=filtered)
        for packing in way.packings("eventbridge", fifo=False):
            yield way.bus(packing, filtered=filtered)
    for packing in way.packings("kinesis", fifo=way.profile.ordered):
        yield way.stream(packing)
    yield way.topic("", fifo=False, filtered=filters[0], one_by_one=True)
    if "kinesis.stream.hour" in way.prices:
        yield way.stream_on_demand()


@dataclass(frozen=True, slots=True)
class _Carried:
    """What travels instead of the messages: themselves, or packs of them."""

    per_message: float
    """Things on the wire per message: 1, or less where packs hold several."""
    size: float
    """Bytes of one."""

    def units(self, service: str, batch: float, *, each: bool = False) -> float:
        """Billed units per message, ``batch`` to a call; ``each``: every one is billed by itself."""
        unit = quota(service, "unit_bytes")
        if each:
            return self.per_message * math.ceil(self.size / unit)
        return self.per_message * max(1.0, math.ceil(self.size * batch / unit)) / batch


class _Way:
    """Makes the alternatives of one profile at one price list."""

    def __init__(self, profile: Profile, prices: Prices) -> None:
        self.profile, self.prices = profile, prices

    # The ways.

    def queue(self, packing: Packing, *, fifo: bool) -> Alternative:
        """One queue, for one consumer."""
        carried = self._carried("sqs", packing, fifo=fifo)
        items = [self._sent("sqs", carried, fifo=fifo), *self._consumed(carried, [1.0], fifo=fifo)]
        return Alternative(
            name=_named("SQS FIFO" if fifo else "SQS", packing),
            items=tuple(items),
            received=self.profile.messages,
            unfit=tuple(self._unfit("sqs", fifo=fifo)),
            limits=tuple(self._fifo_limits("sqs", carried) if fifo else ()),
            lost=tuple(self._lost(packing, "more than one consumer", "filters", "replay", fifo=fifo)),
        )

    def topic(self, packing: Packing, *, fifo: bool, filtered: bool, one_by_one: bool = False) -> Alternative:
        """A topic with a queue per consumer; filters in front of the queues where ``filtered``."""
        profile = self.profile
        carried = self._carried("sns", packing, fifo=fifo)
        shares = profile.shares if filtered else (1.0,) * profile.consumers
        items = [
            self._sent("sns", carried, fifo=fifo, one_by_one=one_by_one),
            *self._consumed(carried, shares, fifo=fifo, one_by_one=one_by_one),
        ]
        if fifo:
            delivered = profile.messages * carried.per_message * sum(shares)
            items += [
                self._item(
                    "published bytes", profile.messages * carried.per_message * carried.size / GB, "sns.fifo.gb"
                ),
                self._item("deliveries", delivered / MILLION, "sns.fifo.delivery.million"),
                self._item("delivered bytes", delivered * carried.size / GB, "sns.fifo.delivery.gb"),
            ]
        most = quota("sns", "fifo_targets" if fifo else "targets")
        limits = [f"{profile.endpoints:,} subscriptions; a topic has {most:,}"] if profile.endpoints > most else []
        name = "SNS FIFO + SQS FIFO" if fifo else "SNS + SQS"
        return Alternative(
            name=_named(name, packing, filtered=filtered, one_by_one=one_by_one),
            items=tuple(items),
            received=profile.messages * sum(shares),
            unfit=tuple(self._unfit("sns", fifo=fifo)),
            limits=(*limits, *(self._fifo_limits("sns", carried) if fifo else ())),
            lost=tuple(self._lost(packing, "input transformation", "replay", fifo=fifo)),
        )

    def bus(self, packing: Packing, *, filtered: bool) -> Alternative:
        """An event bus, a rule with a queue as target per consumer."""
        profile = self.profile
        carried = self._carried("eventbridge", packing, fifo=False)
        shares = profile.shares if filtered else (1.0,) * profile.consumers
        units = profile.messages * carried.units("eventbridge", 1, each=True)
        items = [
            self._item("events", units / MILLION, "eventbridge.million"),
            *self._consumed(carried, shares, fifo=False),
        ]
        if profile.replay:
            archived = profile.messages * carried.per_message * carried.size / GB
            items.append(self._item("archived", archived, "eventbridge.archive.gb"))
            kept = archived * max(profile.retention_days, 1.0) * _DAY / SECONDS
            items.append(self._item("archive kept", kept, "eventbridge.storage.gb_month"))
        return Alternative(
            name=_named("EventBridge + SQS", packing, filtered=filtered),
            items=tuple(items),
            received=profile.messages * sum(shares),
            unfit=tuple(self._unfit("eventbridge", fifo=False)),
            limits=tuple(self._bus_limits(carried)),
            lost=tuple(
                self._lost(packing, *(("patterns on bodies, as rules see packs",) if packing else ()), fifo=False)
            ),
        )

    def stream(self, packing: Packing) -> Alternative:
        """A stream with provisioned shards, read by every consumer in full."""
        profile = self.profile
        carried = self._carried("kinesis", packing, fifo=profile.ordered)
        shards = self._shards(carried)
        put = profile.messages * carried.units("kinesis", 1, each=True)
        items = [
            self._item("shards", shards * HOURS, "kinesis.shard.hour"),
            self._item("records put", put / MILLION, "kinesis.put_unit.million"),
        ]
        if profile.retention_days > 1:
            items.append(self._item("kept longer", shards * HOURS, "kinesis.retention.shard.hour"))
        if self._needs_fan_out():
            read = profile.messages * carried.per_message * carried.size * profile.consumers / GB
            items += [
                self._item("fan-out shards", shards * HOURS * profile.consumers, "kinesis.fanout.shard.hour"),
                self._item("fan-out bytes", read, "kinesis.fanout.gb"),
            ]
        return Alternative(
            name=_named("Kinesis", packing),
            items=tuple(items),
            received=profile.messages * profile.consumers,
            unfit=tuple(self._unfit("kinesis", fifo=True)),
            limits=tuple(self._stream_limits(shards)),
            lost=tuple(self._lost(packing, *_OF_A_LOG, "scaling by itself", fifo=True)),
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
            unfit=tuple(self._unfit("kinesis", fifo=True)),
            lost=tuple(self._lost("", *_OF_A_LOG, fifo=True)),
        )

    # What is carried, and its positions.

    def packings(self, service: str, *, fifo: bool) -> Iterator[Packing]:
        """Those that make a difference: a pack that holds hardly more than a message is none."""
        least = 1.0
        kinds: tuple[Packing, ...] = ("", "packed", "packed, zstd")
        for packing in kinds:
            held = 1 / self._carried(service, packing, fifo=fifo).per_message
            if not packing or held >= 1.2 * least:
                yield packing
                least = held

    def _carried(self, service: str, packing: Packing, *, fifo: bool) -> _Carried:
        """The messages, or their packs as full as the rate fills them in the time they may linger."""
        profile = self.profile
        if not packing:
            return _Carried(1.0, float(profile.size))
        ratio = profile.compression if packing.endswith("zstd") else 1.0
        entry = max(profile.size - _SPARED, 1) / ratio
        room = quota(service, "unit_bytes") - _FRAME
        lanes = profile.kinds * (profile.groups if fifo else 1)
        held = max(1.0, min(room // entry, 1000, profile.rate * profile.linger / lanes))
        return _Carried(1 / held, held * entry + _FRAME if held > 1 else float(profile.size))

    def _sent(self, service: str, carried: _Carried, *, fifo: bool, one_by_one: bool = False) -> Item:
        profile = self.profile
        rate = profile.rate * carried.per_message
        batch = 1.0 if one_by_one else profile.gathered(rate, quota(service, "batch"))
        millions = profile.messages * carried.units(service, batch) / MILLION
        return self._item("published" if service == "sns" else "sent", millions, f"{service}.{_kind(fifo)}.million")

    def _consumed(
        self, carried: _Carried, shares: list[float] | tuple[float, ...], *, fifo: bool, one_by_one: bool = False
    ) -> Iterator[Item]:
        """Receives, deletes and empty receives of the consumers' queues."""
        profile, rate_name = self.profile, f"sqs.{_kind(fifo)}.million"
        most = 1 if one_by_one else quota("sqs", "batch")
        received = deleted = empty = 0.0
        for share in shares:
            rate = profile.rate * share * carried.per_message / profile.pollers
            batch = profile.gathered(rate, most)
            received += profile.messages * share * carried.units("sqs", batch)
            deleted += profile.messages * share * carried.per_message / batch
            # A long poll comes back empty where nothing arrives in its time: arrivals at random.
            empty += profile.pollers * SECONDS / _LONG_POLL * math.exp(-rate * _LONG_POLL)
        yield self._item("received", received / MILLION, rate_name)
        yield self._item("deleted", deleted / MILLION, rate_name)
        yield self._item("empty receives", empty / MILLION, rate_name)

    def _item(self, what: str, quantity: float, rate: str) -> Item:
        return Item(what=what, quantity=quantity, rate=rate, dollars=quantity * self.prices[rate])

    # Limits and losses.

    def _unfit(self, service: str, *, fifo: bool) -> Iterator[str]:
        profile = self.profile
        if profile.ordered and not fifo:
            yield "order is not kept"
        most = quota(service, "message_bytes")
        if profile.size > most:
            yield f"a message has at most {most:,} bytes (claim check)"
        days = quota("kinesis" if service == "kinesis" else "sqs", "retention_days")
        if profile.retention_days > days and not (service == "eventbridge" and profile.replay):
            yield f"kept for at most {days} days"
        if service == "kinesis" and quota("kinesis", "cheap_retention_days") < profile.retention_days <= days:
            yield "more than 7 days are priced by the gigabyte, which is not counted here"
        if profile.replay and service in ("sqs", "sns"):
            yield "no replay"

    def _fifo_limits(self, service: str, carried: _Carried) -> Iterator[str]:
        most, wanted = quota(service, "fifo_per_second"), self.profile.busiest * carried.per_message
        if wanted > most:
            yield f"{wanted:,.0f} a second; FIFO: {most:,}"
        at_once = quota("sqs", "fifo_groups_in_flight")
        if self.profile.groups > at_once:
            yield f"{at_once:,} messages of a FIFO queue in flight"

    def _bus_limits(self, carried: _Carried) -> Iterator[str]:
        profile = self.profile
        most, wanted = quota("eventbridge", "per_second"), profile.busiest * carried.per_message
        if wanted > most:
            yield f"{wanted:,.0f} PutEvents a second; {most:,} by default"
        per_rule, rules = quota("eventbridge", "targets_per_rule"), quota("eventbridge", "rules")
        if profile.endpoints > per_rule * rules:
            yield f"{profile.endpoints:,} targets; a bus has {per_rule * rules:,}: fan out by SNS behind it"
        elif profile.endpoints > per_rule:
            yield f"more than {per_rule} targets: several rules, or SNS behind one"

    def _shards(self, carried: _Carried) -> int:
        """Shards that the busiest second needs: bytes and records in, bytes out where consumers share them."""
        profile = self.profile
        records = profile.busiest * carried.per_message
        size = records * carried.size
        needs = [size / quota("kinesis", "shard_in_bytes"), records / quota("kinesis", "shard_in_records"), 1]
        if not self._needs_fan_out():
            needs.append(size * profile.consumers / quota("kinesis", "shard_out_bytes"))
        return math.ceil(max(needs))

    def _needs_fan_out(self) -> bool:
        """Whether there are more consumers than may poll a shard once a second."""
        return self.profile.consumers > quota("kinesis", "shard_reads")

    def _stream_limits(self, shards: int) -> Iterator[str]:
        if self._needs_fan_out():
            yield f"more than {quota('kinesis', 'shard_reads')} consumers: enhanced fan-out"
        if shards > 1:
            yield f"{shards:,} shards"

    def _lost(self, packing: Packing, *lost: str, fifo: bool) -> Iterator[str]:
        yield from lost
        if not fifo:
            yield "order"
        if packing:
            yield f"immediacy, up to {self.profile.linger:g} s until a pack is full"
            yield "readers without this library"


_OF_A_LOG: Final = (
    "filters, as each consumer reads all",
    "going on behind a failing message, as it holds up its shard",
    "input transformation",
)


def _kind(fifo: bool) -> str:  # noqa: FBT001 - part of a rate's name
    return "fifo" if fifo else "standard"


def _named(name: str, packing: Packing, *, filtered: bool = False, one_by_one: bool = False) -> str:
    how = ["filtered" if filtered else "", packing, "one by one" if one_by_one else ""]
    return ", ".join([name, *(each for each in how if each)])


def _notes(profile: Profile, found: list[Alternative]) -> Iterator[str]:
    fitting = {each.name: each for each in found if each.fits}
    yield from _on_packing(profile, fitting)
    for plain in (each for name, each in fitting.items() if f"{name}, filtered" in fitting):
        saved = 1 - fitting[f"{plain.name}, filtered"].received / plain.received
        if saved > 0:
            yield f"Filters in the service save {saved:.0%} of what consumers are woken for ({plain.name})."
            break
    if not fitting:
        yield "Nothing fits as it is: see why, and relax the profile (claim check, retention by archive, replay)."


def _on_packing(profile: Profile, fitting: dict[str, Alternative]) -> Iterator[str]:
    pairs = [
        (name, plain, fitting[f"{name}, packed"]) for name, plain in fitting.items() if f"{name}, packed" in fitting
    ]
    paying = [each for each in pairs if each[2].monthly < 0.9 * each[1].monthly]
    if paying:
        name, plain, packed = min(paying, key=lambda each: each[2].monthly)
        yield f"Packing pays here: {name} costs ${packed.monthly:,.2f} instead of ${plain.monthly:,.2f} a month."
        return
    full = quota("sqs", "unit_bytes") / quota("sqs", "batch")
    why = "too few come in the time they may wait for a pack"
    if pairs:
        why = "what it saves is less than a tenth"
    if profile.size > full:
        why = f"ten messages of {full:,.0f} bytes fill a billed unit of SQS and SNS already"
    yield f"Packing does not pay here: {why}."
