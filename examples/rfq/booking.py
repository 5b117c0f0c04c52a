"""The ride booking service: asks the unicorns near a ride's start by scatter-gather, and shows what that brings.

Everything it must remember is in the store. So a new process goes on where the last one ended, and several share the
work: any of them takes any answer, and completes any RFQ at the time it was promised for.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Collection
from dataclasses import replace
from typing import Final

import structlog

from eip import Consumer, Service, clock
from eip.console import Subject
from eip.errors import EipError
from eip.patterns.reply_queues import ReplyQueues
from eip.patterns.scatter_gather import ReplyChannel, ScatterGather
from examples.rfq.callbacks import CallbackCalls, CallbackOptions, Callbacks
from examples.rfq.channels import OWN_REPLIES, Channels
from examples.rfq.model import Presence, QuoteRequest, RideRequest
from examples.rfq.store import RETENTION, Choices, Presences, Rfq, States, answer_of, rfq_of
from examples.rfq.vicinity import Position, all_zones, zones_near
from examples.rfq.waiting import set_within
from examples.rfq.watching import Watch

__all__ = ["RideBooking"]

_log = structlog.get_logger("examples.rfq")

_POLL_INTERVAL_S: Final = 0.5
"""Between looks for what another process wrote about an RFQ that is being watched here."""
_MAX_IN_FLIGHT: Final = 10_000
"""RFQs that are counted as in flight, or asked again after a start."""


class RideBooking:
    """Answers the API; talks to unicorns through channels only.

    Args:
        channels: the transport's channels for this application.
        states: what survives the process, shared by all processes of the service.
        rfq_seconds: how long quotes are gathered where a request does not say.
        herd: the unicorns that must have been present once before it is ready.
        own_replies: customers that have a reply queue of their own, made on demand; ``*``: each has.
        callbacks: which URLs it calls once an RFQ is complete, and how; None: none.
    """

    def __init__(
        self,
        channels: Channels,
        states: States,
        *,
        rfq_seconds: float = 300.0,
        herd: Collection[str] = (),
        own_replies: Collection[str] = (),
        callbacks: CallbackOptions | None = None,
    ) -> None:
        self._channels, self._rfq_seconds = channels, rfq_seconds
        self._herd = set(herd)
        self._callbacks = Callbacks(channels.callbacks, states.rides, callbacks)
        self._quotes = ScatterGather(
            channels.zone(all_zones()[0]),  # each request names its own
            channels.replies,
            is_error=lambda reply: answer_of(reply) is None,
            store=states.quotes,
            retention=RETENTION,
            poll_interval=_POLL_INTERVAL_S,
            on_complete=self._callbacks.announce,
        )
        self._with_own_replies = frozenset(own_replies)
        self._own_replies = ReplyQueues(channels.transport, self._quotes, queue=OWN_REPLIES, store=states.queues)
        self._services: list[Service] = [self._own_replies]
        if callbacks is not None:
            calls = CallbackCalls(channels.callbacks, self._callbacks, get=self.get, options=callbacks)
            self._services.append(calls)
        self._choices, self._presences = Choices(states.rides), Presences(states.rides)
        self._presence = Consumer(channels.presence, self._presences.take, concurrency=10)
        self._stopping = asyncio.Event()
        self.answerable = False
        """Whether any unicorn was there when that was last looked for."""

    @property
    def ready(self) -> asyncio.Event:
        """Set while RFQs can be asked and answers be taken."""
        return self._quotes.ready

    @property
    def late(self) -> int:
        """Answers that came after their RFQ was complete, or belong to none."""
        return self._quotes.late + self._quotes.unknown + self._quotes.ambiguous

    # What the API asks for.

    async def request(self, ride: RideRequest, *, base: str = "") -> Rfq:
        """Ask the unicorns near the ride's start; returns once the channel has accepted the question.

        Args:
            ride: what is asked for.
            base: of the links in what its callback is called with: the service's own URL.

        Raises:
            UrlRefused: its callback would not be called.
            EipError: the transport or the state failed.
        """
        if ride.callback is not None:
            self._callbacks.check(ride.callback)
        question = QuoteRequest(ride=ride, start=ride.origin, to=ride.destination, radius=ride.radius)
        near = {presence.unicorn for presence in await self.near(ride.origin, ride.radius)}
        deadline = ride.duration or self._rfq_seconds
        asked = self._quotes.request(
            question,
            deadline=deadline,
            expected=near or None,
            replies=await self._replies_to(ride.customer, deadline),
            to=self._channels.zones(question.zones),
            notify=ride.callback is not None,
        )
        if ride.callback is not None:
            await self._callbacks.register(asked.id, ride.callback, base=base, eta=clock.now() + deadline)
        await asked.start()
        return rfq_of(asked.result)

    async def _replies_to(self, customer: str, deadline: float) -> ReplyChannel | None:
        """The customer's own reply queue; None: the shared one."""
        if self._with_own_replies.isdisjoint((customer, "*")):
            return None
        return await self._own_replies.of(customer, deadline=deadline)

    async def get(self, rfq: str) -> Rfq | None:
        """The RFQ, or None."""
        found, choice = await asyncio.gather(self._quotes.get(rfq), self._choices.of(rfq))
        return None if found is None else rfq_of(found, choice)

    async def changes(self, rfq: str, *, silence: float = math.inf) -> AsyncIterator[Rfq]:
        """The RFQ now and after each change, until it is complete or the service stops.

        Args:
            rfq: its id; `LookupError` is raised once there is no such RFQ.
            silence: seconds without a change after which the RFQ comes again as it was.
        """
        watch = Watch(self._quotes.watch(rfq))
        try:
            last = await self._found(rfq)
            yield last
            yielded = clock.now()
            while last.completed_at is None and not self._stopping.is_set():
                if watch.task.done():  # the state failed it, and answers again
                    watch = Watch(self._quotes.watch(rfq))
                found = await self._after(last, watch)
                if found != last or clock.now() - yielded >= silence:
                    last, yielded = found, clock.now()
                    yield found
        finally:
            watch.task.cancel()

    async def _after(self, last: Rfq, watch: Watch) -> Rfq:
        """The RFQ after the next answer, or with what was chosen meanwhile."""
        if not await set_within(watch.news, _POLL_INTERVAL_S):
            return replace(last, choice=await self._choices.of(last.id))
        watch.news.clear()
        if watch.task.done():
            return await self._found(last.id)
        answers = tuple(watch.answers.values())
        return replace(last, answers=answers) if len(answers) > len(last.answers) else last

    async def choose(self, rfq: str, unicorn: str) -> Rfq:
        """Take a unicorn's offer; the RFQ with the choice, which is the first one if there was one.

        Raises `LookupError` where there is no such RFQ, or no such offer.
        """
        found = await self._found(rfq)
        if all(quote.unicorn != unicorn for quote in found.quotes):
            raise LookupError(unicorn)
        return replace(found, choice=await self._choices.choose(found, unicorn))

    async def unicorns(self) -> dict[str, Presence]:
        """By unicorn, where it is."""
        return await self._presences.everywhere()

    async def near(self, position: Position, radius: float = 0.0) -> list[Presence]:
        """The unicorns that would be asked for a ride from there, each once, wherever it was between two zones."""
        zones = await asyncio.gather(*(self._presences.near(zone) for zone in zones_near(position, radius)))
        return list({each.unicorn: each for found in zones for each in found}.values())

    async def missing(self) -> list[str]:
        """What it is not ready without, for people to read; empty: ready."""
        queues = ((self._channels.replies, self._quotes.health()), (self._channels.presence, self._presence.health()))
        missing = [f"the queue {queue.name} ({health.reason})" for queue, health in queues if not health.ok]
        try:
            present = await self._presences.everywhere()
        except EipError as error:
            return [*missing, f"the state ({error})"]
        self.answerable = bool(present)
        self._herd.difference_update(present)
        if self._herd:
            missing.append(f"{len(self._herd)} unicorns that are not there yet")
        return missing

    def subject(self) -> Subject:
        """What the console shows of it."""
        consumers = [each for each in (self._presence, *self._services) if isinstance(each, Consumer)]
        return Subject(
            name="Wild Rydes",
            transport=self._channels.transport,
            topology=self._channels.queues(),
            consumers=lambda: consumers,
            services=lambda: (self._quotes, self._own_replies),
        )

    # As a service.

    async def run(self) -> None:
        """Resume what was running, and work until `stop`."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._quotes.run())
            tasks.create_task(self._presence.run())
            for service in self._services:
                tasks.create_task(service.run())
            resuming = tasks.create_task(self._resume())
            await self._stopping.wait()
            resuming.cancel()
            await asyncio.gather(*(each.stop() for each in (self._quotes, self._presence, *self._services)))

    async def stop(self) -> None:
        """Let `run` drain and return."""
        self._stopping.set()

    async def _resume(self) -> None:
        """Repeat questions that ended with a process."""
        await self.ready.wait()
        running = await self._quotes.open_requests(limit=_MAX_IN_FLIGHT)
        if running:
            _log.info("resuming", rfqs=len(running))
        for rfq in () if self._channels.durable else running:
            found = await self._quotes.get(rfq)
            if found is not None and found.request is not None and found.completed_by is None:
                zones = QuoteRequest.model_validate(found.request.body).zones
                await self._channels.zones(zones).send(found.request)

    async def _found(self, rfq: str) -> Rfq:
        found = await self.get(rfq)
        if found is None:
            raise LookupError(rfq)
        return found
