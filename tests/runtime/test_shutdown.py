"""The end of a process, whatever its handlers do: real processes, real signals."""

from __future__ import annotations

import os
import signal
import socket
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
    return begun(PROGRAM.replace("HANDLER", handler).replace("GRACE", str(grace)).replace("LIMIT", str(limit)))


def begun(program: str, *arguments: str) -> subprocess.Popen[str]:
    """A process that runs the program, once its services run."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"},
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


AWAY = """
import asyncio, sys
from eip import Consumer, Message, run
from eip.patterns.aggregator import Aggregator
from eip.patterns.scatter_gather import ScatterGather
from eip.stores import MemoryStore
from eip.stores.postgres import PostgresStore
from eip.streams import BatchConsumer
from eip.transports.activemq import ActiveMQTransport
from eip.transports.aws import AwsTransport

where = f"127.0.0.1:{sys.argv[1]}"

async def handle(message: Message) -> None: ...
async def handle_many(messages: list[Message]) -> None: ...

async def main():
    aws = AwsTransport(region="us-east-1", account="1" * 12, endpoint_url=f"http://{where}")
    amq = ActiveMQTransport(f"stomp://{where}")
    services = [
        Consumer(aws.queue("q"), handle),
        Consumer(aws.topic("t").subscription("s"), handle),
        Consumer(aws.stream("s").group("g"), handle),
        BatchConsumer(aws.stream("s").group("h", leases=MemoryStore()), handle_many),
        Consumer(amq.queue("q"), handle),
        Consumer(amq.topic("t", virtual=False).subscription("s"), handle),
        ScatterGather(requests=aws.topic("t"), replies=amq.queue("replies")),
        Aggregator(PostgresStore(f"postgresql://u:p@{where}/d", "x"), output=aws.queue("q"), size=2),
    ]
    task = asyncio.create_task(run(*services, grace=15))
    await asyncio.sleep(0)
    print("begun", flush=True)
    await task
    await amq.aclose()
    await aws.aclose()
    print("ended", flush=True)

asyncio.run(main())
"""


def test_services_whose_service_is_away_end_within_their_grace():
    """Fault 41: each driver and store, in the middle of connecting and once that was tried for a while."""
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.create_server(("127.0.0.1", 0)) as refusing:
        ports = [each.getsockname()[1] for each in (silent, refusing)]
        refusing.close()
        processes = [begun(AWAY, str(port)) for port in ports]
        processes[0].send_signal(signal.SIGTERM)
        time.sleep(1.0)  # the other one has been refused, and waits to try again
        processes[1].send_signal(signal.SIGTERM)
        for process in processes:
            out, err = process.communicate(timeout=60)
            assert (process.returncode, out) == (0, "ended\n"), err
