"""The ride booking service: a requester that asks, an aggregator that notes answers, a processor that completes.

Everything it must remember is in the store, so a new process goes on where the last one ended: running RFQs are asked
again (a unicorn's second answer is ignored), and end at the time they were promised for.
"""

from __future__ import annotations

import asyncio
import heapq
import secrets
from collections import Counter, defaultdict
from collections.abc import AsyncIterator

import structlog

from eip import Consumer, Message, clock
from eip.errors import Reject
from examples.rfq.channels import Channels
from examples.rfq.model import Presence, Quote, QuoteRequest, RideRequest, located
from examples.rfq.store import Rfq, Store

__all__ = ["RideBooking"]

_log = structlog.get_logger("examples.rfq")


class RideBooking:
    """Answers the API; talks to unicorns through channels only.

    Args:
        channels: the transport's channels for this application.
        store: what survives the process.
        rfq_seconds: how long quotes are gathered where a request does not say.
    """

    def __init__(self, channels: Channels, store: Store, *, rfq_seconds: float = 300.0) -> None:
        self._channels, self._store, self._rfq_seconds = channels, store, rfq_seconds
        self._zones: dict[str, str] = {}
        """By unicorn, the zone it said it is in."""
        self._deadlines: list[tuple[float, str]] = []
        self._earlier = asyncio.Event()
        self._news: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._watchers: Counter[str] = Counter()
        self._aggregator = Consumer(channels.replies, self._on_reply, concurrency=100, on_expired="handle")
        self._presences = Consumer(channels.presence, self._on_presence, concurrency=1)
        self._stopping = asyncio.Event()
        self.late = 0
        """Answers that came after their RFQ was complete, or twice."""

    @property
    def unicorns(self) -> dict[str, str]:
        """By unicorn, the zone it is in."""
        return dict(self._zones)

    # What the API asks for.

    async def request(self, ride: RideRequest) -> Rfq:
        """Ask the unicorns near the ride's start; returns as soon as that is certain to happen."""
        rfq = secrets.token_urlsafe(16)
        eta = clock.now() + (ride.duration or self._rfq_seconds)
        self._store.create(rfq, ride, eta)
        await self._ask(self._found(rfq))
        return self._found(rfq)

    def get(self, rfq: str) -> Rfq | None:
        """The RFQ, or None."""
        return self._store.get(rfq)

    def quotes(self, rfq: str) -> list[Quote]:
        """Its quotes so far."""
        return self._store.quotes(rfq)

    async def changes(self, rfq: str) -> AsyncIterator[Rfq]:
        """The RFQ now and after each change, until it is complete."""
        self._watchers[rfq] += 1
        try:
            while True:
                found = self._found(rfq)
                news = self._news[rfq]
                yield found
                if found.completed_at is not None:
                    return
                await news.wait()
        finally:
            self._watchers[rfq] -= 1
            if not self._watchers[rfq]:
                del self._watchers[rfq]
                self._news.pop(rfq, None)

    # As a service.

    async def run(self) -> None:
        """Resume what was running, and work until `stop`."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._aggregator.run())
            tasks.create_task(self._presences.run())
            processor = tasks.create_task(self._process())
            for rfq in self._store.running():
                _log.info("rfq_resumed", rfq=rfq.id, responses=rfq.responses)
                await self._ask(rfq)
            await self._stopping.wait()
            processor.cancel()
            await asyncio.gather(self._aggregator.stop(), self._presences.stop())

    async def stop(self) -> None:
        """Let `run` drain and return."""
        self._stopping.set()

    # Requester.

    async def _ask(self, rfq: Rfq) -> None:
        start, to = located(rfq.request.start), located(rfq.request.to)
        heapq.heappush(self._deadlines, (rfq.eta, rfq.id))
        self._earlier.set()
        asked = sum(zone == start.zone for zone in self._zones.values())
        if asked:
            self._store.asked(rfq.id, asked)
        question = Message(
            QuoteRequest(rfq=rfq.id, start=start, to=to),
            type="QuoteRequest",
            correlation_id=rfq.id,
            return_address=self._channels.replies.address,
            expires_at=rfq.eta,
        )
        await self._channels.zone(start.zone).send(question)

    # Aggregator: one item per response, as simple as that.

    async def _on_reply(self, reply: Message) -> None:
        rfq = reply.correlation_id
        if rfq is None or reply.source is None:
            raise Reject("an answer needs a correlation id and a source")
        quote = Quote.model_validate(reply.body) if reply.type == "Quote" else None
        if not self._store.answer(rfq, reply.source, quote):
            self.late += 1
            return
        found = self._store.get(rfq)
        if found is not None and found.expected is not None and found.responses >= found.expected:
            self._complete(rfq)
        self._tell(rfq)

    async def _on_presence(self, message: Message[Presence]) -> None:
        presence = message.body
        if presence.zone is None:
            self._zones.pop(presence.unicorn, None)
        else:
            self._zones[presence.unicorn] = presence.zone

    # Processor.

    async def _process(self) -> None:
        """Complete each RFQ at its time."""
        while True:
            self._earlier.clear()
            while self._deadlines and self._deadlines[0][0] <= clock.now():
                _, rfq = heapq.heappop(self._deadlines)
                self._complete(rfq)
                self._tell(rfq)
            wait = self._deadlines[0][0] - clock.now() if self._deadlines else None
            try:
                await asyncio.wait_for(self._earlier.wait(), wait)
            except TimeoutError:
                continue

    def _complete(self, rfq: str) -> None:
        if self._store.complete(rfq, clock.now()):
            _log.info("rfq_complete", rfq=rfq)

    def _tell(self, rfq: str) -> None:
        """Wake those who watch the RFQ."""
        news = self._news.pop(rfq, None)
        if news is not None:
            news.set()

    def _found(self, rfq: str) -> Rfq:
        found = self._store.get(rfq)
        if found is None:
            raise LookupError(rfq)
        return found
