"""Channel Adapter (Hohpe & Woolf, chapter 4) for HTTP: a request becomes a message on a queue, topic, bus or stream.

    orders = Webhook(aws.queue("orders"), authenticate=HmacSignature(secret))
    app = Starlette(routes=[Route("/orders", orders)])           # or mount it in FastAPI

The answer is 202 once the channel has the message, and not before:

    202    stored; with an idempotency key also what was stored before
    400    a body that its content type forbids              408    a body that does not arrive
    401    a caller who cannot prove who it is               413    a body, or a message of it, that is too large
    409    the same key is being stored by another request   422    the same key with another body
    500    ``message`` failed, which is logged with its stack
    503    too much at once, or the channel fails: to be sent again, after ``Retry-After``

A caller that gets no answer sends again: the message may be there twice, unless it gives an ``Idempotency-Key``.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from eip._checks import check_duration, check_integer, check_type
from eip._http import RequestRefused, problem, read_body
from eip._logging import get_logger
from eip.channels import Sender
from eip.clock import Duration
from eip.codec import codec_of, is_json, load_json
from eip.errors import DecodeError, EipError, InvalidMessage, MessageTooLarge, Retry, error_text
from eip.limits import MIB
from eip.message import Message
from eip.patterns.idempotent_receiver import idempotent
from eip.runtime.handlers import messages_of
from eip.stores.base import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive, Scope, Send

__all__ = ["Authenticate", "MessageOf", "Webhook"]

_log = get_logger("eip.webhook")

Authenticate: TypeAlias = Callable[[Request, bytes], Awaitable[bool] | bool]
"""Whether the request with that body is of who it says; what it raises is answered with 503."""
MessageOf: TypeAlias = Callable[[Request, bytes], Message[Any]]

_RETRY_AFTER_S: Final = 5
_MAX_KEY: Final = 255
"""Characters of an idempotency key."""
_IDEMPOTENCY_KEY: Final = "idempotency-key"
"""The header of the IETF's draft "The Idempotency-Key HTTP Header Field"."""


