"""The end of an application whose handlers do not end: real processes, real signals."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from eip.runtime.service import EXIT_STUCK
from examples.happy_path.server import HttpServer
from examples.rfq.server import Server as RfqServer
from tests.examples.rfq.service import ROOT
from tests.examples.stopping import side_by_side

PROGRAM = """
import asyncio, logging
from eip import Consumer, Message, run
from eip.transports.memory import MemoryTransport
from examples.lifecycle import Application, connected_to
from tests.support.handlers import ignores, in_c, in_thread

logging.basicConfig(level="INFO")

async def main():
    async def connect(stack):
        memory = await connected_to("memory", MemoryTransport, stack)
        queue = memory.queue("orders")
        await queue.send(Message(1, id="the-message"))
        return [Consumer(queue, HANDLER, grace=GRACE)]

    application = Application(connect, lambda: None, grace=GRACE)
    application.grace = GRACE  # so that the test does not wait for connections that nobody has
    await run(application)

asyncio.run(main())
"""


def test_a_server_is_made_where_standard_output_is_closed(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with socket.socket() as sock:
        RfqServer(None, sock, connections=1)
        HttpServer([], sock)


def test_a_line_that_cannot_be_printed_ends_nothing():
    """A full disk behind standard output, or a reader that is gone, ended the service that greeted."""
    program = "from examples.lifecycle import print_line; print_line('Wild Rydes')"
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert (ended.returncode, ended.stderr) == (0, b"")


def signalled(handler: str, *, grace: float, twice: bool) -> tuple[int, float, str]:
    """Exit code, seconds from the last signal to the end, and what was logged."""
    program = PROGRAM.replace("HANDLER", handler).replace("GRACE", str(grace))
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert process.stdout.readline() == "begun\n"
            process.send_signal(signal.SIGTERM)
            if twice:
                assert any("signal_received" in line for line in iter(process.stderr.readline, ""))
                process.send_signal(signal.SIGTERM)
            begun = time.monotonic()
            _, logged = process.communicate(timeout=60)
            return process.returncode, time.monotonic() - begun, logged
        finally:
            process.kill()


def is_named(handler: str) -> None:
    code, seconds, logged = signalled(handler, grace=0.2, twice=False)
    assert code == EXIT_STUCK
    assert seconds < 20
    assert f"handler={handler} message_id=the-message" in logged


def ends_at_the_second_signal(handler: str) -> None:
    code, seconds, _ = signalled(handler, grace=1000, twice=True)
    assert code == 128 + signal.SIGTERM
    assert seconds < 30


def test_a_handler_that_does_not_end_is_named_and_the_application_ends():
    """Fault 41d: one that ignores its cancellation, sits in a thread, or in C."""
    side_by_side(ignores=lambda: is_named("ignores"), thread=lambda: is_named("in_thread"), c=lambda: is_named("in_c"))


def test_a_second_signal_ends_the_application_at_once():
    """Fault 41d."""
    side_by_side(
        ignores=lambda: ends_at_the_second_signal("ignores"),
        thread=lambda: ends_at_the_second_signal("in_thread"),
        c=lambda: ends_at_the_second_signal("in_c"),
    )
