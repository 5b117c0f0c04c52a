"""Notices handlers that block the event loop: names them, and keeps the leases that the loop cannot keep meanwhile.

One daemon thread per process asks each loop for a sign of life. It costs one wake-up per sixteenth of the shortest
lease (at most every 2 s), and nothing per message. Code in C that does not release the GIL stops this thread too.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from traceback import format_stack
from typing import Any, Final, NamedTuple, Protocol
from weakref import WeakKeyDictionary

from eip._logging import get_logger
from eip._repeated import RepeatedLines
from eip.errors import error_text
from eip.runtime._leases import Leases

__all__ = [
    "BlockedLoop",
    "HandlerCall",
    "Lookout",
    "abandoned",
    "blocked_loop",
    "log_stuck",
    "running_handlers",
    "stack_of",
    "watched",
]

_log = RepeatedLines(get_logger("eip.consumer"), interval=10.0)

_SHARE: Final = 16
"""Looks per lease. A block is noticed within three looks; a lease has a third of its time left at worst."""
_MAX_PERIOD_S: Final = 2.0
_NO_LEASE_PERIOD_S: Final = 1.0
"""Between two looks where leases last as long as the connection, which has heart-beats of its own."""
_MAX_FRAMES: Final = 25


class HandlerCall(NamedTuple):
    """A handler that is busy with a message."""

    consumer: str
    handler: str
    message_id: str
    seconds: float
    """Since it was received."""
    task: asyncio.Task[Any]


abandoned: Final[WeakKeyDictionary[asyncio.Task[Any], HandlerCall]] = WeakKeyDictionary()
"""Handlers that did not end when their session did; see `Shutdown`."""


class BlockedLoop(NamedTuple):
    """An event loop that does not run."""

    handler: str
    """What keeps it from running; empty: no handler of a consumer."""
    seconds: float


class Watched(Protocol):
    """What is watched: a session."""

    @property
    def leases(self) -> Leases | None:
        """What it holds; None: nothing."""
        ...

    @property
    def lease(self) -> float | None:
        """Seconds of its leases."""
        ...

    def running(self) -> list[HandlerCall]:
        """Its handlers that run now."""
        ...


class _LoopWatch:
    """Watches one loop, from the watchdog's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.sessions: set[Watched] = set()
        self._thread = threading.get_ident()
        self._clock_offset = loop.time() - monotonic()
        self._asked_at: float | None = None
        self._reported = False

    @property
    def period(self) -> float:
        """Seconds between two looks."""
        leases = [each.lease for each in self.sessions.copy()]
        shares = [_NO_LEASE_PERIOD_S if each is None else each / _SHARE for each in leases]
        return max(min([*shares, _MAX_PERIOD_S]), 0.01)

    def look(self) -> None:
        """Ask for a sign of life; where there was none for two looks, the loop is blocked."""
        now = monotonic()
        if self._asked_at is None:
            self._asked_at = now
            self.loop.call_soon_threadsafe(self._answer)
        elif now - self._asked_at >= 2 * self.period:
            self._blocked(now, now - self._asked_at)

    def blocked(self) -> BlockedLoop | None:
        """By what it is blocked, and for how long; None: it runs."""
        asked_at = self._asked_at
        if not self._reported or asked_at is None:
            return None
        handlers = sorted({each.handler for each in self._culprits()})
        return BlockedLoop(", ".join(handlers), monotonic() - asked_at)

    def _answer(self) -> None:
        """Run on the loop."""
        asked_at, self._asked_at = self._asked_at, None
        if self._reported and asked_at is not None:
            self._reported = False
            _log.warning("loop_unblocked", varying={"blocked_for": round(monotonic() - asked_at, 1)})

    def _blocked(self, now: float, seconds: float) -> None:
        for session in self.sessions.copy():
            if session.leases is not None:
                session.leases.extend_blocking(now + self._clock_offset)
        if not self._reported:
            self._reported = True
            calls = self._culprits()
            _log.warning(
                "loop_blocked",
                consumer=", ".join(sorted({each.consumer for each in calls})),
                handler=", ".join(sorted({each.handler for each in calls})),
                varying={
                    "message_id": ", ".join(each.message_id for each in calls[:3]),
                    "seconds": round(seconds, 2),
                    "stack": stack_of(self._thread),
                },
            )

    def _culprits(self) -> list[HandlerCall]:
        """The handler whose task runs; all that are busy where it is in a task of its own."""
        calls = [call for session in self.sessions.copy() for call in session.running()]
        task = asyncio.current_task(self.loop)
        return [each for each in calls if each.task is task] or calls


