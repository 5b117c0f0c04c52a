"""Shared by channel adapters over HTTP: a body within its limits, and answers (extra ``http``)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from eip.errors import EipError

__all__ = ["RequestRefused", "problem", "read_body"]


class RequestRefused(EipError):
    """A request that is answered with an error.

    Args:
        status: of HTTP.
        reason: for the caller.
        headers: of the answer.
    """

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        self.status, self.reason, self.headers = status, reason, headers
        super().__init__(f"{status}: {reason}")


def problem(refused: RequestRefused) -> Response:
    """The answer as a problem document (RFC 9457)."""
    document: dict[str, Any] = {"status": refused.status, "detail": refused.reason}
    return JSONResponse(document, refused.status, refused.headers, media_type="application/problem+json")


async def read_body(request: Request, *, limit: int, timeout: float) -> bytes:  # noqa: ASYNC109 - a request's, answered
    """The body of a request, never more of it in memory than may be.

    Args:
        request: not read yet.
        limit: of its size, in bytes.
        timeout: seconds that it may take to arrive.

    Raises:
        RequestRefused: it is too large, too slow, or its caller has gone.
    """
    given = request.headers.get("content-length", "")
    if given.isascii() and given.isdigit() and int(given[:20]) > limit:
        raise RequestRefused(413, f"the body must have at most {limit:,} bytes")
    parts, size = list[bytes](), 0
    try:
        async with asyncio.timeout(timeout):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise RequestRefused(413, f"the body must have at most {limit:,} bytes")
                parts.append(part)
    except TimeoutError:
        raise RequestRefused(408, f"the body must arrive within {timeout:g} s") from None
    except ClientDisconnect:
        raise RequestRefused(400, "the body did not arrive") from None
    return b"".join(parts)
