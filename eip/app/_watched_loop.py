"""The event loop of an application as other threads see it: what its parts answer, or how long it has been blocked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, TypeAlias

from eip import clock
from eip.health import Health
from eip.runtime._watchdog import blocked_loop

__all__ = ["WatchedLoop"]

_ANSWER_TIMEOUT_S: Final = 1.0
"""For the loop to ask the parts; after that it counts as blocked to the one who asked."""

_Parts: TypeAlias = dict[str, Health]


class WatchedLoop:
    """Asks the parts of an application on its event loop, from any thread."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.get_ident()
        self._last: _Parts = {}

    def attach(self) -> None:
        """Take the running event loop for the application's."""
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()

    def detach(self) -> None:
        """Forget the loop: the application has ended."""
        self._loop = None

    def ask(self, parts: Callable[[], _Parts]) -> _Parts:
        """What ``parts`` returns on the loop; while that is blocked, what it returned last, with the loop's state."""
        loop = self._loop
        if loop is None or threading.get_ident() == self._thread:
            self._last = parts()
            return self._last
        answer: Future[_Parts] = Future()

        def ask() -> None:
            try:
                answer.set_result(parts())
            except Exception as error:  # noqa: BLE001 - raised to the one who asked
                answer.set_exception(error)

        try:
            loop.call_soon_threadsafe(ask)
            self._last = answer.result(_ANSWER_TIMEOUT_S)
        except (TimeoutError, RuntimeError):  # it is blocked, or closed since
            return {**self._last, "event loop": self.health()}
        return self._last

    def blocked_for(self) -> float:
        """Seconds for which the loop has been blocked; 0: it runs."""
        blocked = None if self._loop is None else blocked_loop(self._loop)
        return 0.0 if blocked is None else blocked.seconds

    def health(self) -> Health:
        """Whether the loop runs; the reason names the handler that blocks it."""
        blocked = None if self._loop is None else blocked_loop(self._loop)
        if blocked is None:
            return Health(ok=True)
        handler = blocked.handler or "other code than a handler's"
        reason = f"blocked for {blocked.seconds:.0f} s by {handler}"
        return Health(ok=False, failing_since=clock.now() - blocked.seconds, reason=reason)