class _Watchdog:
    """The process's thread and the loops that it watches."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._loops: dict[asyncio.AbstractEventLoop, _LoopWatch] = {}
        self._thread: threading.Thread | None = None

    def add(self, session: Watched, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            watch = self._loops.get(loop)
            if watch is None:
                watch = self._loops[loop] = _LoopWatch(loop)
            watch.sessions.add(session)
            if self._thread is None or not self._thread.is_alive():  # the thread of a parent process is not ours
                self._thread = threading.Thread(target=self._run, name="eip watchdog", daemon=True)
                self._thread.start()
        self._changed.set()

    def remove(self, session: Watched, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            watch = self._loops.get(loop)
            if watch is not None:
                watch.sessions.discard(session)
                if not watch.sessions:
                    del self._loops[loop]
        self._changed.set()

    def watch_of(self, loop: asyncio.AbstractEventLoop) -> _LoopWatch | None:
        with self._lock:
            return self._loops.get(loop)

    def sessions(self) -> list[Watched]:
        with self._lock:
            return [session for watch in self._loops.values() for session in watch.sessions]

    def _run(self) -> None:
        while True:
            self._changed.clear()
            with self._lock:
                watches = list(self._loops.values())
                if not watches:
                    self._thread = None
                    return
            for watch in watches:
                self._look(watch)
            self._changed.wait(min(watch.period for watch in watches))

    @staticmethod
    def _look(watch: _LoopWatch) -> None:
        try:
            watch.look()
        except Exception as error:  # noqa: BLE001 - a loop that was closed; the thread serves the others
            _log.warning("watchdog_failed", error=error_text(error))


_watchdog: Final = _Watchdog()


@contextmanager
def watched(session: Watched) -> Iterator[None]:
    """Watch the running loop on behalf of a session until the block ends.

    A loop whose clock is not the process's, as in virtual time, is not watched: it cannot be late.
    """
    loop = asyncio.get_running_loop()
    if abs(loop.time() - monotonic()) > 1.0:
        yield
        return
    _watchdog.add(session, loop)
    try:
        yield
    finally:
        _watchdog.remove(session, loop)


class Lookout:
    """Has a loop watched that may have no consumer."""

    leases: Leases | None = None
    lease: float | None = None

    def running(self) -> list[HandlerCall]:
        """No handler."""
        return []


def blocked_loop(loop: asyncio.AbstractEventLoop) -> BlockedLoop | None:
    """By what a watched loop is blocked, and for how long; None: it runs. May be called from any thread."""
    watch = _watchdog.watch_of(loop)
    return None if watch is None else watch.blocked()


def running_handlers() -> list[HandlerCall]:
    """All handlers that run in this process now; may be called from any thread."""
    return [call for session in _watchdog.sessions() for call in session.running()]


def log_stuck(call: HandlerCall) -> None:
    """Log a handler that goes on after the end of its grace, even though it was cancelled."""
    get_logger("eip.consumer").error(
        "handler_does_not_end",
        consumer=call.consumer,
        handler=call.handler,
        message_id=call.message_id,
        seconds=round(call.seconds, 1),
    )


def stack_of(thread: int) -> str:
    """Where a thread is, as text without values of variables."""
    frame = sys._current_frames().get(thread)  # noqa: SLF001 - the documented way to see another thread's stack
    return "" if frame is None else "".join(format_stack(frame, limit=None)[-_MAX_FRAMES:])
