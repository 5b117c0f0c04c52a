"""Ending processes, several side by side: most of such a test is waiting."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from tests.support.timing import waited_s

GRACE = 15
"""Seconds until a process has ended whose parts drain for 1 second, and that leaves connections that do not answer."""


def side_by_side(**cases: Callable[[], object]) -> None:
    """Run all cases at the same time; raises what failed, each with its case's name."""
    with ThreadPoolExecutor(len(cases)) as threads:
        running = {name: threads.submit(case) for name, case in cases.items()}
    failures = []
    for name, each in running.items():
        failure = each.exception()
        if failure is not None:
            failure.add_note(f"in the case: {name}")
            failures.append(failure)
    if failures:
        raise BaseExceptionGroup("cases failed", failures)


def ended(process: subprocess.Popen[str], within: float = GRACE) -> int:
    """The exit code of a process, which must end within so many seconds of a SIGTERM.

    Time that the process, or this thread, waited for a core does not count.
    """
    begun, before = time.monotonic(), waited_s(process.pid) + waited_s()
    waited = before
    process.send_signal(signal.SIGTERM)
    while process.poll() is None:
        assert time.monotonic() - begun < within + 60
        time.sleep(0.02)
        waited = max(waited, waited_s(process.pid) + waited_s())
    assert time.monotonic() - begun - (waited - before) < within
    return process.returncode


@contextmanager
def swallowing() -> Iterator[int]:
    """A port whose connections are accepted, by the kernel, and never answered."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]
