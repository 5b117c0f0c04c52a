"""A stub of an AWS service that speaks its JSON protocol over HTTP: answers by operation, and notes what was asked."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from aiobotocore.session import AioSession, get_session
from aiohttp import web
from botocore.config import Config

from tests.support.environment import ENVIRONMENT, REGION


@cache
def _session() -> AioSession:
    """One for all stubs: it reads the SDK's service models once."""
    session = get_session()
    session.set_config_variable("region", REGION)
    session.set_credentials(ENVIRONMENT["AWS_ACCESS_KEY_ID"], ENVIRONMENT["AWS_SECRET_ACCESS_KEY"])
    return session


class Refusal(Exception):
    """What an operation answers instead: a code, a message, a status."""

    def __init__(self, code: str, message: str = "", status: int = 400) -> None:
        super().__init__(code)
        self.code, self.message, self.status = code, message, status


class AwsStub:
    """Answers each operation by a function of its parameters, which may raise `Refusal`."""

    def __init__(self, answers: Mapping[str, Callable[[dict[str, Any]], Any]]) -> None:
        self._answers = answers
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.url = ""
        self.token: str | None = None
        """Of the session whose credentials signed the last request."""

    async def _answer(self, request: web.Request) -> web.Response:
        operation = request.headers["X-Amz-Target"].split(".")[-1]
        assert "Signature=" in request.headers["Authorization"]
        self.token = request.headers.get("X-Amz-Security-Token")
        parameters = json.loads(await request.read())
        self.asked.append((operation, parameters))
        try:
            body, status = self._answers[operation](parameters), 200
        except Refusal as refusal:
            body, status = {"__type": refusal.code, "message": refusal.message}, refusal.status
        return web.json_response(body, status=status, content_type="application/x-amz-json-1.1")

    @asynccontextmanager
    async def client(self, service: str) -> AsyncIterator[Any]:
        """Serve on a free port of 127.0.0.1; the SDK's client of it, which tries once."""
        app = web.Application()
        app.router.add_post("/", self._answer)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            once = Config(retries={"total_max_attempts": 1})
            async with _session().create_client(service, endpoint_url=self.url, config=once) as client:
                yield client
        finally:
            await runner.cleanup()
