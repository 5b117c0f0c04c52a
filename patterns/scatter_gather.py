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
from types import TracebackType
from typing import Any, Self

from eip.channels import Sender
from eip.clock import Duration, seconds
from eip.errors import ConfigurationError
from eip.message import Message
from eip.patterns._gathering import (
    CompletedBy,
    Conditions,
    Gathered,
    Gathering,
    Predicate,
    ReplyChannel,
    asked,
    check_callable,
    check_duration,
    check_instance,
    check_number,
    check_reply_channel,
)
from eip.patterns._gathering_in_memory import MemoryGatherer
from eip.patterns._gathering_in_store import StoredGathering, StoreGatherer
from eip.patterns._reply_listeners import ReplyListeners
from eip.stores.base import Store

__all__ = ["CompletedBy", "Gathered", "Gathering", "ReplyChannel", "ScatterGather"]


class ScatterGather:
    """Sends requests and gathers their replies; use it with ``async with``.

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
        remember: with a store, seconds that a result is kept.
        poll: with a store, seconds between looks for what other processes wrote, of those who wait for a result.
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
        remember: Duration = 24 * 3600.0,
        poll: Duration = 0.5,
    ) -> None:
        check_instance("requests", requests, Sender, "a channel to send to")
        check_reply_channel("replies", replies)
        check_callable("is_error", is_error)
        check_callable("until", until)
        self._requests, self._replies, self._until = requests, replies, until
        if dead_letters is not None:
            check_instance("dead_letters", dead_letters, Sender, "a channel to send to")
        check_number("concurrency", concurrency, least=1)
        self._grace = check_duration("grace", grace)
        self._listeners = ReplyListeners(concurrency=concurrency, dead_letters=dead_letters)
        kept, pause = check_duration("remember", remember, positive=True), check_duration("poll", poll, positive=True)
        self._gatherer: MemoryGatherer | StoreGatherer = (
            MemoryGatherer(self._listeners, is_error)
            if store is None
            else StoreGatherer(store, self._listeners, is_error=is_error, until=until, remember=kept, poll=pause)
        )
        self._kind = Gathering if store is None else StoredGathering
        self._open = False

    @property
    def in_flight(self) -> int:
        """Requests of this process under way."""
        return self._gatherer.in_flight

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

    @property
    def ready(self) -> bool:
        """Whether replies can be received now."""
        return self._open and self._listeners.listening(self._replies.address)

    async def __aenter__(self) -> Self:
        if self._open:
            raise ConfigurationError("the scatter-gather is in use already")
        self._open = True
        try:
            await self._gatherer.open(self._replies)
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self, *, grace: Duration | None = None) -> None:
        """Stop within ``grace`` seconds (default: the constructor's): no reply is taken any more.

        Requests that are open end with an error, unless they are in a store. Idempotent.
        """
        self._open = False
        try:
            await self._listeners.stop(self._grace if grace is None else seconds(grace))
        finally:
            self._gatherer.close()

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
    ) -> Gathering:
        """A request, to be awaited, iterated over or started; it is complete at the first of its conditions.

        Args:
            body: the request's body, or a whole `Message`, whose correlation id is kept.
            deadline: seconds (or timedelta) until it ends, whatever came, sending included; carried in the message as
                expiry. A request that the channel did not accept by then raises `RequestTimeout`.
            expected: how many responders were asked, or their names (a reply's ``source``): complete once all answered.
            count: complete once so many replies came that are no errors.
            until: complete once it returns true for the replies; what it raises is raised to the caller.
            replies: another channel for these replies, e.g. one per customer.
            to: another channel for this request, e.g. the topic of its location.

        Raises:
            ConfigurationError: outside of ``async with``, or a parameter that cannot be.
            TypeError: a parameter of the wrong type.
        """
        if not self._open:
            raise ConfigurationError("a scatter-gather sends only inside its `async with`")
        wait = check_duration("deadline", deadline, positive=True)
        conditions = Conditions.of(expected, count)
        if until is not None:
            check_callable("until", until)
            if self._kind is StoredGathering:
                raise ConfigurationError("until cannot be stored; give it to every ScatterGather of the store instead")
        if replies is not None:
            check_reply_channel("replies", replies)
        if to is not None:
            check_instance("to", to, Sender, "a channel to send to")
        channel = replies or self._replies
        return self._kind(
            self._gatherer,
            asked(body, return_address=channel.address, wait=wait),
            conditions=conditions,
            until=until or self._until,
            when=asyncio.get_running_loop().time() + wait,
            to=to or self._requests,
            replies=channel,
        )

    async def get(self, id: str) -> Gathered | None:  # noqa: A002 - the field's term
        """What the request of that id has brought so far; None for one that is not known (any more)."""
        return await self._gatherer.get(id)

    async def result(self, id: str) -> Gathered:  # noqa: A002 - the field's term
        """What the request of that id brought, once it is complete; raises `KeyError` for one that is not known."""
        return await self._gatherer.result(id)

    async def watch(self, id: str) -> AsyncGenerator[Message[Any], None]:  # noqa: A002 - the field's term
        """The replies to the request of that id, those before included, until it is complete.

        Raises `KeyError` for a request that is not known.
        """
        async with aclosing(self._gatherer.watch(id)) as replies:
            async for reply in replies:
                yield reply

    async def unlisten(self, replies: ReplyChannel) -> None:
        """Stop consuming a reply channel that `request` was given; what still comes stays in it."""
        await self._listeners.unlisten(replies.address, grace=self._grace)
