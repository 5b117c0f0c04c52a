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
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, Literal

from typing_extensions import override

from eip import clock
from eip._checks import check_duration, check_one_of, check_type
from eip._ids import new_id
from eip.channels import Sender
from eip.channels.addresses import ReturnAddresses
from eip.clock import Duration
from eip.envelope import load_message
from eip.errors import ConfigurationError, DecodeError, InvalidMessage, PartialSendError, StoreError, error_text
from eip.health import Health, HealthTracker
from eip.message import Message
from eip.patterns._background import BackgroundService, retry_delay, wait_for_event
from eip.patterns._outbox_replies import REPLIES, ReplySender
from eip.stores.outbox import Outbox, Waiting

__all__ = ["OutboxRelay"]

_WINDOW: Final = 200
"""Messages that are read at once."""
_MAX_STANDBY_S: Final = 5.0
"""Between attempts to lead while another relay does."""
_RESIGN_S: Final = 2.0


class OutboxRelay(BackgroundService):
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
        replies: which return addresses may be answered, for the replies of `eip.patterns.inbox.Inbox`; None: none are.
        lease: seconds (or timedelta) after which another relay takes over; renewed every third of it.
        grace: seconds (or timedelta) for what is being sent when it is stopped; after that it is cancelled, and sent
            again by the next relay.

    Raises:
        TypeError: ``replies`` of the wrong type.
        ConfigurationError: no channels, or an invalid option.
    """

    def __init__(
        self,
        outbox: Outbox,
        channels: Mapping[str, Sender],
        *,
        on_refused: Literal["block", "skip"] = "block",
        poll: Duration = 1.0,
        replies: ReturnAddresses | None = None,
        lease: Duration = 30.0,
        grace: Duration = 20.0,
    ) -> None:
        super().__init__("outbox", grace=grace)
        check_type("replies", replies, ReturnAddresses, "ReturnAddresses", optional=True)
        channels = dict(channels) if replies is None else {**channels, REPLIES: ReplySender(replies)}
        if not channels:
            raise ConfigurationError("channels must not be empty")
        self._skip = check_one_of("on_refused", on_refused, ("block", "skip")) == "skip"
        self._outbox, self._channels = outbox, channels
        self._poll = check_duration("poll", poll, positive=True)
        self._lease = check_duration("lease", lease, positive=True)
        self._owner = new_id()
        self._news = {name: asyncio.Event() for name in self._channels}
        self._trackers = {name: HealthTracker() for name in self._channels}
        self.leading = False
        """Whether this relay is the one that sends."""
        self.sent = 0
        """Messages that this relay sent."""
        self.refused = 0
        """Messages that this relay set aside."""

    def wake(self) -> None:
        """Look at once: something was committed."""
        for each in self._news.values():
            each.set()

    @override
    def health(self) -> Health:
        """Whether it runs, its database answers and each channel accepts; if not, since when and why.

        A relay that stands by is healthy.
        """
        own = super().health()
        channels = [each.health() for each in self._trackers.values()]
        polled = max((each.last_poll or 0.0 for each in (own, *channels)), default=0.0)
        sent = max((each.last_settle or 0.0 for each in channels), default=0.0)
        failing = next((each for each in (own, *channels) if not each.ok), own)
        return replace(failing, last_poll=polled or None, last_settle=sent or None)

    @override
    def _wake_up(self) -> None:
        self.wake()

    @override
    async def _serve(self) -> None:
        failures = 0
        try:
            while not self._stopping.is_set():
                try:
                    leads = await self._unless_stopped(self._lead(), f"{self._outbox!r}")
                    failures = 0
                except Exception as error:  # noqa: BLE001 - whatever an outbox raises, it is asked again
                    failures += 1
                    await self._pause(self._failed("outbox_failed", error, failures, outbox=repr(self._outbox)))
                    continue
                if leads:
                    await self._relay()
                elif leads is False:
                    await self._pause(min(self._lease / 3, _MAX_STANDBY_S))
        finally:
            if self.leading:
                self.leading = False
                with suppress(Exception):  # then its lease runs out
                    async with asyncio.timeout(_RESIGN_S):
                        await self._outbox.resign(self._owner)

    async def _lead(self) -> bool:
        leads = await self._outbox.lead(self._owner, clock.now() + self._lease)
        self._tracker.polled()
        self.ready.set()
        if leads and not self.leading:
            self._log.info("outbox_leads", owner=self._owner)
        self.leading = leads
        return leads

    async def _relay(self) -> None:
        """Relay all channels while this relay leads."""
        working = [self._start(self._work(name), f"outbox {name}") for name in self._channels]
        keeper = self._start(self._keep(working), "outbox lease")
        unknown = self._start(self._report_unknown(), "outbox channels")
        await asyncio.wait(working)
        keeper.cancel()
        unknown.cancel()

    async def _report_unknown(self) -> None:
        with suppress(StoreError):  # the workers meet the failure themselves
            unsent = await self._outbox.unsent()
            unknown = {name: count for name, count in unsent.items() if name not in self._channels}
            if unknown:
                self._log.error("outbox_channels_unknown", unsent=unknown, known=sorted(self._channels))

    async def _keep(self, working: Sequence[asyncio.Task[None]]) -> None:
        """Renew the lease; where that fails until it ends, or another leads, cancel what is under way.

        Another relay sends from the moment the lease ends, so what this one still sent after that could overtake it.
        """
        until, failures = clock.now() + self._lease, 0
        wait = self._lease / 3
        while clock.now() < until:
            await asyncio.sleep(min(wait, until - clock.now()))
            try:
                async with asyncio.timeout(max(until - clock.now(), 0.0)):
                    asked_until = clock.now() + self._lease
                    if not await self._outbox.lead(self._owner, asked_until):
                        break
                until, failures, wait = asked_until, 0, self._lease / 3
                self._tracker.succeeded()
            except Exception as error:  # noqa: BLE001 - whatever an outbox raises, it is asked again
                failures += 1
                wait = min(self._failed("outbox_lease_not_renewed", error, failures), self._lease / 6)
        self.leading = False
        self._log.warning("outbox_lease_lost", owner=self._owner)
        for task in working:
            task.cancel()

    async def _work(self, name: str) -> None:
        """Send the messages of one channel, until stopped."""
        news, tracker, failures = self._news[name], self._trackers[name], 0
        while not self._stopping.is_set():
            news.clear()
            try:
                reading = self._outbox.waiting(name, limit=_WINDOW, skip_refused=self._skip)
                window = await self._unless_stopped(reading, f"{self._outbox!r}")
                done = await self._send_all(name, window or ())
                tracker.polled()
            except Exception as error:  # noqa: BLE001 - one channel's failure must not end the relay
                failures += 1
                delay = retry_delay(error, failures)
                tracker.failed(error)
                varying = {"retry_in": round(delay, 1)}
                self._lines.warning("outbox_not_sent", varying=varying, channel=name, error=error_text(error))
                await self._pause(delay)
            else:
                failures = 0
                if not done:
                    await wait_for_event(news, self._poll)

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
        await self._note_sent(name, [number for number, message in batch if message.id not in failed])
        wrong = [(number, failed[message.id]) for number, message in batch if message.id in failed]
        for number, reason in wrong:
            if isinstance(reason, InvalidMessage):
                await self._refuse(name, number, reason)
        for _, reason in wrong:
            if not isinstance(reason, InvalidMessage):
                raise reason
        return bool(wrong)

    async def _note_sent(self, name: str, done: Sequence[int]) -> None:
        if done:
            await self._outbox.sent(done)
            self.sent += len(done)
            self._trackers[name].settled()

    async def _refuse(self, name: str, number: int, error: Exception) -> None:
        self._log.error("outbox_message_refused", channel=name, number=number, error=str(error))
        reason = f"{type(error).__name__}: {error}"[:1000]
        try:
            await self._outbox.refuse(number, reason)
        except StoreError as failed:
            if failed.transient:
                raise
            await self._outbox.refuse(number, ascii(reason))  # not every database holds every text
        self.refused += 1
