"""Objects on S3 (moto's server), and claim checks exchanged with AWS's own library."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import sys
import uuid
from typing import Any

import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from eip import Message
from eip.errors import ConfigurationError, MessageTooLarge, Reject, StoreError
from eip.patterns.claim_check import ClaimCheckSender, claim_checked
from eip.stores import s3
from eip.stores.s3 import S3Objects, lifecycle_rule
from tests.runtime.scripted import Outbox
from tests.support.processes import free_port

pytestmark = [pytest.mark.aws, pytest.mark.asyncio]

CONFIG = AioConfig(retries={"total_max_attempts": 1}, connect_timeout=20)


@pytest.fixture
async def client(moto_server):
    async with get_session().create_client("s3", endpoint_url=moto_server.url, config=CONFIG) as client:
        yield client


@pytest.fixture
async def bucket(client):
    name = uuid.uuid4().hex
    await client.create_bucket(Bucket=name)
    return name


@pytest.fixture
async def objects(client, bucket):
    return S3Objects(client, bucket, StorageClass="STANDARD")


@pytest.fixture
def queue(moto_server):
    sqs = moto_server.client("sqs")
    url = sqs.create_queue(QueueName=uuid.uuid4().hex)["QueueUrl"]
    yield url
    sqs.delete_queue(QueueUrl=url)


async def test_written_read_and_removed(objects, bucket):
    data = bytes(range(256)) * 4000
    await objects.put("a/ä b", data)
    assert await objects.get(bucket, "a/ä b", limit=len(data)) == data
    with pytest.raises(MessageTooLarge):
        await objects.get(bucket, "a/ä b", limit=len(data) - 1)
    await objects.delete(bucket, "a/ä b")
    await objects.delete(bucket, "a/ä b")
    assert await objects.get(bucket, "a/ä b", limit=10) is None


async def test_what_fails_is_a_store_error(client):
    missing = S3Objects(client, uuid.uuid4().hex)
    for call in (missing.put("k", b""), missing.get(missing.bucket, "k", limit=1), missing.delete(missing.bucket, "k")):
        with pytest.raises(StoreError, match="S3"):
            await call
    nowhere = f"http://127.0.0.1:{free_port()}"
    async with get_session().create_client("s3", endpoint_url=nowhere, config=CONFIG) as unreachable:
        with pytest.raises(StoreError):
            await S3Objects(unreachable, "bucket").get("bucket", "k", limit=1)


@pytest.mark.parametrize("answers", [False, True], ids=["silent", "trickling"])
async def test_a_storage_that_hangs_is_a_store_error_in_time(monkeypatch, answers):
    """Each attempt of the SDK's waited a minute for every byte."""
    monkeypatch.setattr(s3, "_CALL_S", 0.2)

    serving: list[Any] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            if answers:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
            await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with get_session().create_client("s3", endpoint_url=url, config=CONFIG) as client:
            objects = S3Objects(client, "bucket")
            calls: list[Any] = [objects.get("bucket", "k", limit=10)]
            calls += [] if answers else [objects.put("k", b""), objects.delete("bucket", "k"), objects.keys("")]
            for call in calls:
                with pytest.raises(StoreError, match="no answer in time"):
                    await call
        if serving:  # on a busy machine a call may be over before its connection is there
            await asyncio.wait(serving)


async def test_the_lifecycle_rule_is_one(client, bucket):
    rules = {"Rules": [lifecycle_rule("claims/", days=20)]}
    await client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=rules)
    told = await client.get_bucket_lifecycle_configuration(Bucket=bucket)
    assert told["Rules"][0]["Expiration"] == {"Days": 20}
    with pytest.raises(ConfigurationError, match="days must be at least 1, got 0"):
        lifecycle_rule(days=0)


def as_sqs(message: Message) -> dict:
    """The message as the SQS driver writes it, its envelope aside."""
    attributes = {
        name: {"DataType": "Number" if isinstance(value, int) else "String", "StringValue": str(value)}
        for name, value in message.attributes.items()
    }
    return {"MessageBody": message.encode().decode(), "MessageAttributes": attributes}


def from_sqs(received: dict) -> Message:
    """The message as the SQS driver reads it from a foreign producer."""
    attributes = {
        name: int(each["StringValue"]) if each["DataType"] == "Number" else each["StringValue"]
        for name, each in received["MessageAttributes"].items()
    }
    return Message.received(received["Body"].encode(), attributes=attributes)


EXTENDED = """
import json, sys, sqs_extended_client
sqs = sqs_extended_client.SQSExtendedClientSession().client("sqs")
verb, sqs.large_payload_support, queue, sqs.use_legacy_attribute = *sys.argv[1:4], sys.argv[4] == "legacy"
if verb == "send":
    kind = {"DataType": "String", "StringValue": "invoice"}
    sqs.send_message(QueueUrl=queue, MessageBody=sys.stdin.read(), MessageAttributes={"kind": kind})
else:
    print(json.dumps(sqs.receive_message(QueueUrl=queue, MessageAttributeNames=["All"])["Messages"]))
"""


