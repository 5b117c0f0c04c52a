"""Batching: many messages in one call of a handler, each of them acknowledged by itself.

`batched` turns a handler of many messages into one that consumers can call, e.g. to write ten rows at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from eip._checks import check_duration, check_integer
from eip.clock import Duration
from eip.message import Message
from eip.runtime.handlers import Handler, element_reader_of

__all__ = ["ListHandler", "MessagesFailed", "batched"]


class MessagesFailed(Exception):
    """Raised by a handler of `batched`: the messages with these ids failed, the others are done."""

    def __init__(self, errors: Mapping[str, Exception]) -> None:
        self.errors = dict(errors)
        super().__init__(f"{len(errors)} messages of the batch failed")


ListHandler: TypeAlias = Callable[[Any], Awaitable[None]]
"""Takes a list: of `Message`, ``Message[T]`` or ``T``, as its annotation asks (``list[Order]``)."""


def batched(size: int, window: Duration) -> Callable[[ListHandler], Handler]:
    """Turn a handler of many messages into one that a consumer can call; each is acknowledged after its batch.

    The handler gets up to ``size`` messages, as soon as so many are there or ``window`` seconds (or timedelta) after
    the first. It needs a consumer whose concurrency is at least ``size``; messages of one group come one to a batch,
    as they are handled one at a time. An error fails the whole batch, `MessagesFailed` some of it; a body that is not
    what the handler's annotation asks for fails before, alone.

    Args:
        size: maximum number of messages of one call.
        window: seconds or timedelta.

    Raises:
        TypeError: an argument of the wrong type.
        ConfigurationError: ``size`` is less than 1, or ``window`` negative.
    """
    check_integer("size", size, least=1)
    seconds = check_duration("window", window)

    def wrap(handler: ListHandler) -> Handler:
        batches = _Batches(handler, size, seconds)
        read = element_reader_of(handler)

        async def handle(message: Message[Any]) -> None:
            await batches.handle(message.id, message if read is None else read(message))

        return handle

    return wrap


class _Waiting(NamedTuple):
    id: str
    item: Any
    """What the handler gets: the message, or what its annotation makes of it."""
    done: asyncio.Future[None]


class _Batches:
    def __init__(self, handler: ListHandler, size: int, window: float) -> None:
        self._handler, self._size, self._window = handler, size, window
        self._batch: list[_Waiting] = []
        self._timer: asyncio.TimerHandle | None = None
        self._running: set[asyncio.Task[None]] = set()

    async def handle(self, identity: str, item: Any) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._batch.append(_Waiting(identity, item, done))
        if len(self._batch) >= self._size:
            self._start()
        elif self._timer is None:
            self._timer = loop.call_later(self._window, self._start)
        await done

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch = [each for each in self._batch if not each.done.done()]
        self._batch = []
        if batch:
            task = asyncio.get_running_loop().create_task(self._run(batch))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _run(self, batch: Sequence[_Waiting]) -> None:
        failed: dict[str, Exception] = {}
        try:
            await self._handler([each.item for each in batch])
        except MessagesFailed as error:
            failed = error.errors
        except Exception as error:  # noqa: BLE001 - each message's own consumer decides
            failed = {each.id: error for each in batch}
        for each in batch:
            if each.done.done():
                continue
            if each.id in failed:
                each.done.set_exception(failed[each.id])
            else:
                each.done.set_result(None)
