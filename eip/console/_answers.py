"""Answers of the console: JSON, and problem documents for the library's errors."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from eip._http import RequestRefused, problem, read_body
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

__all__ = ["BODY_TIMEOUT_S", "HANDLERS", "answer", "dumped", "flag", "number", "read", "text"]

_MAX_BODY_BYTES: Final = 4 * 1024 * 1024
BODY_TIMEOUT_S: Final = 20.0
"""For a request's body to arrive."""
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


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return the value as a JSON response; values that JSON cannot hold are written as text."""
    return Response(dumped(value), status, dict(headers or {}), "application/json")


def dumped(value: Any) -> bytes:
    """The value as JSON of one line, whatever is in it."""
    try:
        return orjson.dumps(value, default=str)
    except TypeError:  # lone surrogates, or integers beyond 64 bits
        return json.dumps(value, default=str).encode()


async def read(request: Request, fields: Collection[str]) -> dict[str, Any]:
    """The JSON object that was sent; raises `RequestRefused` for anything else.

    A field that is not known is refused: a misspelled one would leave a change unbounded.
    """
    body = await read_body(request, limit=_MAX_BODY_BYTES, timeout=BODY_TIMEOUT_S)
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestRefused(400, f"not JSON: {error}") from None
    if not isinstance(found, dict):
        raise RequestRefused(400, "an object is expected")
    if unknown := found.keys() - fields:
        raise RequestRefused(400, f"fields are {', '.join(fields)}; got {min(unknown)!r:.100}")
    return found


def text(given: Mapping[str, Any], name: str) -> str:
    """A text among what was given; raises `RequestRefused` where there is none."""
    value = given.get(name)
    if not isinstance(value, str) or not value:
        raise RequestRefused(400, f"{name} must be a text")
    return value


def flag(given: Mapping[str, Any], name: str) -> str | None:
    """A text that need not be given; raises `RequestRefused` for another value."""
    value = given.get(name)
    if value is not None and not isinstance(value, str):
        raise RequestRefused(400, f"{name} must be a text")
    return value or None


def number(given: Mapping[str, Any], name: str) -> float | None:
    """A number that need not be given; raises `RequestRefused` for another value."""
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RequestRefused(400, f"{name} must be a number")
    return float(value)


async def _failed(_: Request, error: Exception) -> Response:
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    return problem(RequestRefused(status, error_text(error)))


async def _missing(_: Request, error: Exception) -> Response:
    return problem(RequestRefused(404, f"not there (any more): {str(error)[:200]}"))


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestRefused)
    return problem(error)


HANDLERS: Final[dict[Any, Callable[[Request, Exception], Awaitable[Response]]]] = {
    RequestRefused: _refused,
    LookupError: _missing,
    EipError: _failed,
}
"""The answer to each error of a route."""
