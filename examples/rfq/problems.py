"""Problem documents (RFC 9457): whatever is refused is refused in the same shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.responses import JSONResponse, Response

from eip._logging import get_logger
from eip._repeated import RepeatedLines
from eip.errors import EipError

__all__ = ["HANDLERS", "Problem", "too_many", "unavailable", "upgrade_required"]

_lines = RepeatedLines(get_logger("examples.rfq"))


class Problem(Exception):
    """A refusal.

    Args:
        status: the HTTP status.
        title: the same for every occurrence.
        detail: what is wrong this time, for people.
        headers: of the response.
        more: further members of the document.
    """

    def __init__(
        self, status: int, title: str, detail: str = "", *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(title)
        self.status, self.headers = status, headers
        self.document = {"type": "about:blank", "title": title, "status": status, "detail": detail or title, **more}

    def response(self) -> Response:
        """As it is sent."""
        return JSONResponse(self.document, self.status, self.headers, media_type="application/problem+json")


def upgrade_required() -> Problem:
    """For a request to the address of a web socket that asks for none."""
    return Problem(426, "Upgrade required", "open a web socket here", headers={"Upgrade": "websocket"})


def too_many(detail: str, *, seconds: int = 1) -> Problem:
    """For a caller who has had their share for now."""
    return Problem(429, "Too many requests", detail, headers={"Retry-After": str(seconds)})


def unavailable(error: Exception) -> Problem:
    """For a failure of what the service needs; leaves a line in the log."""
    _lines.error("request_failed", error=repr(error))
    detail = "what the service needs does not answer; try again"
    return Problem(503, "Service unavailable", detail, headers={"Retry-After": "5"})


async def _problem(_: HTTPConnection, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.response()


async def _http_problem(request: HTTPConnection, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return Problem(error.status_code, error.detail, headers=error.headers, path=request.url.path).response()


async def _unavailable(_: HTTPConnection, error: Exception) -> Response:
    return unavailable(error).response()


async def _gone(_: HTTPConnection, __: Exception) -> Response:
    return Problem(400, "Body cut off", "the body did not arrive").response()  # for nobody: the client has left


async def _failure(_: HTTPConnection, __: Exception) -> Response:
    return Problem(500, "Internal error", "the request could not be served; try again").response()


HANDLERS = {
    Problem: _problem,
    HTTPException: _http_problem,
    ClientDisconnect: _gone,
    EipError: _unavailable,
    Exception: _failure,
}
"""For Starlette's ``exception_handlers``."""
