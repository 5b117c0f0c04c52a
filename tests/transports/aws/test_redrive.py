"""Redrive on SQS: by the service, filtered, in order, and killed in its middle."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from uuid import uuid4

import pytest

from benchmarks import sqs_stub
from eip import Message
from eip.errors import AccessDenied, ConfigurationError, ConnectionLost
from eip.matching import FilterPolicy
from eip.patterns.redrive import Progress, redrive
from eip.topology import QueueSpec, Topology
from eip.transports.aws import AwsTransport
from eip.transports.aws._client.errors import error_of

FAILED = {"dead-letter-reason": "ValueError: broken", "dead-letter-source": "q", "dead-letter-count": "5"}


@pytest.fixture
async def aws(moto_server):
    async with AwsTransport(
        region=moto_server.region, session=moto_server.session, endpoint_url=moto_server.url, long_poll=1.0
    ) as transport:
        yield transport


async def made(aws, *, fifo=False, **options):
    """A queue and its dead-letter queue."""
    name, suffix = f"r{uuid4().hex[:12]}", ".fifo" if fifo else ""
    dead = QueueSpec(f"{name}-dead{suffix}", dead_letters=False, **options)
    await Topology(dead, QueueSpec(f"{name}{suffix}", dead_letters=dead.name, **options)).apply(aws)
    return aws.queue(f"{name}{suffix}"), aws.queue(dead.name)


async def drained(queue) -> list[Message]:
    messages = []
    async with queue.receiver() as receiver:
        while taken := await receiver.receive(10, wait=1):
            messages += [each.message for each in taken]
            await receiver.ack(taken)
    return messages


async def test_the_service_moves_all_where_nothing_is_asked_of_it():
    server, stub = await sqs_stub.serve()
    async with server, AwsTransport(region=sqs_stub.REGION, endpoint_url=stub.url) as aws:
        await sqs_stub.make_queue(aws, "q")
        await sqs_stub.make_queue(aws, "dead")
        dead, queue = aws.queue("dead"), aws.queue("q")
        await dead.send(*(Message(number, headers=FAILED) for number in range(25)))
        assert await redrive(dead, queue) == Progress(moved=25)
        assert len(await drained(queue)) == 25
        assert stub.calls["StartMessageMoveTask"] == 1
        await dead.send(Message(1))
        assert (await redrive(dead, queue, limit=5, idle=0)).moved == 1
        assert stub.calls["StartMessageMoveTask"] == 1
        with pytest.raises(ConfigurationError):
            await dead.move_messages(queue, limit=5)


@pytest.mark.parametrize("suffix", ["", ".fifo"])
async def test_the_service_moves_messages_back_to_where_they_failed(suffix):
    """No destination is given, on FIFO queues too; with a rate and progress."""
    server, stub = await sqs_stub.serve()
    async with server, AwsTransport(region=sqs_stub.REGION, endpoint_url=stub.url) as aws:
        dead = QueueSpec(f"dead{suffix}", dead_letters=False)
        await Topology(dead, QueueSpec(f"q{suffix}", dead_letters=dead.name)).apply(aws)
        queue = aws.queue(dead.name)
        await queue.send(*(Message(number, group_id="g", headers=FAILED) for number in range(5)))
        seen: list[Progress] = []
        progress = await redrive(queue, rate=100, on_progress=seen.append)
        assert (progress.moved, progress.native, progress.how) == (5, True, "moved by the service itself")
        assert seen[-1].moved == 5
        assert stub.move_rate == 100
        assert len(await drained(aws.queue(f"q{suffix}"))) == 5


async def test_a_redrive_says_why_it_copies():
    server, stub = await sqs_stub.serve()
    async with server, AwsTransport(region=sqs_stub.REGION, endpoint_url=stub.url) as aws:
        await sqs_stub.make_queue(aws, "q")
        await sqs_stub.make_queue(aws, "dead")
        dead, queue = aws.queue("dead"), aws.queue("q")
        copied = await redrive(dead, queue, limit=5, dry_run=True, idle=0)
        assert (copied.native, copied.how) == (False, "copied, then deleted: limit, dry_run asked for")
        assert (await redrive(dead, queue, native=False, idle=0)).how.endswith("native=False asked for")
        assert "rate must be a whole number" in (await redrive(dead, queue, rate=0.5, idle=0)).how
        assert (await redrive(dead, aws.topic("t"), idle=0)).how.endswith("they go to another kind of channel")
        with pytest.raises(ConfigurationError, match="to is needed where messages are copied"):
            await redrive(dead, limit=5)
        assert stub.calls["StartMessageMoveTask"] == 0


@pytest.mark.parametrize(
    ("code", "status", "raised"),
    [
        ("InvalidAction", 400, ConfigurationError),
        ("UnsupportedOperation", 400, ConfigurationError),
        ("InternalFailure", 500, ConnectionLost),
        ("AccessDenied", 403, AccessDenied),
    ],
)
async def test_where_no_messages_can_be_moved_back_the_destination_is_asked_for(monkeypatch, code, status, raised):
    """Emulators without move tasks refuse the call; ministack by InvalidAction, moto by a 500."""
    failure = error_of("sqs", code, "no such thing", status=status)

    async def refuse(*_: object, **__: object) -> None:
        raise failure

    server, stub = await sqs_stub.serve()
    async with server, AwsTransport(region=sqs_stub.REGION, endpoint_url=stub.url) as aws:
        await sqs_stub.make_queue(aws, "dead")
        monkeypatch.setattr(aws._client, "call", refuse)
        with pytest.raises(raised, match=code) as caught:
            await redrive(aws.queue("dead"))
    assert ("name the destination queue" in str(caught.value)) == (raised is not AccessDenied)


async def test_a_cancelled_redrive_has_the_service_stop_moving(monkeypatch):
    """The service would go on by itself, at 500 messages a second."""
    server, stub = await sqs_stub.serve()
    running = {"Results": [{"TaskHandle": "moving", "Status": "RUNNING"}]}
    monkeypatch.setattr(stub, "ListMessageMoveTasks", lambda given: running)
    async with server, AwsTransport(region=sqs_stub.REGION, endpoint_url=stub.url) as aws:
        await sqs_stub.make_queue(aws, "q")
        await sqs_stub.make_queue(aws, "dead")
        task = asyncio.create_task(redrive(aws.queue("dead"), aws.queue("q")))
        async with asyncio.timeout(30):
            while not stub.calls["ListMessageMoveTasks"]:
                await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert stub.calls["CancelMessageMoveTask"] == 1


@pytest.mark.aws
async def test_where_the_service_cannot_move_them_they_are_copied_then_deleted(aws, monkeypatch):
    monkeypatch.setattr("eip.transports.aws._client.service_client._MAX_ATTEMPTS", 1)
    queue, dead = await made(aws)
    await dead.send(*(Message(number, headers=FAILED) for number in range(12)))
    assert (await redrive(dead, queue, idle=1)).moved == 12
    found = await drained(queue)
    assert sorted(each.body for each in found) == list(range(12))
    assert all(not each.headers for each in found)
    assert sum((await dead.depth()).values()) == 0


@pytest.mark.aws
async def test_a_filter_leaves_the_others_for_whoever_comes_next(aws):
    queue, dead = await made(aws)
    await dead.send(*(Message(n, attributes={"kind": "ab"[n % 2]}, group_id="fair", headers=FAILED) for n in range(20)))
    progress = await redrive(dead, queue, filter=FilterPolicy({"kind": ["a"]}), idle=1)
    assert (progress.moved, progress.left, progress.failed) == (10, 10, 0)
    assert sorted(each.body for each in await drained(queue)) == list(range(0, 20, 2))
    assert sorted(each.body for each in await drained(dead)) == list(range(1, 20, 2))


@pytest.mark.aws
@pytest.mark.soak
async def test_groups_keep_their_order_through_faults_of_the_service(aws, fault_proxy, moto_server):
    queue, dead = await made(aws, fifo=True, visibility=2)
    await dead.send(*(Message(number, group_id=f"g{number % 3}", headers=FAILED) for number in range(30)))
    proxy = await fault_proxy(seed=5, dropped_before=0.05, dropped_after=0.1, errors=0.05, truncated=0.05)
    async with AwsTransport(
        region=moto_server.region, session=moto_server.session, endpoint_url=proxy.url, account=aws.account, long_poll=1
    ) as bad:
        for _ in range(20):
            if not sum((await dead.depth()).values()):
                break
            await redrive(bad.queue(dead.name), bad.queue(queue.name), idle=3, rate=1000)
    got = await drained(queue)
    for group in range(3):
        assert [each.body for each in got if each.group_id == f"g{group}"] == list(range(group, 30, 3))
    assert sum(proxy.done.values()) >= 3


PROCESS = """
import asyncio, os, signal, sys
from eip.patterns.redrive import redrive
from eip.transports.aws import AwsTransport

