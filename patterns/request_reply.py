"""Request-Reply (Hohpe & Woolf, chapter 5): one question, one answer, over two channels."""

from __future__ import annotations

from typing import Any

from typing_extensions import override

from eip.channels import Sender
from eip.clock import Duration
from eip.errors import EipError, RequestTimeout
from eip.health import Health
from eip.message import Message
from eip.patterns._gathering import check_deadline
from eip.patterns.scatter_gather import ReplyChannel, ScatterGather
from eip.runtime.service import Service

__all__ = ["RequestFailed", "RequestReply"]


class RequestFailed(EipError):
    """The responder reports that it failed; ``reply`` is its answer."""

    def __init__(self, reply: Message[Any]) -> None:
        self.reply = reply
        super().__init__(f"the responder of {reply.correlation_id} failed")


class RequestReply(Service):
    """Sends requests and awaits the reply to each; a service that is mostly used as a block.

    Any number of requests may be under way over one reply channel. The first reply counts; later ones are counted in
    `late` and acknowledged.

    Args:
        requests: where requests go.
        replies: the queue that replies come in on; nobody else may consume it.
        dead_letters: where replies go whose envelope cannot be read; default: the channel's own dead-letter queue.
        grace: seconds that stopping may take, whatever the channels do.
    """

    def __init__(
        self,
        requests: Sender,
        replies: ReplyChannel,
        *,
        dead_letters: Sender | None = None,
        grace: Duration = 20.0,
    ) -> None:
        self._gather = ScatterGather(requests, replies, dead_letters=dead_letters, grace=grace)
        self.name, self.ready, self.grace = self._gather.name, self._gather.ready, self._gather.grace

    @override
    def health(self) -> Health:
        return self._gather.health()

    @override
    async def run(self) -> None:
        await self._gather.run()

    @override
    async def stop(self, *, grace: Duration | None = None) -> None:
        await self._gather.stop(grace=grace)

    @property
    def late(self) -> int:
        """Replies that came after the first, or after the timeout."""
        return self._gather.late

    @property
    def unknown(self) -> int:
        """Replies to no request that is known."""
        return self._gather.unknown

    @property
    def ambiguous(self) -> int:
        """Replies without a request id, whose correlation id several requests share."""
        return self._gather.ambiguous

    async def listen(self, replies: ReplyChannel) -> None:
        """Consume another reply channel from now on."""
        await self._gather.listen(replies)

    async def unlisten(self, replies: ReplyChannel) -> None:
        """Stop consuming a reply channel; what still comes stays in it."""
        await self._gather.unlisten(replies)

    async def request(
        self,
        body: Any,
        *,
        timeout: Duration,  # noqa: ASYNC109 - it travels as expiry
        replies: ReplyChannel | None = None,
    ) -> Message[Any]:
        """The reply to a request.

        Args:
            body: the request's body, or a whole `Message`, whose correlation id is kept.
            timeout: seconds (or timedelta) that sending and answering may take together; carried as expiry.
            replies: another channel for this reply, e.g. of `ReplyQueues`.

        Raises:
            RequestTimeout: no reply came in time.
            RequestFailed: the reply is of type ``"error"``.
        """
        wait = check_deadline("timeout", timeout)
        gathered = await self._gather.request(body, deadline=wait, expected=1, replies=replies)
        if gathered.errors:
            raise RequestFailed(gathered.errors[0])
        if not gathered.replies:
            raise RequestTimeout(f"no reply to {gathered.correlation_id} within {wait:g} s")
        return gathered.replies[0]
