"""The fast path sends the bytes that the SDK would send, and reads answers as the SDK would read them."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import ssl
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import parse_qs
from uuid import uuid4

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import sqs_stub
from eip import Message
from eip._aws import protocols, sigv4
from eip.errors import AccessDenied, ChannelNotFound, ConnectionLost, LeaseLost, PartialSendError, StateError
from eip.streams import Position
from eip.topology import QueueSpec, Topology
from eip.transports.aws import AwsTransport
from eip.transports.aws._client.service_client import ServiceClient
from eip.transports.aws.kinesis.reading import records_of
from eip.transports.aws.sqs._settling import SqsDelivery
from tests.support.certificates import Authority

AT = "20261124T101112Z"


def model(service: str) -> Any:
    return boto3.client(service, region_name="us-east-1").meta.service_model


@pytest.fixture
async def lean(request):
    """A lean client of a service, its credentials with or without a token."""
    service, token = request.param
    transport = AwsTransport(region="eu-central-1", account="1" * 12, endpoint_url="https://example.com:8443/under")
    client = await transport.client(service)
    frozen = SimpleNamespace(access_key="AKID", secret_key="sécret", token=token)
    made = sigv4.SigV4Client(client, SimpleNamespace(), connections=1)
    yield made, service, frozen
    await made.aclose()
    await transport.aclose()


@pytest.mark.parametrize(
    "lean", [("sqs", None), ("sqs", "a token"), ("sns", None), ("events", "t")], indirect=True, ids=str
)
@pytest.mark.parametrize("body", [b"{}", "ä🦄".encode() * 1000])
async def test_the_signature_is_the_sdks(lean, body, monkeypatch):
    client, service, frozen = lean
    monkeypatch.setattr(sigv4, "_timestamp", lambda _: AT)
    ours = client._signed("AnOperation", body, frozen)
    unsigned = ("accept-encoding", "authorization", "user-agent", "x-amz-date")
    assert ours["accept-encoding"] == "identity"
    signed = {name: text for name, text in ours.items() if name not in unsigned}
    request = AWSRequest("POST", "https://example.com:8443/under", headers=signed, data=body)
    auth = SigV4Auth(Credentials(frozen.access_key, frozen.secret_key, frozen.token), service, "eu-central-1")
    moment = dt.datetime.strptime(AT, "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)
    for module in ("botocore.auth.get_current_datetime", "botocore.compat.get_current_datetime"):
        monkeypatch.setattr(module, lambda **_: moment, raising=False)
    auth.add_auth(request)
    assert ours["authorization"] == request.headers["Authorization"]


TEXT = st.text(st.characters(codec="utf-8"), min_size=1)
ATTRIBUTES = st.dictionaries(
    st.from_regex(r"[A-Za-z0-9_.-]{1,10}", fullmatch=True),
    st.one_of(
        st.builds(lambda text: {"DataType": "String", "StringValue": text}, TEXT),
        st.builds(lambda raw: {"DataType": "Binary", "BinaryValue": raw}, st.binary(min_size=1)),
    ),
    max_size=3,
)
SNS, SQS, EVENTS, KINESIS = (model(service) for service in ("sns", "sqs", "events", "kinesis"))


@given(st.lists(st.tuples(TEXT, ATTRIBUTES, st.none() | TEXT), min_size=1, max_size=3))
def test_a_batch_to_sns_is_written_as_the_sdk_writes_it(messages):
    entries: list[dict[str, Any]] = [
        {"Id": str(number), "Message": text, "MessageAttributes": attributes}
        | ({"MessageGroupId": group} if group else {})
        for number, (text, attributes, group) in enumerate(messages)
    ]
    parameters = {"TopicArn": "arn:aws:sns:x:1:t", "PublishBatchRequestEntries": entries}
    body = protocols.form("PublishBatch", SNS.api_version, parameters)
    theirs = create_serializer("query", include_validation=False).serialize_to_request(
        parameters, SNS.operation_model("PublishBatch")
    )["body"]
    assert {name: values[0] for name, values in parse_qs(body.decode(), keep_blank_values=True).items()} == theirs


@given(st.lists(st.tuples(TEXT, ATTRIBUTES), min_size=1, max_size=3))
def test_a_batch_to_sqs_is_written_as_the_sdk_writes_it(messages):
    entries = [
        {"Id": str(number), "MessageBody": text, "MessageAttributes": attributes, "DelaySeconds": 1}
        for number, (text, attributes) in enumerate(messages)
    ]
    parameters = {"QueueUrl": "https://q", "Entries": entries}
    body = protocols.json_body(parameters)
    theirs = create_serializer("json", include_validation=False).serialize_to_request(
        parameters, SQS.operation_model("SendMessageBatch")
    )["body"]
    assert json.loads(body) == json.loads(theirs)


def test_times_are_written_as_the_sdk_writes_them():
    at = dt.datetime(2026, 11, 24, 10, 11, 12, tzinfo=dt.UTC)
    parameters = {"Entries": [{"Source": "s", "Time": at}]}
    body = protocols.json_body(parameters)
    theirs = create_serializer("json", include_validation=False).serialize_to_request(
        parameters, EVENTS.operation_model("PutEvents")
    )["body"]
    assert json.loads(body) == json.loads(theirs)


XML = b"""<PublishBatchResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><PublishBatchResult>
<Failed><member><Id>1</Id><Code>InternalError</Code><Message>&amp;</Message><SenderFault>false</SenderFault></member>
</Failed><Successful><member><MessageId>abc</MessageId><Id>0</Id></member></Successful></PublishBatchResult>
<ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></PublishBatchResponse>"""


def test_the_answer_of_sns_is_read_as_the_sdk_reads_it():
    theirs = create_parser("query").parse(
        {"body": XML, "headers": {}, "status_code": 200}, SNS.operation_model("PublishBatch").output_shape
    )
    ours = protocols.read_xml("PublishBatch", XML)
    assert ours["Successful"] == theirs["Successful"]
    (failed,) = ours["Failed"]
    assert failed | {"SenderFault": False} == theirs["Failed"][0]


def test_the_answer_of_sqs_is_read_as_the_sdk_reads_it():
    attributes = {"b": {"DataType": "Binary", "BinaryValue": "AP8="}, "s": {"DataType": "String", "StringValue": "x"}}
    raw = json.dumps({"Messages": [{"Body": "1", "MessageAttributes": attributes}, {"Body": "2"}]}).encode()
    theirs = create_parser("json").parse(
        {"body": raw, "headers": {}, "status_code": 200}, SQS.operation_model("ReceiveMessage").output_shape
    )
    assert protocols.read_json("ReceiveMessage", raw)["Messages"] == theirs["Messages"]


@given(st.lists(st.tuples(st.binary(), TEXT, st.none() | st.just("7")), min_size=1, max_size=3))
def test_records_are_written_and_read_as_the_sdk_does(records):
    given = [
        {"Data": data, "PartitionKey": key} | ({"ExplicitHashKey": number} if number else {})
        for data, key, number in records
    ]
    parameters = {"StreamName": "s", "Records": given}
    theirs = create_serializer("json", include_validation=False).serialize_to_request(
        parameters, KINESIS.operation_model("PutRecords")
    )["body"]
    assert json.loads(protocols.json_body(parameters)) == json.loads(theirs)
    got = [
        {"SequenceNumber": "1", "ApproximateArrivalTimestamp": 1764000000.125, **each}
        for each in json.loads(theirs)["Records"]
    ]
    raw = json.dumps({"Records": got, "NextShardIterator": "i", "MillisBehindLatest": 5}).encode()
    read = create_parser("json").parse(
        {"body": raw, "headers": {}, "status_code": 200}, KINESIS.operation_model("GetRecords").output_shape
    )
    ours = protocols.read_json("GetRecords", raw)
    assert [each.payload for each in records_of(ours["Records"], Position())] == [data for data, _, _ in records]
    assert list(records_of(ours["Records"], Position())) == list(records_of(read["Records"], Position()))
    assert (ours["NextShardIterator"], ours["MillisBehindLatest"]) == ("i", 5)


@pytest.mark.parametrize(
    ("raw", "headers", "code"),
    [
        (b'{"__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "m"}', {}, "QueueDoesNotExist"),
        (b'{"__type": "x#Y", "message": "m"}', {"x-amzn-query-error": "AWS.Z;Sender"}, "AWS.Z"),
        (b"<ErrorResponse><Error><Code>NotFound</Code><Message>m</Message></Error></ErrorResponse>", {}, "NotFound"),
        (b"<html>Bad gateway", {}, "502"),
        (b"", {}, "502"),
        (b"[]", {}, "502"),
        (b"\xff\xfe", {}, "502"),
    ],
)  # fmt: skip
def test_refusals_in_every_form_have_a_code(raw, headers, code):
    assert protocols.refusal(raw, 502, headers).code == code


@pytest.mark.parametrize("raw", [b"", b"<a>", b"<a/>", b"<PublishBatchResponse/>"])
def test_an_answer_that_is_cut_short_is_no_answer(raw):
    with pytest.raises(ValueError, match=r"\w"):
        protocols.read_xml("PublishBatch", raw)


@pytest.mark.aws
@pytest.mark.parametrize("fast", [True, False])
async def test_both_ways_do_and_raise_the_same(moto_server, fast):
    name = f"l{uuid4().hex[:12]}"
    async with AwsTransport(
        region=moto_server.region,
        session=moto_server.session,
        endpoint_url=moto_server.url,
        long_poll=1.0,
        fast_path=fast,
    ) as aws:
        await Topology(QueueSpec(name)).apply(aws)
        queue = aws.queue(name)
        queue._limit_read = True  # and the limit is changed then
        moto_server.client("sqs").set_queue_attributes(
            QueueUrl=await queue.url(), Attributes={"MaximumMessageSize": "1024"}
        )
        sent = Message({"n": 1, "text": "Ünï🦄"}, attributes={"raw": b"\x00\xff", "kind": "a"})
        await queue.send(sent)
        with pytest.raises(PartialSendError):
            await queue.send(Message("fits"), Message("x" * 2000))
        async with queue.receiver() as receiver:
            (first,) = await receiver.receive(1)
            assert (first.message.body, dict(first.message.attributes)) == (sent.body, dict(sent.attributes))
            await first.extend(60)
            cast("SqsDelivery", first).receipt = "none"
            with pytest.raises(LeaseLost):
                await first.ack()
        queue._queue._url = f"{moto_server.url}/{moto_server.account}/nowhere"
        with pytest.raises(ChannelNotFound):
            await queue.send(Message("x"))
        assert (aws._client._fast["sqs"] is None) == (not fast)


async def test_who_has_a_proxy_or_no_credentials_goes_by_the_sdk(monkeypatch):
    async def way(**environment: str) -> object:
        with monkeypatch.context() as patch:
            for name, text in environment.items():
                patch.setenv(name, text)
            calls = ServiceClient(session=None, region="us-east-1", endpoint_url=None, meter=None, connections=1)
            try:
                return await calls._fast_client("sqs")
            finally:
                await calls.aclose()

    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert await way() is not None
    assert await way(HTTPS_PROXY="http://proxy:3128") is None
    assert await way(HTTPS_PROXY="http://proxy:3128", no_proxy="sqs.us-east-1.amazonaws.com") is not None
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(AccessDenied, match="no AWS credentials"):
        await way()
    async with AwsTransport(region="us-east-1", endpoint_url="http://127.0.0.1:9", account="123456789012") as aws:
        with pytest.raises(AccessDenied, match="no AWS credentials"):
            await aws._client.call("sqs", "ReceiveMessage", QueueUrl="x")


async def test_the_services_certificate_is_verified_by_the_authorities_the_sdk_would_use(tmp_path, monkeypatch):
    authority = Authority(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.issue("localhost"))
    stub = sqs_stub.Stub()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: sqs_stub.Connection(stub, 0.0), "127.0.0.1", 0, ssl=context)
    stub.CreateQueue({"QueueName": "q"})
    url = f"https://localhost:{server.sockets[0].getsockname()[1]}"
    async with server:
        for bundle, trusted in ((authority.certificate, True), (None, False)):
            for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
                monkeypatch.delenv(name, raising=False)
            if bundle is not None:
                monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
            async with AwsTransport(region="us-east-1", endpoint_url=url, account=sqs_stub.ACCOUNT) as aws:
                parameters: dict[str, Any] = {"QueueUrl": "q", "Entries": [{"Id": "0", "MessageBody": "1"}]}
                if trusted:
                    answer = await aws._client.call("sqs", "SendMessageBatch", retry=False, **parameters)
                    assert len(answer["Successful"]) == 1
                else:
                    with pytest.raises(ConnectionLost):
                        await aws._client.call("sqs", "SendMessageBatch", retry=False, **parameters)
    assert stub.messages["SendMessageBatch"] == 1


async def test_renewed_credentials_are_used_and_the_key_is_derived_anew():
    transport = AwsTransport(region="eu-central-1", account="1" * 12)
    client = sigv4.SigV4Client(await transport.client("sqs"), SimpleNamespace(), connections=1)
    old = SimpleNamespace(access_key="A", secret_key="one", token="t1")
    client._signed("X", b"", old)
    key = client._key
    client._signed("X", b"", old)
    assert client._key is key
    new = client._signed("X", b"", SimpleNamespace(access_key="B", secret_key="two", token="t2"))
    assert client._key != key
    assert "Credential=B/" in new["authorization"]
    assert new["x-amz-security-token"] == "t2"
    await client.aclose()
    await transport.aclose()


async def test_a_client_that_is_made_while_it_closes_is_closed_too(monkeypatch):
    """Finding credentials or an endpoint may take seconds."""
    making, go, closed = asyncio.Event(), asyncio.Event(), []

    @contextlib.asynccontextmanager
    async def slow(*_, **__):
        making.set()
        await go.wait()
        try:
            yield "a client"
        finally:
            closed.append(True)

    calls = ServiceClient(session=None, region="us-east-1", endpoint_url=None, meter=None, connections=1)
    monkeypatch.setattr(calls._session, "create_client", slow)
    task = asyncio.create_task(calls.client("sqs"))
    await making.wait()
    await calls.aclose()
    go.set()
    with pytest.raises(StateError):
        await task
    assert closed == [True]
