"""Probes of an application: ``/livez``, ``/readyz`` and ``/metrics``, in a thread of their own.

A blocked event loop could not answer; so nothing here touches the application's loop.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from eip._checks import check_duration
from eip.app._probe_server import Answer, ProbeServer
from eip.app.application import App
from eip.clock import Duration
from eip.errors import ConfigurationError
from eip.health import Health

__all__ = ["HealthServer"]

_JSON: Final = "application/json"


class HealthServer(ProbeServer):
    """Serves the health and the metrics of an application; a service beside it, so that it answers until the end.

        app = make_app()
        async with HealthServer(app, port=8080):
            await run(app)

    ``/livez`` is 503 where the event loop is blocked for longer than ``max_blocked``, so that an orchestrator restarts
    the process. ``/readyz`` is 503 where the application is not open, or one of its parts is not well; its JSON names
    the part, since when and why, and ``?exclude=PART`` leaves parts out. ``/metrics`` is Prometheus's text (extra
    ``prometheus``).

    Args:
        app: whose health.
        port: to listen on; 0: a free one, see `port`.
        host: address to listen on; ``"0.0.0.0"`` for an orchestrator's probes from outside.
        max_blocked: how long the event loop may be blocked, in seconds, while the process counts as alive.

    Raises:
        ConfigurationError: a value out of range; raised by `run` where the port is taken.
    """

    def __init__(self, app: App, port: int = 8080, *, host: str = "127.0.0.1", max_blocked: Duration = 10.0) -> None:
        super().__init__(self._probed, port, host)
        self._app = app
        self._max_blocked = check_duration("max_blocked", max_blocked, positive=True)

    def _probed(self, target: str) -> Answer:
        split = urlsplit(target)
        match split.path:
            case "/livez":
                return self._livez()
            case "/readyz":
                return self._readyz(frozenset(parse_qs(split.query).get("exclude", ())))
            case "/metrics":
                return self._metrics()
        return Answer(HTTPStatus.NOT_FOUND, b"there are /livez, /readyz and /metrics\n")

    def _livez(self) -> Answer:
        blocked = self._app.blocked_for()
        if blocked > self._max_blocked:
            return Answer(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"{self._app.parts()['event loop'].reason}\n".encode(errors="backslashreplace"),
            )
        return Answer(HTTPStatus.OK, b"ok\n")

    def _readyz(self, exclude: frozenset[str]) -> Answer:
        app = self._app
        parts = {name: each for name, each in app.parts().items() if name not in exclude}
        failing = next((f"{name}: {each.reason}" for name, each in parts.items() if not each.ok), None)
        reason = failing if app.is_open else app.health().reason
        ok = reason is None
        found = {"ok": ok, "reason": reason, "parts": {name: _plain(each) for name, each in parts.items()}}
        return Answer(
            HTTPStatus.OK if ok else HTTPStatus.SERVICE_UNAVAILABLE, json.dumps(found).encode() + b"\n", _JSON
        )

    def _metrics(self) -> Answer:
        try:
            from eip.telemetry.prometheus import CONTENT_TYPE, render  # noqa: PLC0415 - an extra
        except ConfigurationError as error:
            return Answer(HTTPStatus.NOT_IMPLEMENTED, f"{error}\n".encode())
        return Answer(HTTPStatus.OK, render(self._app.families), CONTENT_TYPE)


def _plain(health: Health) -> dict[str, Any]:
    return {name: value for name, value in asdict(health).items() if value is not None}
