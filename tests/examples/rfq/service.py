"""The RFQ service as a process of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[3]


class Service:
    """A running service and a client for it."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.client = httpx.Client(base_url=url, timeout=20, trust_env=False)

    def kill(self) -> None:
        """The hard way."""
        self.process.kill()
        self.process.wait()

    def end(self) -> int:
        """The polite way; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)


@contextmanager
def running(state: Path, *options: str) -> Iterator[Service]:
    """The service on a free port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "examples.rfq", "--port", "0", "--state", str(state), "--seed", "3", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://[^/]+", line)
        assert found is not None, line + process.stdout.read()
        service = Service(process, found.group())
        with service.client:
            yield service
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
