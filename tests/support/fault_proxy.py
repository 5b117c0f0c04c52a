"""An HTTP proxy between a client and moto that does to calls what networks and services do, repeatable by a seed.

    async with FaultProxy(moto_server.url, Faults(seed=7, dropped_after=0.05, errors=0.05)) as proxy:
        async with AwsTransport(region=..., endpoint_url=proxy.url) as aws:
            proxy.once("dropped_after", "SendMessageBatch")     # and, besides the dice, exactly this one
            ...
            proxy.calm()                                        # from here on nothing fails
    assert proxy.done["dropped_after"] >= 1                     # what was done, by fault; `calls`: by operation

It runs in the test's own event loop. Processes that a test starts can be given its URL as their endpoint.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass, fields
from io import BytesIO
from typing import Any, Final, Self
from urllib.parse import parse_qs

import aiohttp
import pytest
from aiohttp import web

__all__ = ["FaultProxy", "Faults", "fault_proxy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """How often what goes wrong: probabilities per call, tried in this order, one fault a call."""

    seed: int = 0
    operations: Collection[str] | None = None
    """Only these fail, e.g. ``{"SendMessageBatch"}``; None: all."""
    dropped_before: float = 0.0
    """The connection breaks before the service has seen the call."""
    dropped_after: float = 0.0
    """The service has acted, and the connection breaks instead of the answer."""
    errors: float = 0.0
    """Status 500; the service has acted in every other case."""
    throttled: float = 0.0
    """The service asks to slow down, and has not acted."""
    expired: float = 0.0
    """The caller's credentials have expired, and the service has not acted."""
    slow: float = 0.0
    """The answer takes `slow_by`."""
    truncated: float = 0.0
    """The service has acted, and the connection breaks in the middle of the answer."""
    slow_by: float = 0.5
    """Seconds."""


_KINDS: Final = tuple(each.name for each in fields(Faults) if each.name not in ("seed", "operations", "slow_by"))
_NOT_PASSED_ON: Final = frozenset(("connection", "content-length", "transfer-encoding", "keep-alive"))


class FaultProxy:
    """Forwards each call to the service, or lets it fail; use it with ``async with``."""

    def __init__(self, upstream: str, faults: Faults | None = None) -> None:
        self.upstream, self.faults = upstream, faults or Faults()
        self.url = ""
        self.calls: Counter[str] = Counter()
        """Calls that came, by operation."""
        self.done: Counter[str] = Counter()
        """Faults so far, by their names in `Faults`."""
        self._dice = random.Random(self.faults.seed)
        self._planned: list[tuple[str, str]] = []
        self._stack = AsyncExitStack()
        self._session: aiohttp.ClientSession

    def once(self, fault: str, operation: str, times: int = 1) -> None:
        """Let the next calls of this operation have this fault, whatever the dice say."""
        assert fault in _KINDS, fault
        self._planned += [(fault, operation)] * times

    def calm(self) -> None:
        """Let nothing fail from here on."""
        self.faults = Faults()
        self._planned.clear()

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        self._session = await self._stack.enter_async_context(
            aiohttp.ClientSession(connector=connector, auto_decompress=False, timeout=aiohttp.ClientTimeout(total=None))
        )
        server = web.Server(self._handle, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.content.read()  # of any size
        operation = _operation(request, body)
        self.calls[operation] += 1
        fault = self._draw(operation)
        if fault is not None:
            self.done[fault] += 1
        match fault:
            case "dropped_before":
                return _broken(request)
            case "throttled":
                return _refusal(request, "ThrottlingException", 400)
            case "expired":
                return _refusal(request, "ExpiredToken", 403)
            case "errors" if self.done[fault] % 2:
                return _refusal(request, "InternalFailure", 500)
        try:
            answer = await self._forward(request, body)
        except aiohttp.ClientError:  # the service has gone, or the proxy is going
            return _broken(request)
        match fault:
            case "dropped_after":
                return _broken(request)
            case "errors":
                return _refusal(request, "InternalFailure", 500)
            case "slow":
                await asyncio.sleep(self.faults.slow_by)
            case "truncated":
                return await _cut(request, answer)
        return answer

    def _draw(self, operation: str) -> str | None:
        for planned in self._planned:
            if planned[1] == operation:
                self._planned.remove(planned)
                return planned[0]
        faults = self.faults
        if faults.operations is not None and operation not in faults.operations:
            return None
        dice = self._dice.random()
        for kind in _KINDS:
            dice -= getattr(faults, kind)
            if dice < 0:
                return kind
        return None

    async def _forward(self, request: web.BaseRequest, body: bytes) -> web.Response:
        headers = [(name, text) for name, text in request.headers.items() if name.lower() not in _NOT_PASSED_ON]
        data = BytesIO(body)  # a large one as bytes would hold the event loop up, and aiohttp says so
        async with self._session.request(
            request.method,
            f"{self.upstream}{request.raw_path}",
            headers=headers,
            data=data,
            allow_redirects=False,
        ) as answer:
            content = await answer.read()
            kept = [(name, text) for name, text in answer.headers.items() if name.lower() not in _NOT_PASSED_ON]
            return web.Response(status=answer.status, body=content, headers=kept)


def _operation(request: web.BaseRequest, body: bytes) -> str:
    """Of the JSON protocols by header, of the query protocol by the form's Action; otherwise method and path."""
    if target := request.headers.get("X-Amz-Target"):
        return target.rpartition(".")[2]
    if request.content_type == "application/x-www-form-urlencoded":
        return parse_qs(body[:2000].decode(errors="replace")).get("Action", [""])[0]
    return f"{request.method} {request.path}"


def _broken(request: web.BaseRequest) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()  # nobody hears it


async def _cut(request: web.BaseRequest, answer: web.Response) -> web.StreamResponse:
    content = bytes(answer.body or b"")  # type: ignore[arg-type]  # bytes, as `_forward` made it
    half = web.StreamResponse(status=answer.status, headers=answer.headers)
    half.content_length = len(content)
    await half.prepare(request)
    await half.write(content[: len(content) // 2])
    return _broken(request)


def _refusal(request: web.BaseRequest, code: str, status: int) -> web.Response:
    """An error in the protocol that the call was made in."""
    if "X-Amz-Target" in request.headers:
        return web.json_response(
            {"__type": f"com.amazonaws#{code}", "message": "as planned"},
            status=status,
            content_type="application/x-amz-json-1.0",
        )
    kind = "Receiver" if status >= 500 else "Sender"
    said = f"<Error><Type>{kind}</Type><Code>{code}</Code><Message>as planned</Message></Error>"
    return web.Response(status=status, text=f"<ErrorResponse>{said}</ErrorResponse>", content_type="text/xml")


@pytest.fixture
async def fault_proxy(moto_server: Any) -> AsyncIterator[Callable[..., Any]]:
    """Makes proxies to moto's server: ``proxy = await fault_proxy(seed=7, errors=0.1)``; closed after the test."""
    async with AsyncExitStack() as stack:

        async def make(**faults: Any) -> FaultProxy:
            return await stack.enter_async_context(FaultProxy(moto_server.url, Faults(**faults)))

        yield make
