"""What a consumer holds, and the leases of it: from receive until settled, at most for ``max_processing``."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from math import inf
from typing import Final

from eip._logging import get_logger
from eip._repeated import RepeatedLines
from eip.channels import Delivery, Receiver
from eip.errors import LeaseLost, error_text

__all__ = ["Leases"]

_log = RepeatedLines(get_logger("eip.consumer"))

_LET_GO: Final = inf
"""Instead of a time: held past ``max_processing``, so that its lease is not renewed any more."""


class Leases:
    """The one owner of what is held, in the order received; its task extends their leases in batches.

    A lease is extended when half of it has passed. That is tried every sixth of it, or a little earlier, so two
    extensions may fail before it is lost. While a handler blocks the loop, the watchdog's thread does the same through
    `extend_blocking`. ``on_lost`` is called with a delivery whose lease has ended, ``on_overdue`` with one held for
    longer than ``max_processing``; neither is held any more by then.

    A delivery is taken out (`take`) before the call that settles it, so that the heartbeat leaves it alone.
    """

    def __init__(
        self,
        receiver: Receiver,
        max_processing: float,
        *,
        on_lost: Callable[[Delivery], None],
        on_overdue: Callable[[Delivery], None],
    ) -> None:
        self._held: dict[Delivery, float] = {}
        """What is held, and until when by the loop's clock at most."""
        self.held: Mapping[Delivery, float] = self._held
        """What is held, in the order received, for others to look at."""
        self._receiver = receiver
        self._time = asyncio.get_running_loop().time
        self._max_processing = max_processing
        self._on_lost, self._on_overdue = on_lost, on_overdue

    # Who holds what.

    def add(self, deliveries: Iterable[Delivery]) -> None:
        """Hold what was received, from now on."""
        until = self._time() + self._max_processing
        held = self._held
        for delivery in deliveries:
            held[delivery] = until

    def take(self, delivery: Delivery) -> float | None:
        """Hold it no more, as it is being settled; returns what `put_back` needs, None where it was not held."""
        return self._held.pop(delivery, None)

    def take_held(self, deliveries: Iterable[Delivery]) -> dict[Delivery, float]:
        """Take those that are held."""
        held = self._held
        return {each: held.pop(each) for each in deliveries if each in held}

    def put_back(self, delivery: Delivery, until: float) -> None:
        """Hold it again: it could not be settled."""
        self._held[delivery] = until

    def let_go(self, delivery: Delivery) -> None:
        """Renew its lease no more; it stays held until that ends, as its handler may still be running."""
        self._held[delivery] = _LET_GO

    def age(self, delivery: Delivery, now: float) -> float:
        """Seconds since it was received, by the loop's clock; `max_processing` where it was let go since."""
        until = self._held.get(delivery, now)
        return self._max_processing if until is _LET_GO else max(now - until + self._max_processing, 0.0)

    # Keeping the leases.

    async def keep(self) -> None:
        """Extend what is due, again and again; run it in a task of its own."""
        time = self._time
        lease = self._receiver.lease
        beat = self._max_processing if lease is None else min(lease / 6, self._max_processing)
        while True:
            # All are held for the same time, so the first received is the first that is overdue. One that was put back
            # is an exception: it stands last, and is noticed a beat late at most.
            first = next(iter(self._held.values()), time() + beat)
            # Jitter: the consumers of one deployment, started together, must not beat together.
            await asyncio.sleep(max(min(first - time(), beat * random.uniform(0.8, 1.0)), 0.001))
            self._sweep(time())
            if lease is not None:
                await self._extend(lease, time() + lease / 2)

    def extend_blocking(self, now: float) -> int:
        """Extend what is due, from the watchdog's thread while the loop is blocked; returns how many leases it kept.

        Args:
            now: by the loop's clock.
        """
        # The loop's thread stands still in a handler, or will soon; copying the dict is atomic either way.
        held, receiver = dict(self._held), self._receiver
        lease = receiver.lease
        if lease is None:
            due = [each for each, until in held.items() if now < until < _LET_GO]
        else:
            due = [each for each in _due(held, now + lease / 2) if held[each] > now]
        kept = 0
        for batch in self._batches(due):
            failed = self._try_blocking(batch, lease)
            if lease is not None:
                for delivery in batch:
                    if delivery not in failed:
                        delivery.lease_until = now + lease
            kept += len(batch) - len(failed)
        return kept

    def _try_blocking(self, batch: Sequence[Delivery], lease: float | None) -> set[Delivery]:
        try:
            failed = self._receiver.extend_blocking(batch, lease or 0.0)
        except Exception as error:  # noqa: BLE001 - the next look tries again until the lease ends
            self._warn(len(batch), error)
            return set(batch)
        if failed:
            self._warn(len(failed), failed[0].error)
        return {each.delivery for each in failed}

    def _sweep(self, now: float) -> None:
        """Take out what was held for too long, and what the extensions came too late for."""
        for delivery, until in list(self._held.items()):  # a copy: the callbacks settle, which takes others out
            if until <= now:
                self._drop(delivery, self._on_overdue)
            elif delivery.lease_until is not None and delivery.lease_until <= now:
                self._drop(delivery, self._on_lost)

    async def _extend(self, lease: float, soon: float) -> None:
        due = _due(self._held, soon)
        await asyncio.gather(*(self._extend_batch(batch, lease) for batch in self._batches(due)))

    def _batches(self, deliveries: Iterable[Delivery]) -> Iterable[list[Delivery]]:
        """As many as one call takes; all at once where extending costs no call."""
        size, rest = self._receiver.settle_batch, iter(deliveries)
        while batch := list(rest if size == 1 else islice(rest, size)):
            yield batch

    async def _extend_batch(self, batch: Sequence[Delivery], lease: float) -> None:
        try:
            failed = await self._receiver.extend(batch, lease)
        except Exception as error:  # noqa: BLE001 - whatever failed, the next beat tries again until the lease ends
            self._warn(len(batch), error)
            return
        for delivery, why in failed:
            if isinstance(why, LeaseLost):
                self._drop(delivery, self._on_lost)
            else:
                self._warn(1, why)

    def _warn(self, count: int, error: Exception) -> None:
        _log.warning(
            "lease_extension_failed", channel=self._receiver.name, error=error_text(error), varying={"count": count}
        )

    def _drop(self, delivery: Delivery, report: Callable[[Delivery], None]) -> None:
        if self._held.pop(delivery, None) is not None:
            report(delivery)


def _due(held: dict[Delivery, float], soon: float) -> list[Delivery]:
    """What has a lease that ends before ``soon``, and is to be kept."""
    return [
        each
        for each, until in held.items()
        if each.lease_until is not None and each.lease_until <= soon and until is not _LET_GO
    ]
