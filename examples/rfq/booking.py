"""The ride booking service: a requester that asks, an aggregator that notes answers, a processor that completes.

Everything it must remember is in the store. So a new process goes on where the last one ended, and several share the
work: any of them notes any answer, and completes any RFQ at the time it was promised for.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import secrets
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Collection, Iterable
from dataclasses import replace
from typing import Final

import structlog
from pydantic import ValidationError

from eip import Consumer, Message, clock
from eip.errors import EipError, Reject
from eip.patterns.redrive import Progress
from eip.stores import Store
from examples.rfq.channels import Channels
from examples.rfq.model import Position, Presence, Quote, QuoteRequest, RideRequest, located
from examples.rfq.operations import DeadLetter, Desk, Operations, Rate
from examples.rfq.store import ASKED_WITHIN, Answer, Presences, Rfq, Rfqs

__all__ = ["RideBooking"]

_log = structlog.get_logger("examples.rfq")

_SWEEP_EVERY: Final = 1.0
"""Seconds between looks for RFQs whose time is over and which no living process had on its mind."""
_LOOK_AFTER: Final = 0.05
"""Seconds from an answer to the look whether it was the last."""
_WATCH_EVERY: Final = 0.5
"""Seconds between looks for what another process noted about an RFQ that is being watched here."""
_AT_ONCE: Final = 50
"""RFQs looked after at once."""


class RideBooking:
    """Answers the API; talks to unicorns through channels only.

    Args:
        channels: the transport's channels for this application.
        store: what survives the process, shared by all processes of the service.
        rfq_seconds: how long quotes are gathered where a request does not say.
        herd: the unicorns that must have been present once before it is ready.
    """

    def __init__(
        self, channels: Channels, store: Store, *, rfq_seconds: float = 300.0, herd: Collection[str] = ()
    ) -> None:
        self._channels, self._rfq_seconds = channels, rfq_seconds
        self._gathering = set(herd)
        self._rfqs, self._presences = Rfqs(store), Presences(store)
        self._desk = Desk(channels)
        self._looks: list[tuple[float, str]] = []
        """When to look after which RFQ: a heap."""
        self._touched: set[str] = set()
        """RFQs with new answers, which are looked after soon."""
        self._earlier = asyncio.Event()
        self._news: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._watchers: Counter[str] = Counter()
        self._consumers = [
            Consumer(queue, self._on_reply, concurrency=100, on_expired="handle") for queue in channels.replies
        ]
        self._consumers.append(Consumer(channels.presence, self._on_presence, concurrency=10))
        self._stopping = asyncio.Event()
        self._responses = Rate()
        self.late = 0
        """Answers that came after their RFQ was complete, or belong to none."""

    # What the API asks for.

    async def request(self, ride: RideRequest) -> Rfq:
        """Ask the unicorns near the ride's start; returns as soon as that is certain to happen."""
        rfq = secrets.token_urlsafe(16)
        eta = clock.now() + (ride.duration or self._rfq_seconds)
        created = await self._rfqs.create(rfq, ride, eta)
        return replace(created, addressed=await self._ask(created))

    async def get(self, rfq: str) -> Rfq | None:
        """The RFQ, or None."""
        found = await self._rfqs.get(rfq)
        if found is not None and found.answered and found.completed_at is None:  # a killed process may not have looked
            await self._complete(rfq)
            found = await self._rfqs.get(rfq)
        return found

    async def changes(self, rfq: str, *, silence: float = math.inf) -> AsyncIterator[Rfq]:
        """The RFQ now and after each change, until it is complete or the service stops.

        Args:
            rfq: its id; `LookupError` is raised once there is no such RFQ.
            silence: seconds without a change after which the RFQ comes again as it was.
        """
        self._watchers[rfq] += 1
        last, yielded = None, -math.inf
        try:
            while not self._stopping.is_set():
                news = self._news[rfq]
                found = await self._found(rfq)
                if found != last or clock.now() - yielded >= silence:
                    last, yielded = found, clock.now()
                    yield found
                if found.completed_at is not None:
                    return
                await _set_within(news, _WATCH_EVERY)
        finally:
            self._watchers[rfq] -= 1
            if not self._watchers[rfq]:
                del self._watchers[rfq]
                self._news.pop(rfq, None)

    async def choose(self, rfq: str, unicorn: str) -> Rfq:
        """Take a unicorn's offer; the RFQ with the choice, which is the first one if there was one.

        Raises `LookupError` where there is no such RFQ, or no such offer.
        """
        found = await self._found(rfq)
        if all(quote.unicorn != unicorn for quote in found.quotes):
            raise LookupError(unicorn)
        chosen = await self._rfqs.choose(rfq, unicorn)
        self._tell(rfq)
        return chosen or found

    async def unicorns(self) -> dict[str, Presence]:
        """By unicorn, where it is."""
        return await self._presences.everywhere()

    async def near(self, position: Position) -> list[Presence]:
        """The unicorns that would be asked for a ride from there."""
        return await self._presences.near(position.zone)

    async def missing(self) -> list[str]:
        """What it is not ready without, for people to read; empty: ready."""
        missing = [f"the queue {each.name}" for each in self._consumers if not each.started.is_set()]
        try:
            present = await self._presences.everywhere()
        except EipError as error:
            return [*missing, f"the state ({error})"]
        self._gathering.difference_update(present)
        if self._gathering:
            missing.append(f"{len(self._gathering)} unicorns that are not there yet")
        return missing

    # What operations asks for.

    async def operations(self) -> Operations:
        """What is going on."""
        return Operations(
            in_flight=len(await self._rfqs.running()),
            responses_per_second=self._responses.per_second,
            late=self.late,
            refused=self._channels.return_addresses.refused,
            queues=await self._desk.depths(),
        )

    async def dead_letters(self, *, limit: int = 100) -> list[DeadLetter]:
        """What could not be handled and why, up to ``limit`` of each queue."""
        return await self._desk.dead_letters(limit=limit)

    async def redrive(self, queue: str, *, only: Collection[str] | None = None) -> Progress:
        """Have it handled anew: all that failed on that queue, or the messages with those ids; see `Desk.redrive`."""
        return await self._desk.redrive(queue, only=only)

    # As a service.

    async def run(self) -> None:
        """Resume what was running, and work until `stop`."""
        async with asyncio.TaskGroup() as tasks:
            for consumer in self._consumers:
                tasks.create_task(consumer.run())
            processor = tasks.create_task(self._process())
            await self._stopping.wait()
            processor.cancel()
            await asyncio.gather(*(consumer.stop() for consumer in self._consumers))

    async def stop(self) -> None:
        """Let `run` drain and return."""
        self._stopping.set()

    async def _resume(self) -> None:
        """Go on with what was running: `_process` sees to its end; questions that ended with a process are repeated."""
        running = await self._rfqs.running()
        if running:
            _log.info("resuming", rfqs=len(running))
        for rfq in () if self._channels.durable else running:
            found = await self._rfqs.get(rfq)
            if found is not None and found.completed_at is None:
                await self._ask(found)

    # Requester.

    async def _ask(self, rfq: Rfq) -> tuple[str, ...]:
        """Ask those near the start; who they are."""
        self._look_at(rfq.eta, rfq.id)
        start, to = located(rfq.request.start), located(rfq.request.to)
        near = [presence.unicorn for presence in await self._presences.near(start.zone)]
        question = Message(
            QuoteRequest(rfq=rfq.id, start=start, to=to),
            type="QuoteRequest",
            correlation_id=rfq.id,
            return_address=self._channels.replies_to(rfq.request.customer).address,
            expires_at=rfq.eta,
        )
        await self._channels.zone(start.zone).send(question)
        await self._rfqs.asked(rfq.id, near)
        return tuple(near)

    # Aggregator: one item per response, as simple as that.

    async def _on_reply(self, reply: Message) -> None:
        rfq = reply.correlation_id
        if rfq is None or reply.source is None:
            raise Reject("an answer needs a correlation id and a source")
        try:
            quote = Quote.model_validate(reply.body) if reply.type == "Quote" else None
        except ValidationError as error:
            raise Reject(f"no quote: {error.errors(include_url=False)[0]['msg']}") from error
        answer = Answer(unicorn=reply.source, quote=quote, sent_at=reply.created_at)
        if await self._rfqs.answer(rfq, reply, answer):
            self._responses.add()
            self._look_soon(rfq)
        else:
            self.late += 1

    async def _on_presence(self, message: Message[Presence]) -> None:
        await self._presences.note(message.body, message.created_at)

    # Processor.

    def _look_soon(self, rfq: str) -> None:
        """Look whether all have answered: once for the answers that come close together."""
        if rfq not in self._touched:
            self._touched.add(rfq)
            self._look_at(clock.now() + _LOOK_AFTER, rfq)

    def _look_at(self, at: float, rfq: str) -> None:
        heapq.heappush(self._looks, (at, rfq))
        self._earlier.set()

    async def _process(self) -> None:
        """Look after each RFQ at its time, whichever process took it on."""
        sweep, resumed = clock.now(), False
        while True:
            self._earlier.clear()
            now = clock.now()
            due = set()
            while self._looks and self._looks[0][0] <= now:
                due.add(heapq.heappop(self._looks)[1])
            self._touched -= due
            try:
                if not resumed:
                    await self._resume()
                    resumed = True
                if now >= sweep:
                    sweep = now + _SWEEP_EVERY
                    due.update(await self._rfqs.due(now))
                await self._look_after_all(due)
            except* EipError as errors:  # what was not done is due at the next sweep as well
                _log.warning("processing_failed", errors=[repr(error) for error in errors.exceptions])
            ahead = min([sweep, *(at for at, _ in self._looks[:1])])
            await _set_within(self._earlier, ahead - clock.now())

    async def _look_after_all(self, rfqs: Iterable[str]) -> None:
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def look_after(rfq: str) -> None:
            async with at_once:
                await self._look_after(rfq)

        async with asyncio.TaskGroup() as tasks:
            for rfq in rfqs:
                tasks.create_task(look_after(rfq))

    async def _look_after(self, rfq: str) -> None:
        """Do what is due about an RFQ: complete it, or ask what its process did not live to ask."""
        found, now = await self._rfqs.get(rfq), clock.now()
        if found is not None and found.completed_at is None:
            if found.answered or found.eta <= now:
                await self._complete(rfq)
            elif found.addressed is None and found.created_at + ASKED_WITHIN <= now:
                _log.info("rfq_asked_late", rfq=rfq)
                await self._ask(found)
        self._tell(rfq)

    async def _complete(self, rfq: str) -> None:
        if await self._rfqs.complete(rfq, clock.now()):
            _log.info("rfq_complete", rfq=rfq)

    def _tell(self, rfq: str) -> None:
        """Wake those who watch the RFQ."""
        news = self._news.pop(rfq, None)
        if news is not None:
            news.set()

    async def _found(self, rfq: str) -> Rfq:
        found = await self._rfqs.get(rfq)
        if found is None:
            raise LookupError(rfq)
        return found


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, but not longer than that."""
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await event.wait()
    except TimeoutError:
        return
