"""The polls of one session: as many as are answered in full, few when idle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Final, cast

from eip._logging import get_logger
from eip._repeated import RepeatedLines
from eip.channels import Delivery, Receiver
from eip.errors import error_text
from eip.health import HealthTracker
from eip.retry import Backoff
from eip.runtime._acks import cancelled
from eip.runtime._backlog import Backlog
from eip.runtime._wait_timeout import WaitTimeout

__all__ = ["Polls"]

_WAIT_S: Final = 20.0
"""Of a long poll. A receiver whose service waits less asks for less."""
_MAX_RECEIVE_S: Final = _WAIT_S + 15.0
"""A receive without an answer for so long is cancelled, and has failed; drivers notice a dead connection before."""
_TOO_SOON_S: Final = 1.0
"""An empty answer that came sooner was no long poll."""
_MAX_POLLS: Final = 32
_RETRY_BACKOFF: Final = Backoff(cap=30.0)
_MAX_PAUSE_S: Final = 5.0
_GATHER_S: Final = 0.05
"""A free slot waits for others at most so long: a call costs the same, whether it asks for one message or for ten."""
_GATHERED_SLOTS: Final = 5
"""A call is worth its cost for one slot in so many. While they gather, a tenth of the slots is idle on the average."""


class Polls:
    """Asks the receiver for as much as can be started, and hands on what comes.

    Args:
        receiver: what is asked.
        backlog: counts the slots.
        least: polls at once while the service answers, whether in full or not.
        admit: called with each answer.
        health: records each answer and failure.
        tasks: the session's, which own the polls.
        name: for tasks.
    """

    def __init__(
        self,
        receiver: Receiver,
        backlog: Backlog,
        *,
        least: int = 1,
        admit: Callable[[Sequence[Delivery]], None],
        health: HealthTracker,
        tasks: asyncio.TaskGroup,
        name: str,
    ) -> None:
        self._receiver, self._backlog, self._admit, self._health = receiver, backlog, admit, health
        self._least, self._tasks, self._name = least, tasks, name
        self._polls: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        self._room = asyncio.Event()
        self._awaited = 1
        gathers = receiver.billed and least == 1
        self._worth_a_call = max(min(receiver.max_batch, backlog.concurrency // _GATHERED_SLOTS), 1) if gathers else 1
        self._stopping = False
        self._repeated = RepeatedLines(get_logger("eip.consumer"))

    def add(self) -> None:
        """Poll once more at a time."""
        self._polls.add(self._tasks.create_task(self._run(), name=f"{self._name} poll"))

    def more_room(self) -> None:
        """A slot may be free."""
        if self._backlog.free() >= self._awaited:
            self._room.set()

    async def aclose(self) -> None:
        """Poll no more; what a cancelled poll got is released by the receiver."""
        self._stopping = True
        await cancelled(self._polls)

    async def _run(self) -> None:
        with closing(WaitTimeout(_MAX_RECEIVE_S)) as timeout:
            await self._poll(timeout)
        self._polls.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _poll(self, timeout: WaitTimeout) -> None:  # noqa: ASYNC109 - of each receive
        backlog = self._backlog
        failures = too_soon = 0
        while not self._stopping:
            limit = await self._reserved()
            began = asyncio.get_running_loop().time()
            try:
                deliveries = await self._receive(limit, timeout)
                failures = 0
            except Exception as error:  # noqa: BLE001 - a service that fails must not end the consumer
                failures += 1
                if len(self._polls) > 1:
                    break  # one poll is enough to find out when the service is back
                await self._back_off(error, failures)
                continue
            self._health.polled()
            self._admit(deliveries)
            too_soon = 0 if deliveries or asyncio.get_running_loop().time() - began >= _TOO_SOON_S else too_soon + 1
            if len(deliveries) < limit and len(self._polls) > self._least:
                break
            wanted = len(deliveries) == self._receiver.max_batch or len(self._polls) < self._least
            if wanted and backlog.free() >= self._worth_a_call and len(self._polls) < _MAX_POLLS:
                self.add()
            if too_soon > 1:
                await self._pause(too_soon)

    async def _reserved(self) -> int:
        """Slots for the deliveries of one call: enough to be worth it, or those that are free after a short while."""
        backlog = self._backlog
        async with self._turn:  # one poll at a time waits: a slot is one poll's, and must not wake all
            await self._until_free(1)
            if backlog.free() < self._worth_a_call:
                timer = asyncio.get_running_loop().call_later(_GATHER_S, self._gather_no_more)
                try:
                    await self._until_free(self._worth_a_call)
                finally:
                    timer.cancel()
            slots = min(backlog.free(), self._receiver.max_batch)
            backlog.reserve(slots)
        return slots

    async def _until_free(self, slots: int) -> None:
        self._awaited = slots
        while self._backlog.free() < self._awaited:
            self._room.clear()
            await self._room.wait()

    def _gather_no_more(self) -> None:
        """One free slot is enough now; there may be none: messages that came meanwhile may wait behind their groups."""
        self._awaited = 1
        self._room.set()

    async def _receive(self, limit: int, timeout: WaitTimeout) -> Sequence[Delivery]:  # noqa: ASYNC109 - as above
        try:
            with timeout:
                return await self._receiver.receive(limit, wait=_WAIT_S)
        finally:
            self._backlog.unreserve(limit)
            self.more_room()

    async def _back_off(self, error: Exception, failures: int) -> None:
        self._health.failed(error)
        delay = _RETRY_BACKOFF.delay(failures)
        self._repeated.warning(
            "receive_failed",
            channel=self._receiver.name,
            error=error_text(error),
            varying={"retry_in": round(delay, 1)},
        )
        await asyncio.sleep(delay)

    async def _pause(self, times: int) -> None:
        """Wait between empty answers that came at once: each is billed, and together they keep the loop busy."""
        pause = min(0.05 * 2 ** min(times, 16), _MAX_PAUSE_S)
        self._repeated.warning(
            "receive_answered_too_soon",
            channel=self._receiver.name,
            reason=f"no message, and no wait of {_WAIT_S:g} s either: does the service support long polls?",
            varying={"retry_in": pause},
        )
        await asyncio.sleep(pause)
