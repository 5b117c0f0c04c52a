"""The console as an ASGI application."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route, Router
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from eip._checks import check_duration, check_integer
from eip.app import App
from eip.clock import Duration
from eip.console._answers import HANDLERS
from eip.console._api import Api
from eip.console._guard import Admission, Guard, KnownUser, UserFinder
from eip.console.audit import AuditLog
from eip.console.operations import Operations
from eip.console.redaction import Redaction
from eip.console.subject import Subject
from eip.console.tokens import User
from eip.console.view import View
from eip.errors import ConfigurationError

__all__ = ["Console"]

_STATIC: Final = Path(__file__).with_name("static")


class Console:
    """Shows an application and lets operators change what it holds; an ASGI application, to be served or mounted.

        web.mount("/console", Console(app, tokens=TokenFile(Path("tokens.json"))))

    Args:
        subject: an application, or what else is shown.
        tokens: who may use it; None: whoever is on this machine, and nobody else.
        known: instead of tokens, inside of an application that knows who asks: a function from the ASGI scope to the
            `User`; None: nobody who may use it. That application must refuse everybody else.
        read_only: without tokens, whoever is on this machine may change nothing.
        redact: names of fields whose values are masked, with ``*`` and ``?``; None: `redaction.DEFAULT_FIELDS`; empty:
            none.
        audit: a file that each change is recorded in; None: log events of ``eip.console.audit`` alone.
        exports: the folder that discarded messages are written to; None: nothing can be discarded.
        interval: seconds between updates of an open page.
        depth_interval: seconds between looks at how full the queues are, while a page is open; a billed call on SQS.
        journal: how many events of messages are kept for conversations; 0: none.

    Raises:
        ConfigurationError: a value out of range, or both tokens and ``known``.
    """

    def __init__(
        self,
        subject: Subject | App,
        *,
        tokens: UserFinder | None = None,
        known: KnownUser | None = None,
        read_only: bool = False,
        redact: Iterable[str] | None = None,
        audit: Path | None = None,
        exports: Path | None = None,
        interval: Duration = 1.0,
        depth_interval: Duration = 5.0,
        journal: int = 10_000,
    ) -> None:
        if tokens is not None and known is not None:
            raise ConfigurationError("give tokens or known, not both")
        self.subject = Subject.of(subject) if isinstance(subject, App) else subject
        self.is_guarded = tokens is not None or known is not None
        self.view = View(
            self.subject,
            Redaction(redact),
            depth_interval=check_duration("depth_interval", depth_interval, positive=True),
        )
        self.operations = Operations(
            self.subject, self.view.letters, self.view.redaction, AuditLog(audit), exports=exports
        )
        self._api = Api(self.view, self.operations, interval=check_duration("interval", interval, positive=True))
        check_integer("journal", journal, least=0)
        if self.subject.journal is not None and self.subject.journal.size < journal:
            self.subject.journal.keep(journal)
        local = User("local", "reader" if read_only else "operator")
        api = Admission(Router(self._api.routes()), tokens=tokens, known=known, local=local)
        self._app = Starlette(
            routes=[Route("/", _page), Mount("/api", api), Mount("/static", StaticFiles(directory=_STATIC))],
            exception_handlers=HANDLERS,
            middleware=[Middleware(Guard, is_local=not self.is_guarded)],
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        await self._app(scope, receive, send)

    def reopen(self) -> None:
        """Serve open pages again, after `aclose`."""
        self._api.closing.clear()

    async def aclose(self) -> None:
        """End open pages' streams and the jobs under way; what was moved stays moved. Idempotent."""
        self._api.closing.set()
        await self.operations.aclose()
        await self.view.aclose()


async def _page(_: Request) -> Response:
    return FileResponse(_STATIC / "index.html", media_type="text/html; charset=utf-8")