url, region, dead, queue, killed_after = sys.argv[1:]

async def main():
    async with AwsTransport(region=region, endpoint_url=url, long_poll=1) as aws:
        source, to = aws.queue(dead), aws.queue(queue)
        send = to.send
        async def counted(*messages):
            global acks
            await send(*messages)
            acks += 1
            if acks == int(killed_after):
                os.kill(os.getpid(), signal.SIGKILL)  # sent, and not taken off
        to.send = counted
        progress = await redrive(source, to, rate=1e6, idle=3)
        print(progress.moved, progress.failed)

acks = 0
asyncio.run(main())
"""


@pytest.mark.aws
async def test_killed_between_sending_and_taking_off_it_is_simply_started_again(aws, moto_server):
    queue, dead = await made(aws, fifo=True, visibility=2)
    await dead.send(*(Message(number, group_id=f"g{number % 2}", id=f"m{number}") for number in range(16)))
    arguments = [moto_server.url, moto_server.region, dead.name, queue.name]

    def run(killed_after: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", PROCESS, *arguments, str(killed_after)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert (await asyncio.to_thread(run, 3)).returncode == -signal.SIGKILL
    done = await asyncio.to_thread(run, -1)
    assert done.returncode == 0, done.stderr
    assert sum((await dead.depth()).values()) == 0
    got = await drained(queue)
    for group in range(2):
        # What was sent twice had the same deduplication id.
        assert [each.body for each in got if each.group_id == f"g{group}"] == list(range(group, 16, 2))
    assert json.dumps(sorted(each.id for each in got)) == json.dumps(sorted(f"m{number}" for number in range(16)))
