"""The console's API: what its pages read, and the changes that operators make."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Scope

from eip._http import RequestRefused
from eip.console._answers import answer, dumped, flag, number, read, text
from eip.console._conversation import conversation, latest_conversations
from eip.console._guard import is_admitted, user_of
from eip.console._jobs import Job, ended
from eip.console._processes import gatherings, process, process_svg, processes, scheduled
from eip.console._selection import Selection
from eip.console._service_operations import ServiceOperations
from eip.console.operations import Operations
from eip.console.tokens import User
from eip.console.view import View

__all__ = ["Api"]

_MAX_STREAMS: Final = 50
"""Browsers that are kept up to date at once."""
_JOB_WAIT_S: Final = 3.0
"""For the end of a job, before the answer is that it runs."""
_MAX_REASON: Final = 200

_Change = Callable[[dict[str, Any], str], Awaitable[Any]]


class Api:
    """The routes over a view and its operations.

    Args:
        view: what is read.
        operations: what operators change.
        interval: seconds between looks while somebody watches.
    """

    def __init__(self, view: View, operations: Operations, *, interval: float) -> None:
        self._view, self._operations = view, operations
        self._services = ServiceOperations(view.subject, operations.audit)
        self._interval = interval
        self._refreshed_at = float("-inf")
        self._refreshing = asyncio.Lock()
        self._streams = 0
        self.closing = asyncio.Event()
        """Ends the streams."""

    def routes(self) -> list[Route]:
        """All routes, below that of the API."""
        view = self._view
        reads = {
            "me": self._me,
            "flow": self._plain(lambda _: view.flow.as_dict()),
            "state": self._state,
            "live": self._live,
            "letters": self._letters,
            "letter": self._letter,
            "dead-letters": self._plain(lambda _: {"queues": view.dead_letter_queues()}),
            "processes": self._processes,
            "process": self._process,
            "process.svg": self._process_svg,
            "scheduled": self._scheduled,
            "requests": self._requests,
            "conversation": self._conversation,
            "cost": self._plain(lambda _: view.costs.as_dict()),
            "audit": self._plain(lambda _: {"records": self._operations.audit.latest()}),
        }
        changes = {
            "redrive": (self._redrive, ("queue", *Selection.FIELDS, "rate", "to")),
            "edit": (self._edit, ("queue", "key", "body", "attributes", "to")),
            "discard": (self._discard, ("queue", *Selection.FIELDS)),
            "restore": (self._restore, ("export", "queue")),
            "jobs/cancel": (self._cancel_job, ("id",)),
            "process/retry": (self._retry_process, ("manager", "id")),
            "process/cancel": (self._cancel_process, ("manager", "id", "reason")),
            "scheduled/cancel": (self._cancel_scheduled, ("scheduler", "key")),
            "scheduled/send": (self._send_scheduled, ("scheduler", "key")),
        }
        return [
            *(Route(f"/{path}", handle) for path, handle in reads.items()),
            Route("/look", self._look, methods=["POST"]),
            *(Route(f"/{path}", self._changing(*change), methods=["POST"]) for path, change in changes.items()),
        ]

    # What is read.

    @staticmethod
    def _plain(value: Callable[[Request], Any]) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            return answer(value(request))

        return handle

    async def _me(self, request: Request) -> Response:
        user = user_of(request.scope)
        return answer(
            {
                "name": user.name,
                "role": user.role,
                "subject": self._view.subject.name,
                "transport": type(self._view.subject.transport).__name__,
                "can_discard": self._operations.exports is not None,
                "redacted": list(self._view.redaction.fields),
                "queues": list(self._view.subject.queues()),
                "interval": self._interval,
            }
        )

    async def _refresh(self) -> None:
        """Look once for all who watch."""
        async with self._refreshing:
            now = asyncio.get_running_loop().time()
            if now - self._refreshed_at >= self._interval * 0.9:
                await self._view.refresh()
                self._refreshed_at = asyncio.get_running_loop().time()

    def _now(self) -> dict[str, Any]:
        return {**self._view.state(), "jobs": [each.as_dict() for each in self._operations.jobs.all()]}

    async def _state(self, _: Request) -> Response:
        await self._refresh()
        return answer(self._now())

    async def _live(self, request: Request) -> Response:
        if self._streams >= _MAX_STREAMS:
            raise RequestRefused(503, f"{_MAX_STREAMS} browsers are watching already", {"Retry-After": "30"})
        return StreamingResponse(self._states(request.scope), media_type="text/event-stream")

    async def _states(self, scope: Scope) -> AsyncIterator[bytes]:
        self._streams += 1
        try:
            while not self.closing.is_set() and is_admitted(scope):
                await self._refresh()
                yield b"event: state\ndata: " + dumped(self._now()) + b"\n\n"
                try:
                    async with asyncio.timeout(self._interval):
                        await self.closing.wait()
                except TimeoutError:
                    continue
        finally:
            self._streams -= 1

    async def _look(self, request: Request) -> Response:
        """Look at a queue of dead letters; readers may, as it changes nothing but a receive count."""
        await self._view.letters.look(text(await read(request, ("queue",)), "queue"))
        return answer({"queues": self._view.dead_letter_queues()})

    async def _letters(self, request: Request) -> Response:
        query = request.query_params
        page = query.get("page", "1")
        if not page.isascii() or not page.isdecimal() or len(page) > 6:
            raise RequestRefused(400, "page must be a number from 1")
        return answer(
            self._view.page(
                text(query, "queue"), group=flag(query, "group"), text=query.get("text", ""), page=int(page)
            )
        )

    async def _letter(self, request: Request) -> Response:
        query = request.query_params
        return answer(await self._view.letter(text(query, "queue"), text(query, "key")))

    async def _processes(self, request: Request) -> Response:
        query = request.query_params
        found = await processes(
            self._view.subject, self._view.redaction, process=flag(query, "process"), status=flag(query, "status")
        )
        return answer({"managers": found})

    async def _process(self, request: Request) -> Response:
        query, view = request.query_params, self._view
        return answer(await process(view.subject, view.redaction, text(query, "manager"), text(query, "id")))

    async def _process_svg(self, request: Request) -> Response:
        query = request.query_params
        picture = await process_svg(self._view.subject, self._view.redaction, text(query, "manager"), text(query, "id"))
        return Response(picture, media_type="image/svg+xml")

    async def _scheduled(self, _: Request) -> Response:
        return answer({"schedulers": await scheduled(self._view.subject, self._view.redaction)})

    async def _requests(self, _: Request) -> Response:
        return answer({"gatherers": await gatherings(self._view.subject)})

    async def _conversation(self, request: Request) -> Response:
        wanted, view = request.query_params.get("id", "").strip(), self._view
        if not wanted:
            return answer({"latest": latest_conversations(view.subject)})
        return answer(conversation(view.subject, view.letters, view.redaction, wanted[:_MAX_REASON]))

    # What is changed.

    def _changing(self, change: _Change, fields: tuple[str, ...]) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            user: User = user_of(request.scope)
            if not user.may_change:
                raise RequestRefused(403, "this is for operators; your token is a reader's")
            found = await change(await read(request, fields), user.name)
            if isinstance(found, Job):
                found = (await ended(found, within=_JOB_WAIT_S)).as_dict()
                self._view.forget_depths()
            return answer(found)

        return handle

    async def _redrive(self, given: dict[str, Any], by: str) -> Job:
        return await self._operations.redrive(
            text(given, "queue"), Selection.parse(given), by=by, rate=number(given, "rate"), to=flag(given, "to")
        )

    async def _edit(self, given: dict[str, Any], by: str) -> Job:
        attributes, body = given.get("attributes"), given.get("body")
        if attributes is not None and not isinstance(attributes, dict):
            raise RequestRefused(400, "attributes must be an object")
        if body is not None and not isinstance(body, str):
            raise RequestRefused(400, "body must be a text")
        return await self._operations.send_edited(
            text(given, "queue"), text(given, "key"), by=by, body=body, attributes=attributes, to=flag(given, "to")
        )

    async def _discard(self, given: dict[str, Any], by: str) -> Job:
        return await self._operations.discard(text(given, "queue"), Selection.parse(given), by=by)

    async def _restore(self, given: dict[str, Any], by: str) -> Job:
        return await self._operations.restore(text(given, "export"), text(given, "queue"), by=by)

    async def _cancel_job(self, given: dict[str, Any], by: str) -> Job:
        return await self._operations.cancel_job(text(given, "id"), by=by)

    async def _retry_process(self, given: dict[str, Any], by: str) -> dict[str, bool]:
        return {"changed": await self._services.retry_process(text(given, "manager"), text(given, "id"), by=by)}

    async def _cancel_process(self, given: dict[str, Any], by: str) -> dict[str, bool]:
        reason = (flag(given, "reason") or f"cancelled by {by}")[:_MAX_REASON]
        manager, wanted = text(given, "manager"), text(given, "id")
        return {"changed": await self._services.cancel_process(manager, wanted, reason, by=by)}

    async def _cancel_scheduled(self, given: dict[str, Any], by: str) -> dict[str, bool]:
        return {"changed": await self._services.cancel_scheduled(text(given, "scheduler"), text(given, "key"), by=by)}

    async def _send_scheduled(self, given: dict[str, Any], by: str) -> dict[str, bool]:
        return {"changed": await self._services.send_scheduled_now(text(given, "scheduler"), text(given, "key"), by=by)}
