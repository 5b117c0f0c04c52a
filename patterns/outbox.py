"""Transactional Outbox: messages that are sent if, and once, the transaction that wrote them commits.

    outbox = PostgresOutbox(pool)                                  # or SqliteOutbox("shop.sqlite")
    relay = OutboxRelay(outbox, {"orders": aws.topic("orders")})
    await run(relay)

A service that writes a row and sends a message can fail between the two; here the message is a row of the same
transaction (`eip.stores.outbox`), and the relay sends what was committed. Delivery is at-least-once: a relay that dies
between sending and noting so sends again, with the same ids, which FIFO channels and idempotent receivers know.
Source: Chris Richardson, "Pattern: Transactional outbox"; the relay is his "Polling publisher".
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Literal

from eip import clock
from eip._ids import new_id
from eip._logging import get_logger
from eip.channels import Sender
from eip.clock import Duration, seconds
from eip.envelope import load_message
from eip.errors import ConfigurationError, DecodeError, InvalidMessage, PartialSendError, StoreError
from eip.message import Message
from eip.retry import Backoff
from eip.stores.outbox import Outbox, Waiting

__all__ = ["OutboxRelay"]

_log = get_logger("eip.outbox")

_WINDOW: Final = 200
"""Messages that are read at once."""
_AGAIN: Final = Backoff(base=0.5, cap=30.0)


class OutboxRelay:
    """Sends what an outbox holds, in order; a service (`run`, `stop`).

    Of any number of relays on one outbox one sends and the others stand by; when it dies, another goes on after
    ``lease`` seconds. Of each message group one message is under way at a time, so that the next is sent only once the
    one before was accepted; groups, and messages without one, do not wait for each other, and channels neither.

    A message that its channel can never carry is set aside (``outbox.refused()``), and logged.

    Args:
        outbox: the table; see `eip.stores.outbox`.
        channels: by the name that `add` was given, where the messages go.
        on_refused: ``"block"``: what was written after a refused message in its group waits, until it is retried or
            dropped; ``"skip"``: it does not, so that the order has a gap.
        poll: seconds (or timedelta) between looks at an empty outbox; `wake` makes it look at once.
        lease: seconds (or timedelta) after which another relay takes over; renewed every third of it.

    Raises:
        ConfigurationError: no channels, or options that cannot be.
    """

    def __init__(
        self,
        outbox: Outbox,
        channels: Mapping[str, Sender],
        *,
        on_refused: Literal["block", "skip"] = "block",
        poll: Duration = 1.0,
        lease: Duration = 30.0,
    ) -> None:
        if not channels or on_refused not in ("block", "skip"):
            raise ConfigurationError("a relay needs a channel, and on_refused is 'block' or 'skip'")
        self._outbox, self._channels, self._skip = outbox, dict(channels), on_refused == "skip"
        self._poll, self._lease = seconds(poll), seconds(lease)
        if self._poll <= 0 or self._lease <= 0:
            raise ConfigurationError("poll and lease are more than 0 seconds")
        self._owner = new_id()
        self._stopping = asyncio.Event()
        self._news = {name: asyncio.Event() for name in self._channels}
        self.leading = False
        """Whether this relay is the one that sends."""
        self.sent = 0
        """Messages that this relay sent."""
        self.refused = 0
        """Messages that this relay set aside."""

    async def run(self) -> None:
        """Send what is committed, or stand by, until `stop`; what is under way then is finished."""
        try:
            while not self._stopping.is_set():
                if await self._lead():
                    await self._relay()
                else:
                    await self._rest(self._stopping, min(self._lease / 3, 5.0))
        finally:
            self._stopping.clear()
            if self.leading:
                self.leading = False
                with suppress(StoreError):  # then its lease runs out
                    await self._outbox.resign(self._owner)

    async def stop(self) -> None:
        """Let `run` return."""
        self._stopping.set()
        self.wake()

    def wake(self) -> None:
        """Something was committed: look at once."""
        for each in self._news.values():
            each.set()

    async def _lead(self) -> bool:
        until = clock.now() + self._lease
        try:
            leads = await self._outbox.lead(self._owner, until)
        except StoreError as error:
            _log.warning("outbox_failed", error=str(error))
            leads = False
        if leads and not self.leading:
            _log.info("outbox_leads", owner=self._owner)
        self.leading = leads
        return leads

    async def _relay(self) -> None:
        """Relay all channels while this relay leads."""
        with suppress(StoreError):  # only said; the workers meet the failure themselves
            unknown = {
                name: count for name, count in (await self._outbox.unsent()).items() if name not in self._channels
            }
            if unknown:
                _log.error("outbox_channels_unknown", unsent=unknown, known=sorted(self._channels))
        async with asyncio.TaskGroup() as tasks:
            working = [tasks.create_task(self._work(name), name=f"outbox {name}") for name in self._channels]
            keeper = tasks.create_task(self._keep(working), name="outbox lease")
            await asyncio.wait(working)
            keeper.cancel()

    async def _keep(self, working: Sequence[asyncio.Task[None]]) -> None:
        """Renew the lease; where that fails until it ends, or another leads, cancel what is under way."""
        until = clock.now() + self._lease
        while True:
            await asyncio.sleep(self._lease / 3)
            try:
                async with asyncio.timeout(max(until - clock.now(), 0.0)):
                    asked_until = clock.now() + self._lease
                    if not await self._outbox.lead(self._owner, asked_until):
                        break
                    until = asked_until
            except (StoreError, TimeoutError) as error:
                _log.warning("outbox_lease_not_renewed", ends_in=round(until - clock.now(), 1), error=str(error))
                if clock.now() + self._lease / 3 >= until:
                    break
        self.leading = False
        _log.warning("outbox_lease_lost", owner=self._owner)
        for task in working:
            task.cancel()

    async def _work(self, name: str) -> None:
        """Send the messages of one channel, until stopped."""
        news, failures = self._news[name], 0
        while not self._stopping.is_set():
            news.clear()
            try:
                window = await self._outbox.waiting(name, limit=_WINDOW, skip_refused=self._skip)
                done = await self._send_all(name, window)
            except Exception as error:  # noqa: BLE001 - one channel's failure must not end the relay
                failures += 1
                delay = _AGAIN.delay(failures)
                _log.warning("outbox_not_sent", channel=name, error=repr(error), again_in=round(delay, 1))
                await self._rest(self._stopping, delay)
            else:
                failures = 0
                if not done:
                    await self._rest(news, self._poll)

    async def _send_all(self, name: str, window: Sequence[Waiting]) -> bool:
        """Send the messages of a window, each group's one after the other; False where there were none."""
        lanes: dict[str | None, list[tuple[int, Message[Any]]]] = {}
        for number, raw in window:
            try:
                message = load_message(raw)
            except DecodeError as error:
                await self._refuse(name, number, error)
                return True  # read again: what was written after it may have to wait
            lanes.setdefault(message.group_id, []).append((number, message))
        loose = lanes.pop(None, [])
        while (loose or lanes) and not self._stopping.is_set():
            heads = [lane[0] for lane in lanes.values()]
            if await self._send(name, sorted([*loose, *heads])):
                return True
            loose = []
            lanes = {group: lane[1:] for group, lane in lanes.items() if len(lane) > 1}
        return bool(window)

    async def _send(self, name: str, batch: list[tuple[int, Message[Any]]]) -> bool:
        """Send messages that may go at once; True where some were refused. Raises what may be tried again."""
        failed: dict[str, Exception] = {}
        try:
            await self._channels[name].send(*(message for _, message in batch))
        except PartialSendError as error:
            failed = {each.message.id: each.error for each in error.failed}
        except InvalidMessage as error:
            if len(batch) > 1:  # nothing of it was sent: one by one it shows which it is
                return any([await self._send(name, [each]) for each in batch])
            failed = {batch[0][1].id: error}
        await self._note_sent(number for number, message in batch if message.id not in failed)
        wrong = [(number, failed[message.id]) for number, message in batch if message.id in failed]
        for number, reason in wrong:
            if isinstance(reason, InvalidMessage):
                await self._refuse(name, number, reason)
        for _, reason in wrong:
            if not isinstance(reason, InvalidMessage):
                raise reason
        return bool(wrong)

    async def _note_sent(self, numbers: Iterable[int]) -> None:
        done = list(numbers)
        if done:
            await self._outbox.sent(done)
            self.sent += len(done)

    async def _refuse(self, name: str, number: int, error: Exception) -> None:
        _log.error("outbox_message_refused", channel=name, number=number, error=str(error))
        await self._outbox.refuse(number, f"{type(error).__name__}: {error}"[:1000])
        self.refused += 1

    @staticmethod
    async def _rest(event: asyncio.Event, longest: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(longest):
                await event.wait()
