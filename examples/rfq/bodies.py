"""Bodies of requests: of a size, a media type and a shape, or refused."""

from __future__ import annotations

import asyncio
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from examples.rfq.problems import Problem

__all__ = ["parsed", "read", "read_bytes"]

_LARGEST: Final = 16 * 1024
"""Bytes of a request's body."""
_SLOWEST: Final = 10.0
"""Seconds that a request's body may take."""
_Model = TypeVar("_Model", bound=BaseModel)


async def read(request: Request, model: type[_Model]) -> _Model:
    """The request's JSON body; raises `Problem` where it is not what the model asks for."""
    return parsed(await _body(request), model)


def parsed(body: bytes | str, model: type[_Model]) -> _Model:
    """What JSON stands for; raises `Problem` where it is not what the model asks for."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _invalid(error) from None


def _invalid(error: ValidationError) -> Problem:
    wrong = error.errors(include_url=False, include_input=False, include_context=False)
    if wrong[0]["type"] == "json_invalid":
        return Problem(400, "Body is not JSON", wrong[0]["msg"])
    errors = [{"field": ".".join(map(str, each["loc"])) or "body", "message": each["msg"]} for each in wrong]
    details = "; ".join(f"{each['field']}: {each['message']}" for each in errors)
    return Problem(422, "Invalid body", details, errors=errors)


async def _body(request: Request) -> bytes:
    kind = request.headers.get("content-type", "application/json").split(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise Problem(415, "Unsupported media type", "send application/json")
    return await read_bytes(request, limit=_LARGEST, timeout=_SLOWEST)


async def read_bytes(request: Request, *, limit: int, timeout: float) -> bytes:  # noqa: ASYNC109 - of a client
    """A request's body, of whatever kind; raises `Problem` above so many bytes, or after so many seconds."""
    body = bytearray()
    try:
        async with asyncio.timeout(timeout):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise Problem(413, "Body too large", f"at most {limit:,} bytes")
    except TimeoutError:
        raise Problem(408, "Body too slow", f"it may take {timeout:g} s") from None
    return bytes(body)
