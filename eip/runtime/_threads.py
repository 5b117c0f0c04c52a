"""Plain functions as handlers: each call runs in a worker thread."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Iterator
from concurrent.futures import Executor
from contextvars import ContextVar, copy_context
from typing import Any

from eip.runtime._handler_types import AnyHandler, Handler, Result, messages_of
from eip.runtime._wrapping import wrapping

__all__ = ["threaded", "threads"]

threads: ContextVar[Executor | None] = ContextVar("eip_handler_threads", default=None)
"""The threads of the running consumer, for handlers that are plain functions; None: the loop's own."""


def threaded(function: AnyHandler) -> Handler:
    async def handle(argument: Any) -> Result:
        loop, context = asyncio.get_running_loop(), copy_context()
        running = loop.run_in_executor(threads.get(), lambda: context.run(_call, function, argument))
        stopped: asyncio.CancelledError | None = None
        while not running.done():
            try:
                await asyncio.wait((running,))
            except asyncio.CancelledError as error:
                stopped = error  # a thread cannot be stopped: this slot is taken until it ends
        if stopped is not None:
            running.exception()  # looked at, or asyncio reports that nobody did
            raise stopped
        result = running.result()
        return await result if inspect.isawaitable(result) else result

    return wrapping(handle, function)


def _call(function: AnyHandler, argument: Any) -> Awaitable[Result] | Result:
    """Call the function, in its thread; what it returns lazily is made there too."""
    try:
        result: Any = function(argument)
        return messages_of(result) if isinstance(result, Iterator) and not inspect.isawaitable(result) else result
    except StopIteration as error:  # a future cannot carry it
        raise RuntimeError("the handler raised StopIteration") from error
