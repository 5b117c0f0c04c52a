"""``GET /identity``: whom the service takes its caller for, and the certificate that it has shown."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from examples.rfq.access import caller
from examples.rfq.partners import certificate_of
from examples.rfq.tls import as_json

__all__ = ["IDENTITY"]


async def _identity(request: Request) -> Response:
    who, certificate = caller(request), certificate_of(request)
    return JSONResponse(
        {
            "name": None if who is None else who.name,
            "role": None if who is None else who.role,
            "certificate": None if certificate is None else as_json(certificate),
        },
        headers={"Cache-Control": "no-store"},
    )


IDENTITY = Route("/identity", _identity)