class Webhook:
    """An ASGI application that stores what is POSTed to it as messages of a channel.

    Args:
        to: where messages go; its transport must be open while requests come.
        authenticate: who may call, e.g. `HmacSignature`; None: everybody who reaches it.
        message: makes the message of a request and its body; `InvalidMessage`, `DecodeError` and `ValueError` are
            answered with 400, any other error with 500.
            Default: the body as it came, by its content type.
        type: of the messages, where ``message`` is not given; a bus needs it, and their source.
        source: of the messages, as ``type``.
        store: remembers idempotency keys, shared by all processes; None: a key is only the message's deduplication id,
            by which FIFO channels drop a second one for five minutes.
        window: seconds (or timedelta) that a key is remembered.
        max_body_bytes: of a request; default: what the channel takes, at most 1 MiB.
        max_requests: at once; others are answered with 503 before their body is read, so that memory stays bounded.
        timeout: seconds for the body to arrive, and again for the channel to take the message.

    Raises:
        ConfigurationError: a value out of range.
    """

    def __init__(
        self,
        to: Sender,
        *,
        authenticate: Authenticate | None,
        message: MessageOf | None = None,
        type: str | None = None,  # noqa: A002 - the envelope's own term
        source: str | None = None,
        store: Store | None = None,
        window: Duration = 86_400.0,
        max_body_bytes: int | None = None,
        max_requests: int = 100,
        timeout: Duration = 20.0,
    ) -> None:
        self._to = check_type("to", to, Sender, "a sender")
        self._authenticate, self._message_of = authenticate, message or self._plain
        self._named = {"type": type, "source": source}
        self._max_body = min(MIB, to.limits.message_bytes or MIB) if max_body_bytes is None else max_body_bytes
        check_integer("max_body_bytes", self._max_body, least=1)
        self._free = check_integer("max_requests", max_requests, least=1)
        self._timeout = check_duration("timeout", timeout, positive=True)
        lease = min(60.0, check_duration("window", window, positive=True) / 2)
        once = None if store is None else idempotent(store, key=_key_of, lease=lease, window=window, scope=to.name)
        self._store_once = self._store if once is None else once(self._store)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        try:
            async with self._slot():
                response = await self._answer(request)
        except RequestRefused as refused:
            _log.info("request_refused", channel=self._to.name, status=refused.status, reason=refused.reason)
            response = problem(refused)
        await response(scope, receive, send)

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        if self._free <= 0:
            raise _later("too many requests at once")
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1

    async def _answer(self, request: Request) -> Response:
        if request.method != "POST":
            raise RequestRefused(405, "messages are sent with POST", {"Allow": "POST"})
        body = await read_body(request, limit=self._max_body, timeout=self._timeout)
        await self._check_caller(request, body)
        message = self._message(request, body)
        stored = await self._stored(message)
        replayed = {"idempotency-replayed": "true"} if stored["id"] != message.id else None
        return JSONResponse({"id": stored["id"]}, 202, replayed)

    async def _check_caller(self, request: Request, body: bytes) -> None:
        if self._authenticate is None:
            return
        try:
            async with asyncio.timeout(self._timeout):
                known = self._authenticate(request, body)
                known = await known if inspect.isawaitable(known) else known
        except Exception as error:
            _log.error("authentication_failed", channel=self._to.name, error=error_text(error))
            raise _later("who is calling cannot be checked now") from error
        if known is not True:
            raise RequestRefused(401, "the caller is not known, or the signature is wrong")

    def _message(self, request: Request, body: bytes) -> Message[Any]:
        """The message of a request; its idempotency key is its deduplication id, and is kept with the body's digest."""
        key = request.headers.get(_IDEMPOTENCY_KEY)
        if key is not None and not (0 < len(key) <= _MAX_KEY and key.isprintable()):
            raise RequestRefused(400, f"{_IDEMPOTENCY_KEY} must be 1 to {_MAX_KEY} printable characters")
        try:
            message = check_type("message", self._message_of(request, body), Message, "a message")
        except (ValueError, InvalidMessage, DecodeError) as error:
            raise RequestRefused(400, str(error)[:300]) from error
        except Exception as error:
            _log.error("message_not_made", channel=self._to.name, exc_info=error)
            raise RequestRefused(500, "no message could be made of the request") from error
        return message if key is None else message.replace(deduplication_id=key)

    def _plain(self, request: Request, body: bytes) -> Message[Any]:
        codec = codec_of(request.headers.get("content-type", "application/octet-stream"))
        if is_json(codec):
            load_json(body)
        return Message.received(body, codec=codec, **self._named)

    async def _stored(self, message: Message[Any]) -> dict[str, str]:
        """The message's stored answer, of this request or an earlier one."""
        try:
            async with asyncio.timeout(self._timeout):
                result = await (self._store if message.deduplication_id is None else self._store_once)(message)
        except Retry as later:
            wait = str(max(1, math.ceil(later.delay or 0)))
            raise RequestRefused(409, "a request with this key is being stored", {"Retry-After": wait}) from later
        except MessageTooLarge as error:
            raise RequestRefused(413, str(error)) from error
        except InvalidMessage as error:
            raise RequestRefused(400, str(error)) from error
        except (EipError, TimeoutError) as error:
            _log.error("message_not_stored", channel=self._to.name, error=error_text(error))
            raise _later("the message cannot be stored now") from error
        (receipt,) = messages_of(result)
        if receipt.body["sha256"] != _digest(message):
            raise RequestRefused(422, "this key was used for another body")
        stored: dict[str, str] = receipt.body
        return stored

    async def _store(self, message: Message[Any]) -> list[Message[Any]]:
        """Send the message; returns a receipt, which an idempotency store keeps."""
        await self._to.send(message)
        return [Message({"id": message.id, "sha256": _digest(message)})]


def _later(reason: str) -> RequestRefused:
    return RequestRefused(503, reason, {"Retry-After": str(_RETRY_AFTER_S)})


def _key_of(message: Message[Any]) -> str | None:
    return message.deduplication_id


def _digest(message: Message[Any]) -> str:
    return sha256(message.encode()).hexdigest()
