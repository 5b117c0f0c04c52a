"""Scatter-Gather (Hohpe & Woolf, chapter 8): ask many, gather their answers until there are enough or it is too late.

Each request carries a request id, the address its replies go to, and its deadline as expiry, so that responders drop
what nobody waits for any more. Replies find their request by the request id, which `Message.reply` keeps in the
headers; the correlation id is the caller's, and may repeat. A reply of a responder that copies only the correlation id
is matched by that, where exactly one request, open or recently closed, has it. One reply channel serves any number of
requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from typing import Any, Self

from typing_extensions import override

from eip._checks import check_duration, check_integer, check_type
from eip.channels import Sender
from eip.clock import Duration
from eip.errors import ConfigurationError
from eip.health import Health
from eip.message import Message
from eip.patterns._completion_notices import OnComplete
from eip.patterns._gathering import (
    CompletedBy,
    Conditions,
    Gathered,
    Gathering,
    Predicate,
    ReplyChannel,
    asked,
    check_deadline,
    check_function,
    check_reply_channel,
)
from eip.patterns._gathering_in_memory import MemoryGatherer
from eip.patterns._gathering_in_store import StoredGathering, StoreGatherer
from eip.patterns._reply_listeners import ReplyListeners
from eip.runtime.service import Service
from eip.stores.base import Store

__all__ = ["CompletedBy", "Gathered", "Gathering", "ReplyChannel", "ScatterGather"]


class ScatterGather(Service):
    """Sends requests and gathers their replies; a service that is mostly used as a block.

        async with ScatterGather(requests=transport.topic("rfq-berlin"), replies=transport.queue("rfq-replies")) as rfq:
            quotes = await rfq.request(ride, expected=12, deadline=timedelta(minutes=5))

    Args:
        requests: where requests are published; responders subscribe.
        replies: the queue that replies come in on; only scatter-gathers may consume it.
        is_error: whether a reply reports that its responder failed; default: its type is ``"error"``.
        until: default of `request`'s ``until``.
        concurrency: replies taken from the channel at once.
        dead_letters: where replies go whose envelope cannot be read; default: the channel's own dead-letter queue.
        grace: seconds that stopping may take, whatever the channels do.
        store: keeps requests, replies and results beyond the process: any number of processes with the same channels
            and a store of the same collection (which serves nothing else) are one. Each starts requests, takes any
            reply, completes any request, and has the result of any; each request is completed once. A request in a
            store goes on whether anyone waits for it, and also when its process ends.
        on_complete: with a store, an async function that is called with each request that is complete, at least once,
            in any process, also where the one that completed it has died. Where it raises, or takes more than 30
            seconds, it is called again later, for as long as the result is kept. Give it to each process.
        retention: with a store, seconds that a result is kept after completion.
        poll_interval: with a store, seconds between reads of what other processes wrote, of those who wait for a
            result.
    """

    def __init__(
        self,
        requests: Sender,
        replies: ReplyChannel,
        *,
        is_error: Callable[[Message[Any]], bool] | None = None,
        until: Predicate | None = None,
        concurrency: int = 100,
        dead_letters: Sender | None = None,
        grace: Duration = 20.0,
        store: Store | None = None,
        on_complete: OnComplete | None = None,
        retention: Duration = 24 * 3600.0,
        poll_interval: Duration = 0.5,
    ) -> None:
        self._requests = check_type("requests", requests, Sender, "a channel to send to")
        self._replies = check_reply_channel("replies", replies)
        self._until = check_function("until", until)
        check_function("is_error", is_error)
        self._notifies = check_function("on_complete", on_complete) is not None
        if self._notifies and store is None:
            raise ConfigurationError("on_complete needs a store; without one, await the request")
        check_type("dead_letters", dead_letters, Sender, "a channel to send to", optional=True)
        check_integer("concurrency", concurrency, least=1)
        self.name = requests.name
        self.grace = self._stop_grace = check_duration("grace", grace)
        kept = check_duration("retention", retention, positive=True)
        interval = check_duration("poll_interval", poll_interval, positive=True)
        self._listeners = ReplyListeners(concurrency=concurrency, dead_letters=dead_letters)
        self._gatherer: MemoryGatherer | StoreGatherer = (
            MemoryGatherer(self._listeners, is_error)
            if store is None
            else StoreGatherer(
                store,
                self._listeners,
                is_error=is_error,
                until=until,
                on_complete=on_complete,
                retention=kept,
                poll_interval=interval,
            )
        )
        self._kind = Gathering if store is None else StoredGathering
        self._running = self._open = False
        self.ready = asyncio.Event()
        self._stopping, self._ended = asyncio.Event(), asyncio.Event()

    @property
    def in_flight(self) -> int:
        """Requests of this process under way."""
        return self._gatherer.in_flight

    @property
    def taken(self) -> int:
        """Replies of requests that this process took in time, errors included."""
        counts = self._gatherer.counts
        return self._listeners.handled - counts.late - counts.unknown - counts.ambiguous

    @property
    def late(self) -> int:
        """Replies that came after their request was over; they are acknowledged."""
        return self._gatherer.counts.late

    @property
    def unknown(self) -> int:
        """Replies to no request that is known; they are acknowledged."""
        return self._gatherer.counts.unknown

    @property
    def ambiguous(self) -> int:
        """Replies without a request id, whose correlation id several requests share; they are acknowledged."""
        return self._gatherer.counts.ambiguous

    @override
    def health(self) -> Health:
        """Whether all reply channels can be consumed, and the store answers; otherwise since when not, and why."""
        if not self._open:
            return super().health()
        channels, store = self._listeners.health(), self._gatherer.health()
        return channels if not channels.ok or store.ok else store

    @override
    async def __aenter__(self) -> Self:
        self._check_idle()
        return await super().__aenter__()

    @override
    async def run(self) -> None:
        """Take replies until `stop`; then end the requests that are open with an error, unless they are in a store."""
        self._check_idle()
        self._running = True
        self._ended.clear()
        try:
            if await self._opened():
                self._open = True
                self.ready.set()
                await self._stopping.wait()
        except asyncio.CancelledError:
            self._stop_grace = 0.0
            raise
        finally:
            self._open = False
            self.ready.clear()
            try:
                await self._listeners.stop(self._stop_grace)
            finally:
                self._gatherer.close()
                self._running = False
                self._stopping.clear()
                self._ended.set()

    def _check_idle(self) -> None:
        if self._running:
            raise ConfigurationError("the scatter-gather is in use already")

    async def _opened(self) -> bool:
        """Open the reply channel; False where `stop` came first."""
        opening = asyncio.ensure_future(self._gatherer.open(self._replies))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((opening, stopping), return_when=asyncio.FIRST_COMPLETED)
            if opening.done():
                opening.result()
            return opening.done()
        finally:
            opening.cancel()
            stopping.cancel()

    @override
    async def stop(self, *, grace: Duration | None = None) -> None:
        """Take no reply any more, and let `run` return, within ``grace`` seconds (default: the constructor's)."""
        self._stop_grace = self.grace if grace is None else check_duration("grace", grace)
        self._stopping.set()
        if self._running:
            await self._ended.wait()

    def __repr__(self) -> str:
        state = "running" if self._open else "starting" if self._running else "stopped"
        return f"<ScatterGather {self.name} {state} in_flight={self.in_flight}>"

    def request(
        self,
        body: Any,
        *,
        deadline: Duration,
        expected: int | Iterable[str] | None = None,
        count: int | None = None,
        until: Predicate | None = None,
        replies: ReplyChannel | None = None,
        to: Sender | None = None,
        notify: bool = True,
    ) -> Gathering:
        """A request, to be awaited, iterated over or started; it is complete at the first of its conditions.

        Args:
            body: the request's body, or a whole `Message`, whose correlation id is kept.
            deadline: seconds (or timedelta) until it ends, whatever came, sending included; carried in the message as
                expiry. A request that the channel did not accept by then raises `RequestTimeout`.
            expected: how many responders were asked, or their names (a reply's ``source``): complete once all answered.
                A reply counts once by its id: a responder that may handle a request twice gives the same one again,
                ``request.reply(body, id=f"{request.id}-{name}")``.
            count: complete once so many replies came that are no errors.
            until: complete once it returns true for the replies; what it raises is raised to the caller.
            replies: another channel for these replies, e.g. one per customer.
            to: another channel for this request, e.g. the topic of its location.
            notify: whether ``on_complete`` is called for it: two writes more.

        Raises:
            ConfigurationError: outside of ``async with``, or a parameter that cannot be.
            TypeError: a parameter of the wrong type.
        """
        if not self._open:
            raise ConfigurationError("a scatter-gather sends only inside its `async with`")
        wait = check_deadline("deadline", deadline)
        conditions = Conditions.of(expected, count)
        if until is not None:
            check_function("until", until)
            if self._kind is StoredGathering:
                raise ConfigurationError("until cannot be stored; give it to every ScatterGather of the store instead")
        if replies is not None:
            check_reply_channel("replies", replies)
        if to is not None:
            check_type("to", to, Sender, "a channel to send to")
        channel = replies or self._replies
        gathering = self._kind(
            self._gatherer,
            asked(body, return_address=channel.address, wait=wait),
            conditions=conditions,
            until=until or self._until,
            when=asyncio.get_running_loop().time() + wait,
            to=to or self._requests,
            replies=channel,
        )
        if isinstance(gathering, StoredGathering):
            gathering.notify = notify and self._notifies
        return gathering

    async def open_requests(self, *, limit: int = 100) -> list[str]:
        """The ids of up to ``limit`` requests that are open: of this process, with a store of all."""
        return await self._gatherer.open_requests(check_integer("limit", limit, least=1))

    async def get(self, id: str) -> Gathered | None:  # noqa: A002 - the field's term
        """What the request of that id has brought so far; None for one that is not known (any more)."""
        return await self._gatherer.get(id)

    async def result(self, id: str) -> Gathered:  # noqa: A002 - the field's term
        """What the request of that id has brought, once it is complete; raises `KeyError` for one that is not known."""
        return await self._gatherer.result(id)

    async def watch(self, id: str) -> AsyncGenerator[Message[Any], None]:  # noqa: A002 - the field's term
        """The replies to the request of that id, those before included, until it is complete.

        Raises `KeyError` for a request that is not known.
        """
        async with aclosing(self._gatherer.watch(id)) as replies:
            async for reply in replies:
                yield reply

    async def listen(self, replies: ReplyChannel) -> None:
        """Consume another reply channel from now on, also for requests of other processes that name it."""
        await self._listeners.listen(check_reply_channel("replies", replies))

    async def unlisten(self, replies: ReplyChannel) -> None:
        """Stop consuming a reply channel that `request` was given; what still comes stays in it."""
        await self._listeners.unlisten(replies.address, grace=self.grace)
