"""Temporary queues on SQS: made at their first use, removed by their owner, or by a janitor once that is gone."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import uuid
from collections import Counter
from typing import Any

import pytest

from eip import Consumer, Message, ReturnAddresses
from eip.errors import AccessDenied, ConfigurationError
from eip.patterns import ReplyQueues, RequestReply, ScatterGather
from eip.stores import MemoryStore
from eip.topology import QueueSpec, Topology
from eip.transports.aws import AwsTransport
from tests.support.environment import REGION

pytestmark = pytest.mark.aws

BEAT = 0.2


@pytest.fixture(params=["moto_server", "ministack"])
def emulator(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
async def aws(emulator):
    async with transport_of(emulator) as transport:
        yield transport


@pytest.fixture
def prefix():
    return f"replies-{uuid.uuid4().hex[:8]}"


def transport_of(emulator: Any) -> AwsTransport:
    return AwsTransport(REGION, emulator.url, session=emulator.session, long_poll=1.0)


def names(emulator: Any, prefix: str) -> set[str]:
    urls = emulator.client("sqs").list_queues(QueueNamePrefix=prefix).get("QueueUrls", ())
    return {url.rpartition("/")[2] for url in urls}


async def eventually(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.05)


@pytest.fixture
def looked(aws, monkeypatch):
    """Waits until janitors have looked at all queues so many times from now on."""
    call, calls = type(aws._client).call, Counter[str]()

    async def counted(self: Any, service: str, operation: str, **parameters: Any) -> Any:
        try:
            return await call(self, service, operation, **parameters)
        finally:
            calls[operation] += 1

    async def times(looks: int) -> None:
        wanted = calls["ListQueues"] + looks
        await eventually(lambda: calls["ListQueues"] >= wanted)

    monkeypatch.setattr(type(aws._client), "call", counted)
    return times


async def answering(aws: AwsTransport, prefix: str) -> Consumer:
    await Topology(QueueSpec(f"asked-{prefix}", dead_letters=False)).apply(aws)

    async def answer(request: Message) -> Message:
        return request.reply(f"{request.body}!")

    return Consumer(aws.queue(f"asked-{prefix}"), answer, replies=ReturnAddresses(aws, prefix=prefix), grace=1)


async def test_request_reply_and_scatter_gather_over_a_queue_of_the_process(aws, emulator, prefix):
    async with await answering(aws, prefix):
        asked = aws.queue(f"asked-{prefix}")
        async with aws.temporary_queue(prefix) as replies:
            assert names(emulator, prefix) == set()
            async with RequestReply(asked, replies) as client:
                assert (await client.request("hi", timeout=20)).body == "hi!"
                assert names(emulator, prefix) == {replies.name}
        async with aws.temporary_queue(prefix) as replies, ScatterGather(asked, replies) as gather:
            assert bodies(await gather.request("ho", expected=1, deadline=20)) == ["ho!"]
    assert names(emulator, prefix) == set()


def bodies(gathered: Any) -> list[Any]:
    return [each.body for each in gathered.replies]


async def test_it_names_its_owner_and_ends_with_its_transport(emulator, prefix):
    async with transport_of(emulator) as aws:
        queue = aws.temporary_queue(prefix)
        url = await queue.url()
        tags = emulator.client("sqs").list_queue_tags(QueueUrl=url)["Tags"]
        assert set(tags) == {"eip:owner", "eip:alive-until"}
        assert queue.name.startswith(f"{prefix}-temp-")
        unused = aws.temporary_queue(prefix)
        await unused.remove()
    assert names(emulator, prefix) == set()


async def test_a_janitor_never_removes_what_is_alive_or_not_ours(aws, emulator, prefix, looked):
    """Two owners whose janitors look at each other for long, beside a stranger's queue of such a name."""
    stranger = f"{prefix}-temp-stranger"
    emulator.client("sqs").create_queue(QueueName=stranger)
    async with (
        aws.temporary_queue(prefix, heartbeat=BEAT) as one,
        aws.temporary_queue(prefix, heartbeat=BEAT) as two,
        ScatterGather(one, one),
        ScatterGather(two, two),
    ):
        await looked(6)
        assert names(emulator, prefix) == {one.name, two.name, stranger}


