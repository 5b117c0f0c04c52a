"""Keeps the leases of what a consumer holds: from receive until it is settled, at most for ``max_processing``."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from math import inf
from typing import Final

from eip._logging import get_logger
from eip.channels import Delivery, Receiver
from eip.errors import LeaseLost

__all__ = ["NO_MORE", "Leases"]

_log = get_logger("eip.consumer")

NO_MORE: Final = inf
"""In `Leases.held`: held for too long already, so that its lease is let go."""


class Leases:
    """The deliveries held, in the order received, and the one task that extends their leases in batches.

    A lease is extended when half of it has passed, and that is tried every sixth of it, or a little earlier, so two
    extensions may fail before it is lost. ``on_lost`` is called with a delivery whose lease has ended, ``on_overdue``
    with one held for longer than ``max_processing``; neither is held any more by then.
    """

    def __init__(
        self,
        receiver: Receiver,
        max_processing: float,
        *,
        on_lost: Callable[[Delivery], None],
        on_overdue: Callable[[Delivery], None],
    ) -> None:
        self.held: dict[Delivery, float] = {}
        """What is held, and until when by the loop's clock at most."""
        self._receiver = receiver
        self._max_processing = max_processing
        self._on_lost, self._on_overdue = on_lost, on_overdue

    async def keep(self) -> None:
        """Extend for ever; run in a task of its own."""
        time = asyncio.get_running_loop().time
        lease = self._receiver.lease
        beat = self._max_processing if lease is None else min(lease / 6, self._max_processing)
        while True:
            first = next(iter(self.held.values()), time() + beat)
            # Jitter: the consumers of one deployment, started together, must not beat together.
            await asyncio.sleep(max(min(first - time(), beat * random.uniform(0.8, 1.0)), 0.001))
            self._sweep(time())
            if lease is not None:
                await self._extend(lease, time() + lease / 2)

    def _sweep(self, now: float) -> None:
        """Take out what was held for too long, and what the extensions came too late for."""
        for delivery, until in list(self.held.items()):
            if until <= now:
                self._drop(delivery, self._on_overdue)
            elif delivery.lease_until is not None and delivery.lease_until <= now:
                self._drop(delivery, self._on_lost)

    async def _extend(self, lease: float, soon: float) -> None:
        due = [
            each
            for each, until in self.held.items()
            if each.lease_until is not None and each.lease_until <= soon and until is not NO_MORE
        ]
        calls = [self._extend_batch(batch, lease) for batch in _batches(due, self._receiver.settle_batch)]
        await asyncio.gather(*calls)

    async def _extend_batch(self, batch: Sequence[Delivery], lease: float) -> None:
        try:
            failed = await self._receiver.extend(batch, lease)
        except Exception as error:  # noqa: BLE001 - whatever failed, the next beat tries again until the lease ends
            _log.warning("lease_extension_failed", channel=self._receiver.name, count=len(batch), error=str(error))
            return
        for delivery, why in failed:
            if isinstance(why, LeaseLost):
                self._drop(delivery, self._on_lost)
            else:
                _log.warning("lease_extension_failed", channel=self._receiver.name, count=1, error=str(why))

    def _drop(self, delivery: Delivery, tell: Callable[[Delivery], None]) -> None:
        if self.held.pop(delivery, None) is not None:
            tell(delivery)


def _batches(deliveries: Iterable[Delivery], size: int) -> Iterable[list[Delivery]]:
    rest = iter(deliveries)
    while batch := list(islice(rest, size)):
        yield batch
