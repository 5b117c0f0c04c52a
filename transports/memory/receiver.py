"""Receives from a queue's store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from math import inf

from typing_extensions import override

from eip.channels import Delivery, Receiver, Sender, Unsettled
from eip.telemetry.meter import Meter
from eip.transports.memory._lifetime import Lifetime
from eip.transports.memory._store import Store

__all__ = ["StoreReceiver"]


class StoreReceiver(Receiver):
    """Leases the entries of one store.

    Args:
        name: of the channel.
        store: its entries.
        lifetime: the transport's.
        capacity: how many deliveries its consumer holds at most.
        dead_letters: the channel's dead-letter queue.
        max_receive_count: of its redrive policy.
        meter: records what is received and settled; None: nothing is recorded.
    """

    system = "memory"
    settle_batch = 1

    def __init__(
        self,
        name: str,
        store: Store,
        *,
        lifetime: Lifetime,
        capacity: int,
        dead_letters: Sender | None,
        max_receive_count: int | None = None,
        meter: Meter | None = None,
    ) -> None:
        self.name, self.dead_letters, self.max_receive_count = name, dead_letters, max_receive_count
        self.lease, self.ordered = store.visibility, store.fifo
        self.max_batch = max(capacity, 1)
        self._store, self._lifetime, self._meter = store, lifetime, meter
        self._time: Callable[[], float] = inf.__float__
        """The loop's clock, once it is open."""
        self._closed = False

    @override
    async def open(self) -> None:
        self._lifetime.check_open()
        self._time = asyncio.get_running_loop().time

    @override
    async def receive(self, limit: int, *, wait: float = 20.0) -> Sequence[Delivery]:
        self._lifetime.check_open()
        limit = min(limit, self.max_batch)
        taken = self._take(limit)
        loop = asyncio.get_running_loop()
        until = loop.time() + wait
        while not taken and not self._closed and (rest := until - loop.time()) > 0:
            await self._store.wait(rest)
            self._lifetime.check_open()
            taken = self._take(limit)
        if self._meter is not None:
            self._report("receive", taken)
        return taken

    def _take(self, limit: int) -> Sequence[Delivery]:
        """Nothing once it is closed: nobody would settle it, and its lease would have to end."""
        return () if self._closed else self._store.take(self, limit)

    @override
    def receive_nowait(self, limit: int) -> Sequence[Delivery]:
        if self._closed:
            return ()
        taken = self._store.take(self, limit)
        if taken and self._meter is not None:
            self._report("receive", taken)
        return taken

    @override
    def extend_blocking(self, deliveries: Sequence[Delivery], seconds: float) -> Sequence[Unsettled]:
        """Do nothing: the store ends leases by ``lease_until``, which the caller sets."""
        del deliveries, seconds
        return ()

    @override
    def ack_nowait(self, delivery: Delivery) -> bool:
        until = delivery.lease_until
        observed = self._meter is not None or self.settling is not None or delivery.on_acked
        if observed or (until is not None and until <= self._time()):
            return False
        return self._store.ack_one(delivery)

    @override
    async def _ack(self, deliveries: Sequence[Delivery]) -> Sequence[Unsettled]:
        if self._meter is not None:
            self._report("ack", deliveries)
        return self._store.ack(deliveries)

    @override
    async def _nack(self, deliveries: Sequence[Delivery], delay: float) -> Sequence[Unsettled]:
        if self._meter is not None:
            self._report("nack", deliveries)
        return self._store.nack(deliveries, delay)

    @override
    async def _extend(self, deliveries: Sequence[Delivery], seconds: float) -> Sequence[Unsettled]:
        if self._meter is not None:
            self._report("extend", deliveries, heartbeats=len(deliveries))
        return self._store.extend(deliveries, seconds)

    def _report(self, operation: str, deliveries: Sequence[Delivery], *, heartbeats: int = 0) -> None:
        size = sum(len(each.message.raw or b"") for each in deliveries) if operation == "receive" else 0
        if self._meter is not None:
            self._meter.record(
                "memory", self.name, operation, messages=len(deliveries), size=size, units=0, heartbeats=heartbeats
            )

    @override
    async def aclose(self) -> None:
        self._closed = True
        self._store.release(self)
