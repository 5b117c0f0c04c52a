"""Request-Reply (Hohpe & Woolf, chapter 5): one question, one answer, over two channels."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from eip.channels import Sender
from eip.clock import Duration
from eip.errors import EipError, RequestTimeout
from eip.message import Message
from eip.patterns.scatter_gather import ReplyChannel, ScatterGather

__all__ = ["RequestFailed", "RequestReply"]


class RequestFailed(EipError):
    """The responder says that it failed; ``reply`` is what it said."""

    def __init__(self, reply: Message[Any]) -> None:
        self.reply = reply
        super().__init__(f"the responder of {reply.correlation_id} failed")


class RequestReply:
    """Sends requests and awaits the reply to each; use it with ``async with``.

    Any number of requests may be under way over one reply channel. The first reply counts; later ones are counted in
    `late` and acknowledged.

    Args:
        requests: where requests go.
        replies: the queue that replies come in on; nobody else may consume it.
    """

    def __init__(self, requests: Sender, replies: ReplyChannel) -> None:
        self._gather = ScatterGather(requests, replies)

    async def __aenter__(self) -> Self:
        await self._gather.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._gather.__aexit__(kind, error, trace)

    @property
    def late(self) -> int:
        """Replies that came after the first, or after the timeout."""
        return self._gather.late + self._gather.unknown

    async def request(self, body: Any, *, timeout: Duration) -> Message[Any]:  # noqa: ASYNC109 - it travels as expiry
        """The reply to a request (a body, or a whole `Message`).

        Raises `RequestTimeout` where none comes within ``timeout`` seconds, and `RequestFailed` where the reply
        is of type ``"error"``.
        """
        gathered = await self._gather.request(body, deadline=timeout, expected=1)
        if gathered.errors:
            raise RequestFailed(gathered.errors[0])
        if not gathered.replies:
            raise RequestTimeout(f"no reply to {gathered.correlation_id} in time")
        return gathered.replies[0]
