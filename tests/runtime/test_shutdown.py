"""The end of a process, whatever its handlers do: real processes, real signals."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eip.runtime.service import EXIT_STUCK

PROGRAM = """
import asyncio, logging
from eip import Consumer, Message, run
from eip.transports.memory import MemoryTransport
from tests.support.handlers import busy, blocks, idle, ignores, in_c, in_thread

logging.basicConfig(level="INFO")

async def main():
    async with MemoryTransport() as memory:
        queue = memory.queue("orders")
        if HANDLER is not idle:
            await queue.send(Message(1, id="the-message"))
        consumer = Consumer(queue, HANDLER, grace=GRACE)
        task = asyncio.create_task(run(consumer, grace=LIMIT))
        if HANDLER is idle:
            await consumer.ready.wait()
            print("begun", flush=True)
        await task
    print("ended", flush=True)

asyncio.run(main())
"""


def start(handler: str, *, grace: float, limit: float) -> subprocess.Popen[str]:
    text = PROGRAM.replace("HANDLER", handler).replace("GRACE", str(grace)).replace("LIMIT", str(limit))
    process = subprocess.Popen(
        [sys.executable, "-c", text],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


@pytest.mark.parametrize("handler", ["idle", "busy"])
def test_a_process_whose_handlers_end_drains_and_ends_with_0(handler):
    """Fault 41: idle and busy."""
    process = start(handler, grace=20, limit=30)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "ended\n")
    assert "handler_does_not_end" not in err


@pytest.mark.parametrize("handler", ["ignores", "in_thread", "blocks", "in_c"])
def test_after_the_grace_the_culprit_is_named_and_the_process_ends(handler):
    """Fault 41d: it was held up for as long as the handler took, and no line named it."""
    process = start(handler, grace=0.2, limit=2.0)
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert process.returncode == EXIT_STUCK
    assert time.monotonic() - began < 30
    (line,) = [each for each in err.splitlines() if "handler_does_not_end" in each][:1]
    assert f"handler={handler} message_id=the-message seconds=" in line


@pytest.mark.parametrize("handler", ["ignores", "in_thread", "blocks", "in_c"])
def test_a_second_signal_ends_the_process_at_once(handler):
    """Fault 41d: the second signal did nothing."""
    process = start(handler, grace=1000, limit=1000)
    process.send_signal(signal.SIGTERM)
    assert process.stderr is not None
    while "signal_received" not in (line := process.stderr.readline()):
        assert line or process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