async def test_an_owner_whose_queue_was_removed_makes_it_again(aws, emulator, prefix):
    async with aws.temporary_queue(prefix, heartbeat=BEAT) as queue:
        url = await queue.url()
        emulator.client("sqs").delete_queue(QueueUrl=url)
        await eventually(lambda: names(emulator, prefix) == {queue.name})


OWNER = """
import asyncio, sys
from eip.transports.aws import AwsTransport

async def main(region, url, prefix):
    async with AwsTransport(region, url) as aws:
        queue = aws.temporary_queue(prefix, heartbeat=0.5)
        await queue.url()
        print(queue.name, flush=True)
        await asyncio.sleep(60)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_the_queue_of_a_killed_owner_is_removed_by_another(aws, emulator, prefix, looked):
    """kill -9: it is there while its time has not passed, and gone soon after."""
    command = [sys.executable, "-c", OWNER, REGION, emulator.url, prefix]
    owner = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert owner.stdout is not None
    try:
        orphan = (await owner.stdout.readline()).decode().strip()
        async with aws.temporary_queue(prefix, heartbeat=BEAT) as queue:
            await queue.url()
            await looked(2)
            assert orphan in names(emulator, prefix)
            owner.send_signal(signal.SIGKILL)
            await owner.wait()
            await eventually(lambda: names(emulator, prefix) == {queue.name})
    finally:
        if owner.returncode is None:
            owner.kill()


async def test_a_queue_of_a_key_is_made_removed_and_made_under_another_name(aws, emulator, prefix):
    """With the store of all processes; SQS refuses a name for a minute after its removal."""
    spec = QueueSpec(prefix, visibility=5)
    async with (
        await answering(aws, prefix),
        aws.temporary_queue(prefix) as shared,
        RequestReply(aws.queue(f"asked-{prefix}"), shared) as client,
        ReplyQueues(aws, client, queue=spec, store=MemoryStore(), idle=0, poll_interval=0.1) as own,
    ):
        for _ in range(2):
            replies = await own.of("Ada", deadline=5)
            assert any(name.startswith(f"{prefix}-Ada-") for name in names(emulator, prefix))
            assert (await client.request("hi", timeout=5, replies=replies)).body == "hi!"
            await eventually(lambda: not any("-Ada-" in name for name in names(emulator, prefix)))


async def test_without_permission_to_list_it_works_and_leaves_others_alone(aws, emulator, prefix, monkeypatch):
    call = type(aws._client).call

    async def denied(self: Any, service: str, operation: str, **parameters: Any) -> Any:
        if operation == "ListQueues":
            raise AccessDenied("not authorized to perform sqs:listqueues")
        return await call(self, service, operation, **parameters)

    monkeypatch.setattr(type(aws._client), "call", denied)
    async with aws.temporary_queue(prefix, heartbeat=BEAT) as queue:
        await queue.url()
        await asyncio.sleep(3 * BEAT)
        assert names(emulator, prefix) == {queue.name}
    assert names(emulator, prefix) == set()


async def test_a_queue_is_removed_by_name(aws, emulator, prefix):
    await Topology(QueueSpec(prefix, dead_letters=False)).apply(aws)
    for _ in range(2):
        await aws.remove_queue(prefix)
    assert names(emulator, prefix) == set()


async def test_a_name_that_cannot_be_is_refused(aws):
    with pytest.raises(ConfigurationError, match="name must be 1 to 30 letters"):
        aws.temporary_queue("x" * 50)
    with pytest.raises(ConfigurationError, match="heartbeat must be > 0"):
        aws.temporary_queue("x", heartbeat=0)
