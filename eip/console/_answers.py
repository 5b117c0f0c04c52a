"""Answers of the console: JSON, refusals, and what the library's errors become."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from eip.errors import (
    AccessDenied,
    ChannelNotFound,
    ConfigurationError,
    Conflict,
    DecodeError,
    EipError,
    InvalidMessage,
    StoreError,
    TransportError,
    error_text,
)

__all__ = ["HANDLERS", "Refusal", "answer", "flag", "number", "read", "text"]

_MAX_BODY_BYTES: Final = 4 * 1024 * 1024
_STATUS: Final[tuple[tuple[type[Exception], int], ...]] = (
    (Conflict, 409),
    (ChannelNotFound, 404),
    (AccessDenied, 502),
    (TransportError, 502),
    (StoreError, 503),
    (ConfigurationError, 400),
    (InvalidMessage, 400),
    (DecodeError, 400),
)


class Refusal(Exception):
    """A request that is answered with why it was not done."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        self.status, self.detail, self.headers = status, detail, dict(headers or {})
        super().__init__(detail)

    def response(self) -> Response:
        """The answer."""
        return answer({"error": self.detail}, self.status, self.headers)


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON; what it has no form for is text."""
    try:
        content = orjson.dumps(value, default=str)
    except TypeError:  # lone surrogates, or integers beyond 64 bits
        content = json.dumps(value, default=str).encode()
    return Response(content, status, dict(headers or {}), "application/json")


async def read(request: Request) -> dict[str, Any]:
    """The JSON object that was sent; raises `Refusal` for anything else."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY_BYTES:
            raise Refusal(413, f"at most {_MAX_BODY_BYTES:,} bytes")
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal(400, f"not JSON: {error}") from None
    if not isinstance(found, dict):
        raise Refusal(400, "an object is expected")
    return found


def text(given: Mapping[str, Any], name: str) -> str:
    """A text among what was given; raises `Refusal` where there is none."""
    value = given.get(name)
    if not isinstance(value, str) or not value:
        raise Refusal(400, f"{name} must be a text")
    return value


def flag(given: Mapping[str, Any], name: str) -> str | None:
    """A text that need not be given; raises `Refusal` for another value."""
    value = given.get(name)
    if value is not None and not isinstance(value, str):
        raise Refusal(400, f"{name} must be a text")
    return value or None


def number(given: Mapping[str, Any], name: str) -> float | None:
    """A number that need not be given; raises `Refusal` for another value."""
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Refusal(400, f"{name} must be a number")
    return float(value)


async def _failed(_: Request, error: Exception) -> Response:
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    return answer({"error": error_text(error)}, status)


async def _missing(_: Request, error: Exception) -> Response:
    return answer({"error": f"not there (any more): {str(error)[:200]}"}, 404)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return error.response()


HANDLERS: Final[dict[Any, Callable[[Request, Exception], Awaitable[Response]]]] = {
    Refusal: _refused,
    LookupError: _missing,
    EipError: _failed,
}
"""What becomes of what a route raises."""
