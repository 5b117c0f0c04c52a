"""Claims are renewed while their handlers run: one timer for all of them, as hardly any runs long enough to need it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, Final
from weakref import WeakKeyDictionary

from eip import clock
from eip._logging import get_logger
from eip._repeated import RepeatedLines
from eip.errors import error_text
from eip.health import HealthTracker
from eip.message import Message
from eip.patterns._idempotency_lease import RETRY_BACKOFF, Claim, ClaimLostError
from eip.runtime.handlers import Handler, Result

__all__ = ["ClaimRenewer"]

_MIN_CALL_S: Final = 1.0
"""Seconds that a renewal may take, however soon the claim ends."""


class _Held:
    """A claim whose handler runs."""

    __slots__ = ("_before", "_cancellations", "_task", "at", "claim", "ended", "message_id", "renewing")

    def __init__(self, claim: Claim, message_id: str) -> None:
        self.claim, self.message_id = claim, message_id
        self.at = 0.0
        """When it is renewed, by the loop's clock."""
        self.renewing: asyncio.Task[None] | None = None
        self._task: asyncio.Task[Any] | None = asyncio.current_task()
        self._before = 0 if self._task is None else self._task.cancelling()
        self._cancellations, self.ended = 0, False

    def stop_handler(self) -> None:
        """Cancel the handler, as its claim is lost; one that goes on is cancelled again at the next renewal."""
        if self._task is not None and not self.ended:
            self._cancellations += 1
            self._task.cancel()

    @property
    def only_lost(self) -> bool:
        """Whether the handler was cancelled, and by nobody else."""
        if self._task is None or not self._cancellations:
            return False
        return self._task.cancelling() - self._cancellations <= self._before

    async def end(self) -> None:
        """End the renewal in hand. What it wrote without an answer is found by the claim's next write."""
        self.ended = True
        if self._task is not None:
            for _ in range(self._cancellations):
                self._task.uncancel()
        if self.renewing is not None:
            self.renewing.cancel()
            await asyncio.wait([self.renewing])


class ClaimRenewer:
    """Runs handlers under claims, and renews each every third of its lease.

    Args:
        lease: of each claim, seconds.
        tracker: learns whether the store takes renewals.
    """

    def __init__(self, lease: float, tracker: HealthTracker) -> None:
        self._interval, self._tracker = lease / 3, tracker
        self._lines = RepeatedLines(get_logger("eip.idempotent"))
        self._timers: WeakKeyDictionary[asyncio.AbstractEventLoop, _Timer] = WeakKeyDictionary()

    async def handle(self, claim: Claim, handler: Handler, message: Message[Any]) -> Result:
        """Call the handler; raises `ClaimLostError` where it was stopped, its claim being lost or not renewable."""
        loop = asyncio.get_running_loop()
        timer = self._timers.get(loop)
        if timer is None:
            timer = self._timers[loop] = _Timer(self._interval, self._renew)
        held = _Held(claim, message.id)
        timer.add(held)
        try:
            return await handler(message)
        except asyncio.CancelledError:
            if held.only_lost:
                raise ClaimLostError from None
            raise
        finally:
            timer.discard(held)
            await held.end()

    async def _renew(self, held: _Held) -> None:
        """Renew a claim, trying until it ends; then, or where another has taken it over, its handler is stopped."""
        failures = 0
        while True:
            left = held.claim.until - clock.now()
            try:
                async with asyncio.timeout(max(left, _MIN_CALL_S)):
                    await held.claim.renew()
                return self._tracker.succeeded()
            except ClaimLostError:
                return held.stop_handler()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next attempt tells until the lease ends
                failures += 1
                self._tracker.failed(error)
                varying = {"message_id": held.message_id, "ends_in": round(left, 1)}
                self._lines.warning("claim_not_renewed", varying=varying, error=error_text(error))
            left = held.claim.until - clock.now()
            if left <= 0:
                return held.stop_handler()
            await asyncio.sleep(min(RETRY_BACKOFF.delay(failures), left))


class _Timer:
    """The claims of one event loop in the order of their renewals: all have one lease, so the oldest is the next."""

    def __init__(self, interval: float, renew: Callable[[_Held], Coroutine[Any, Any, None]]) -> None:
        self._interval, self._renew = interval, renew
        self._waiting: OrderedDict[_Held, None] = OrderedDict()
        self._armed = False

    def add(self, held: _Held) -> None:
        """Have the claim renewed once the interval is over."""
        loop = asyncio.get_running_loop()
        held.at = loop.time() + self._interval
        self._waiting[held] = None
        if not self._armed:
            self._armed = True
            loop.call_at(held.at, self._fire)

    def discard(self, held: _Held) -> None:
        """Renew it no more. The timer stays: one for each message would cost more than a look in vain."""
        self._waiting.pop(held, None)

    def _fire(self) -> None:
        self._armed = False
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._waiting:
            held = next(iter(self._waiting))
            if held.at > now:
                self._armed = True
                loop.call_at(held.at, self._fire)
                return
            del self._waiting[held]
            held.renewing = loop.create_task(self._renewed(held), name=f"claim of {held.message_id}")

    async def _renewed(self, held: _Held) -> None:
        await self._renew(held)
        held.renewing = None
        if not held.ended:
            self.add(held)
