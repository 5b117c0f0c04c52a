"""The end of a process: the first signal drains, the second ends it; nothing that hangs can hold it up."""

from __future__ import annotations

import asyncio
import logging
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from types import FrameType, TracebackType
from typing import Any, Final, Self

from eip._logging import get_logger
from eip.runtime._watchdog import abandoned, log_stuck, running_handlers, stack_of

__all__ = ["EXIT_STUCK", "Shutdown"]

_log = get_logger("eip.service")

EXIT_STUCK: Final = 70
"""Exit code of a process that something kept from ending within its grace (EX_SOFTWARE of sysexits.h)."""
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_LAST_S: Final = 5.0
"""For the rest of the program, where a handler was left behind that does not end."""


class Shutdown:
    """Handles SIGTERM and SIGINT until the block ends; does nothing outside of the main thread.

    The event loop may be blocked, even in C code, so a thread of its own gets the signals too: it reads what the
    interpreter's signal handler writes, and counts the time.

    Args:
        drain: called on the loop at the first signal.
        limit: seconds from then until the process ends.
        describe: what still runs, for the log.
    """

    def __init__(self, drain: Callable[[], None], limit: float, *, describe: Callable[[], list[str]]) -> None:
        self._drain, self._limit, self._describe = drain, limit, describe
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._bytes = self._calls = self._signals = self._last = 0
        self._deadline: float | None = None
        self._closed = False
        self._before: dict[int, Any] = {}
        self._fd_before = -1

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._fd_before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._called)
        threading.Thread(target=self._watch, name="eip shutdown", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._before:
            return
        for number, before in self._before.items():
            if signal.getsignal(number) == self._called:
                signal.signal(number, before if before is not None else signal.SIG_DFL)
        if signal.set_wakeup_fd(self._fd_before) != self._writer.fileno():
            _log.debug("wakeup_fd_taken")
        if self._signals and any(not each.done() for each in abandoned):
            # Its task or thread would hold up the end of the loop or of the interpreter: leave a little time.
            self._deadline = monotonic() + _LAST_S
        else:
            self._closed = True
        self._nudge()

    # Signals come in twice: as bytes to the thread, and as calls in the main thread once that is in Python code. The
    # thread acts on both: a call may interrupt the main thread while that writes a line of the log and holds its lock.

    def _called(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._calls, self._last = self._calls + 1, number
        self._nudge()

    def _watch(self) -> None:
        while not self._closed:
            deadline = self._deadline
            wait = None if deadline is None else max(deadline - monotonic(), 0.0)
            readable, _, _ = select.select([self._reader], [], [], wait)
            if not readable:
                self._give_up()
            for number in self._reader.recv(64) if readable else b"":
                if number in self._before:
                    self._bytes, self._last = self._bytes + 1, number
                elif number and self._fd_before >= 0:
                    with suppress(OSError):
                        os.write(self._fd_before, bytes([number]))  # of another signal, for whoever was there before
            while max(self._bytes, self._calls) > self._signals:
                self._received(self._last)
        self._reader.close()
        self._writer.close()

    def _received(self, number: int) -> None:
        self._signals += 1
        name = signal.Signals(number).name
        if self._signals > 1:
            _log.warning("second_signal", signal=name, still_running=", ".join(self._describe()))
            _end(128 + number)
        _log.info("signal_received", signal=name, limit=self._limit)
        self._deadline = monotonic() + self._limit
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._drain)

    def _nudge(self) -> None:
        """Let the thread look at the deadline."""
        with suppress(OSError):
            self._writer.send(b"\0")

    def _give_up(self) -> None:
        calls = [*running_handlers(), *(call for call in abandoned.values() if not call.task.done())]
        for call in calls:
            log_stuck(call)
        _log.error(
            "shutdown_timed_out",
            limit=self._limit,
            still_running=", ".join(self._describe()),
            stack=stack_of(self._thread_id),
        )
        _end(EXIT_STUCK)


def _end(code: int) -> None:
    """End the process now: nothing in it can be trusted to end by itself."""
    with suppress(Exception):
        logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(code)
