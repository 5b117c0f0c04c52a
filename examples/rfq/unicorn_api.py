"""Unicorn management over HTTP: its health."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from examples.rfq.access import Guard, Hosts
from examples.rfq.pages import BrowserRules
from examples.rfq.problems import HANDLERS
from examples.rfq.unicorns import Herd

__all__ = ["herd_app"]

_PUBLIC = frozenset(("/healthz", "/readyz"))


def herd_app(herd: Herd, *, hosts: Hosts | None = None) -> Starlette:
    """The application of a process that runs unicorns alone.

    Args:
        herd: the unicorns that it runs.
        hosts: the names that it answers to; None: its address and the machine's name.
    """

    async def health(_: Request) -> Response:
        """That it lives, whatever else is broken."""
        return JSONResponse({"status": "ok", "unicorns": len(herd.unicorns)})

    async def ready(_: Request) -> Response:
        """Whether all of its unicorns listen."""
        missing = await herd.missing()
        if missing:
            return JSONResponse({"status": "waiting", "waiting-for": missing}, 503, headers={"Retry-After": "1"})
        return JSONResponse({"status": "ready"})

    return Starlette(
        routes=[Route("/healthz", health), Route("/readyz", ready)],
        exception_handlers=HANDLERS,
        middleware=[Middleware(BrowserRules), Middleware(Guard, public=_PUBLIC, hosts=hosts)],
    )
