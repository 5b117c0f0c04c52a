"""The RFQ service as a process of its own."""

from __future__ import annotations

import re
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[3]


class Service:
    """A running service and a client for it."""

    def __init__(self, process: subprocess.Popen[str], url: str, *, verify: ssl.SSLContext | None = None) -> None:
        self.process = process
        self.url = url
        self.client = httpx.Client(base_url=url, timeout=60, trust_env=False, verify=verify or False)

    def everyone_there(self, unicorns: int) -> None:
        """Wait until so many unicorns have said where they are."""
        deadline = time.monotonic() + 100
        while self.client.get("/healthz").json()["unicorns"] < unicorns:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def follow(self, link: str) -> Any:
        """Poll until the RFQ is complete; its result."""
        while (answer := self.client.get(link)).status_code == 200:
            time.sleep(0.05)
        assert answer.status_code == 303
        return self.client.get(answer.headers["location"]).json()

    def kill(self) -> None:
        """The hard way."""
        self.process.kill()
        self.process.wait()

    def end(self) -> int:
        """The polite way; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=90)


@contextmanager
def running(
    state: Path | str, *options: str, verify: ssl.SSLContext | None = None, **process_options: Any
) -> Iterator[Service]:
    """The service on a free port; `verify` is how a client greets it over TLS."""
    process = subprocess.Popen(
        [sys.executable, "-m", "examples.rfq", "--port", "0", "--state", str(state), "--seed", "3", *options],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        **process_options,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"https?://[^/]+", line)
        assert found is not None, line + process.stdout.read()
        service = Service(process, found.group(), verify=verify)
        with service.client:
            yield service
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
