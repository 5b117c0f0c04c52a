"""Handlers of the batches of `eip.streams.BatchConsumer`: a function of many messages, or handlers of single ones."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from eip.errors import Disposition
from eip.message import Message
from eip.runtime.dispatch import Handlers
from eip.runtime.handlers import BatchForm, Result, batch_handler_of, messages_of

__all__ = ["BatchFailure", "BatchHandler", "MessageFailure", "form_of"]

BatchHandler: TypeAlias = Callable[[Any], Awaitable[Result] | Result] | Handlers
"""Takes messages of one shard, those of a key in order; returns what a handler of `eip.Consumer` returns.

Its annotation says what each is given as: ``list[Order]``, ``Sequence[Message[Order]]``, ``list[str]``. A ``def``
function runs in a thread. `eip.Handlers` get the messages of a batch one by one.
"""


class BatchFailure(Disposition):
    """The handler did the first ``handled`` messages of its batch and failed at the next: it begins there again."""

    def __init__(self, reason: str = "", *, handled: int) -> None:
        self.handled = handled
        super().__init__(reason)


class MessageFailure(BatchFailure):
    """The message after the ``handled`` ones failed, and nothing else.

    Args:
        error: what its handler raised.
        handled: how many were handled before it.
        results: what was returned for those.
    """

    def __init__(self, error: Exception, *, handled: int, results: Sequence[Message[Any]] = ()) -> None:
        self.error, self.results = error, results
        super().__init__(str(error), handled=handled)


def form_of(handler: BatchHandler) -> BatchForm:
    """The plain form of a batch handler; raises `ConfigurationError`."""
    inner: Any = handler
    while not isinstance(inner, Handlers) and hasattr(inner, "__wrapped__"):
        inner = inner.__wrapped__
    return BatchForm(_one_by_one(handler), None) if isinstance(inner, Handlers) else batch_handler_of(handler)


def _one_by_one(handlers: Any) -> Callable[[list[Any]], Awaitable[Result]]:
    async def handle(messages: list[Any]) -> Result:
        results: list[Message[Any]] = []
        for handled, message in enumerate(messages):
            try:
                results += messages_of(await handlers(message))
            except Exception as error:
                raise MessageFailure(error, handled=handled, results=results) from error
        return results

    return handle
