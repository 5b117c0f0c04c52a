"""The pages and their files, and the headers for browsers that every answer has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["BrowserRules", "pages"]

_FILES: Final = Path(__file__).with_name("static")
_RULES: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


_PAGES: Final = {
    "ride": ("/", "Ride"),
    "unicorn": ("/unicorn", "Unicorn"),
    "operations": ("/operations/", "Operations"),
}
"""By its name, which is its file's: where a page is, and what leads there."""
_ELSEWHERE: Final = frozenset(("operations",))
"""Of these, the pages that another application serves: the console."""
_NAVIGATION: Final = "<nav></nav>"
_MAP: Final = "<!--map-->"


def pages(*names: str) -> list[BaseRoute]:
    """The routes of those pages, which lead to each other, and of the files that they need."""
    routes = [Route(_PAGES[name][0], _page(name, names)) for name in names if name not in _ELSEWHERE]
    return [*routes, Mount("/static", StaticFiles(directory=_FILES))]


def _page(name: str, names: Sequence[str]) -> Callable[[Request], Awaitable[Response]]:
    links = "".join(_link(each, current=each == name) for each in names)
    page = (_FILES / f"{name}.html").read_text(encoding="utf-8")
    city = (_FILES / "map.svg").read_text(encoding="utf-8").rstrip()
    shown = page.replace(_NAVIGATION, f'<nav aria-label="Pages">{links}</nav>').replace(_MAP, city)

    async def show(_: Request) -> Response:
        return HTMLResponse(shown)

    return show


def _link(name: str, *, current: bool) -> str:
    path, text = _PAGES[name]
    return f"""<a href="{path}"{' aria-current="page"' if current else ""}>{text}</a>"""


class BrowserRules:
    """ASGI middleware: headers for browsers, where an answer does not set its own."""

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