@pytest.fixture
def extended(moto_server, bucket, queue):
    """AWS's own extended client, in a process of its own: importing it changes boto3 for all."""
    if importlib.util.find_spec("sqs_extended_client") is None:
        pytest.skip("amazon-sqs-extended-client is not installed")

    async def run(verb: str, given: str = "", style: str = "") -> bytes:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", EXTENDED, verb, bucket, queue, style),
            env={**os.environ, "AWS_ENDPOINT_URL": moto_server.url},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await process.communicate(given.encode())
        assert process.returncode == 0
        return said

    return run


async def test_what_we_send_the_extended_client_reads(moto_server, objects, queue, extended):
    out = Outbox()
    message = Message({"text": "ä" * 300_000}, attributes={"kind": "invoice"})
    await ClaimCheckSender(out, objects, threshold=1000).send(message)
    moto_server.client("sqs").send_message(QueueUrl=queue, **as_sqs(out.sent[0]))
    (received,) = json.loads(await extended("receive"))
    assert json.loads(received["Body"]) == message.body
    assert received["MessageAttributes"].keys() == {"kind"}


@pytest.mark.parametrize("style", ["", "legacy"])
async def test_what_the_extended_client_sends_we_read(moto_server, objects, queue, extended, style):
    body = {"text": "ä" * 300_000}
    await extended("send", json.dumps(body), style)
    (received,) = moto_server.client("sqs").receive_message(QueueUrl=queue, MessageAttributeNames=["All"])["Messages"]
    assert len(received["Body"]) < 300
    got: list[Message] = []

    async def handle(message: Message) -> None:
        got.append(message)

    await claim_checked(objects)(handle)(from_sqs(received))
    assert got[0].body == body
    assert got[0].attributes == {"kind": "invoice"}
    with pytest.raises(Reject, match="allow-list"):
        await claim_checked(objects, buckets=["another"])(handle)(from_sqs(received))


async def test_the_pointer_is_the_published_format(objects, bucket):
    """As AWS documents it, so that it holds where their library is not installed."""
    out = Outbox()
    await ClaimCheckSender(out, objects, threshold=0, prefix="claims/").send(Message("ä"))
    written = as_sqs(out.sent[0])
    key = json.loads(written["MessageBody"])[1]["s3Key"]
    assert json.loads(written["MessageBody"]) == [
        "software.amazon.payloadoffloading.PayloadS3Pointer",
        {"s3BucketName": bucket, "s3Key": key},
    ]
    assert written["MessageAttributes"] == {"ExtendedPayloadSize": {"DataType": "Number", "StringValue": "4"}}


async def test_keys_are_listed_in_order_after_a_key(objects):
    for key in ("a/2", "a/1", "b/1", "a/3"):
        await objects.put(key, b"")
    assert list(await objects.keys("a/")) == ["a/1", "a/2", "a/3"]
    assert list(await objects.keys("a/", after="a/1", limit=1)) == ["a/2"]
    assert list(await objects.keys("c/")) == []


async def test_listing_a_bucket_that_is_not_there_is_told(client):
    with pytest.raises(StoreError, match="S3"):
        await S3Objects(client, "nowhere-" + uuid.uuid4().hex).keys("")


HOSTILE = ["in/../secret", "../{other}/secret", "in/../../{other}/secret", "in/%2e%2e/secret", "in/./1", "", "in/\0"]


@pytest.mark.parametrize("key", [*HOSTILE, "in/\ud800", "in/" + "x" * 2000])
async def test_a_forged_claim_reads_nothing_else(client, objects, bucket, key):
    """Faults, "what held": path traversal and foreign buckets, over HTTP, where a path may be taken for another."""
    other = uuid.uuid4().hex
    await client.create_bucket(Bucket=other)
    await client.put_object(Bucket=other, Key="secret", Body=b"not yours")
    await objects.put("secret", b"not yours")
    await objects.put("1", b"not yours")
    handled = []

    async def handle(message: Message) -> None:
        handled.append(message)

    place = {"s3BucketName": bucket, "s3Key": key.replace("{other}", other)}
    pointer = json.dumps(["software.amazon.payloadoffloading.PayloadS3Pointer", place])
    odd = Message.received(pointer.encode(), attributes={"ExtendedPayloadSize": 1})
    try:
        await claim_checked(objects, prefix="in/")(handle)(odd)
    except (Reject, StoreError):
        assert handled == []
    else:
        assert [each.encode() for each in handled] == [odd.encode()]  # no claim, but a body like any other
