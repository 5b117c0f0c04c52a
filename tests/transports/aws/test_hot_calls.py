"""Every hot call, as the drivers and the store make it here, beside what the SDK in reach would send and read.

So no new SDK, and no change of ours, can make the fast path wrong in silence.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from typing import Any
from urllib.parse import parse_qs
from uuid import uuid4

import pytest
from aiobotocore.session import get_session
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.parsers import create_parser
from botocore.serialize import create_serializer

from eip import Message
from eip._aws.sigv4 import HOT, SigV4Client
from eip.stores.dynamodb import DynamoStore, create_table
from eip.topology import BusSpec, QueueSpec, StreamSpec, TopicSpec, Topology
from eip.transports.aws import AwsTransport
from tests.support.environment import ENVIRONMENT, REGION

pytestmark = pytest.mark.aws

NOT_SENT = ("x-amzn-query-mode",)
"""Asks SQS for error codes of its older protocol; our table has those of both."""


class Call:
    """One request of the fast path, and its answer."""

    def __init__(self, client: SigV4Client, operation: str, parameters: dict[str, Any]) -> None:
        self.client, self.operation, self.parameters = client, operation, parameters
        self.sent: dict[str, str] = {}
        self.body = self.raw = b""
        self.status = 0
        self.headers: Any = {}
        self.read: dict[str, Any] = {}


@pytest.fixture(scope="module")
def calls(moto_server):
    """One of each hot call, with whatever a message or record can carry."""
    made: list[Call] = []

    async def make() -> None:
        async with AwsTransport(region=REGION, endpoint_url=moto_server.url, long_poll=1.0) as aws:
            await through_the_drivers(aws)
            await through_the_store(moto_server.url)

    with pytest.MonkeyPatch.context() as patch:
        record_into(made, patch)
        asyncio.run(make())
    return made


def record_into(made: list[Call], patch: pytest.MonkeyPatch) -> None:
    write, sign, read = SigV4Client.body, SigV4Client._signed, SigV4Client.read

    def body(client, operation, parameters):
        made.append(Call(client, operation, parameters))
        made[-1].body = write(client, operation, parameters)
        return made[-1].body

    def signed(client, operation, body, credentials):
        call = next(each for each in made if each.body is body)
        call.sent = sign(client, operation, body, credentials)
        return call.sent

    def answered(client, operation, raw, status, headers):
        call = next(each for each in made if each.client is client and each.operation == operation and not each.status)
        call.raw, call.status, call.headers = raw, status, headers
        call.read = read(client, operation, raw, status, headers)
        return call.read

    patch.setattr(SigV4Client, "body", body)
    patch.setattr(SigV4Client, "_signed", signed)
    patch.setattr(SigV4Client, "read", answered)


async def through_the_drivers(aws: AwsTransport) -> None:
    name = f"hot-{uuid4().hex[:8]}"
    fifo = f"{name}.fifo"
    await Topology(
        QueueSpec(name, dead_letters=False),
        QueueSpec(fifo, dead_letters=False),
        TopicSpec(fifo),
        BusSpec(name),
        StreamSpec(name, shards=1),
    ).apply(aws)
    message = Message(
        {"text": "ä🦄 <&>\n"},
        type="Hot",
        source="tests",
        group_id="g é",
        headers={"subject": "A subject"},
        attributes={"text": "ü=&%", "number": 7, "bytes": b"\x00\xff", "flag": True},
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    )
    for queue in (aws.queue(name), aws.queue(fifo)):
        await queue.send(message)
        async with queue.receiver() as receiver:
            (delivery,) = await receiver.receive(1)
            await receiver.extend([delivery], 30)
            await receiver.ack([delivery])
    await aws.queue(name).send(message, delay=5)
    await aws.topic(fifo).send(message)
    await aws.bus(name).send(message)
    stream = aws.stream(name, hash_key=lambda _: 7)
    await stream.send(message)
    (shard,) = (await stream.call("ListShards"))["Shards"]
    asked = {"ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
    iterator = (await stream.call("GetShardIterator", **asked))["ShardIterator"]
    found = await stream.call("GetRecords", named=False, ShardIterator=iterator, Limit=10)
    assert len(found["Records"]) == 1


async def through_the_store(url: str) -> None:
    async with get_session().create_client("dynamodb", endpoint_url=url) as client:
        await create_table(client, "hot")
        store = DynamoStore(client, "hot", uuid4().hex)
        version = await store.put("k", b"\x00\xff", due=1.0, expires_at=4e9)
        await store.put_part("k", "p", b"x")
        assert await store.parts("k") == {"p": b"x"}
        assert await store.due(2.0) == ["k"]
        assert await store.put("k", b"other", version="wrong") is None  # a refusal that holds the item
        assert await store.delete("k", version=version)


def test_each_hot_call_is_recorded(calls):
    assert {(each.client.service, each.operation) for each in calls} == HOT


def of_sdk(call: Call) -> tuple[Any, Any]:
    model = call.client.model
    return model, model.operation_model(call.operation)


def test_each_is_written_as_the_sdk_writes_it(calls):
    for call in calls:
        model, operation = of_sdk(call)
        serializer = create_serializer(model.metadata["protocol"], include_validation=True)
        theirs = serializer.serialize_to_request(call.parameters, operation)
        if isinstance(theirs["body"], dict):
            ours = {name: values[0] for name, values in parse_qs(call.body.decode(), keep_blank_values=True).items()}
            assert ours == theirs["body"], call.operation
        else:
            assert json.loads(call.body) == json.loads(theirs["body"]), call.operation
        named = {name.lower(): text for name, text in theirs["headers"].items() if name.lower() not in NOT_SENT}
        assert {name: call.sent[name] for name in named} == named, call.operation


def test_each_is_signed_as_the_sdk_signs_it(calls, moto_server, monkeypatch):
    keys = Credentials(ENVIRONMENT["AWS_ACCESS_KEY_ID"], ENVIRONMENT["AWS_SECRET_ACCESS_KEY"])
    for call in calls:
        moment = dt.datetime.strptime(call.sent["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)
        for module in ("botocore.auth.get_current_datetime", "botocore.compat.get_current_datetime"):
            monkeypatch.setattr(module, lambda moment=moment, **_: moment, raising=False)
        unsigned = ("accept-encoding", "authorization", "user-agent", "x-amz-date")
        ours = {name: call.sent[name] for name in call.sent if name not in unsigned}
        request = AWSRequest("POST", f"{moto_server.url}/", headers=ours, data=call.body)
        SigV4Auth(keys, call.client.model.signing_name, REGION).add_auth(request)
        assert call.sent["authorization"] == request.headers["Authorization"], call.operation


def test_each_answer_is_read_as_the_sdk_reads_it(calls):
    for call in calls:
        model, operation = of_sdk(call)
        answer = {"status_code": call.status, "headers": call.headers, "body": call.raw}
        theirs = create_parser(model.metadata["protocol"]).parse(answer, operation.output_shape)
        theirs.pop("ResponseMetadata")
        if call.status >= 300:
            assert theirs["Error"]["Code"] == "ConditionalCheckFailedException"
            assert not call.read
        else:
            assert plain(call.read) == plain(theirs), call.operation


def plain(value: Any) -> Any:
    """Without what is empty, and with times as seconds: the drivers read both forms."""
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items() if each not in ([], {}, None)}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value.timestamp() if isinstance(value, dt.datetime) else value
