"""The pages and their files, served as they are; and what every answer tells browsers."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["PAGES", "BrowserRules"]

_FILES: Final = Path(__file__).with_name("static")
_RULES: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


async def _ride(_: Request) -> Response:
    return FileResponse(_FILES / "index.html")


async def _operations(_: Request) -> Response:
    return FileResponse(_FILES / "operations.html")


PAGES: Final[list[BaseRoute]] = [
    Route("/", _ride),
    Route("/operations", _operations),
    Mount("/static", StaticFiles(directory=_FILES)),
]


class BrowserRules:
    """ASGI middleware: what a browser may do with an answer, where the answer does not say itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""

        async def ruled(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, rule in _RULES.items():
                    headers.setdefault(name, rule)
            await send(message)

        await self._app(scope, receive, ruled)
