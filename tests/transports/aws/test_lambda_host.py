"""AWS Lambda as a host: each source's event is handled by the same runtime, and what failed comes again."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
import time
from base64 import b64encode
from contextlib import asynccontextmanager

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import BaseModel

from eip import Message
from eip.envelope import dump_envelope
from eip.errors import ConfigurationError, ConnectionLost, Reject
from eip.packs import entry_of, pack
from eip.patterns.claim_check import ClaimCheckSender, claim_checked
from eip.stores.objects import MemoryObjects
from eip.transports.aws.kinesis.aggregation import AggregatedRecord
from eip.transports.aws.kinesis.records import dump_record
from eip.transports.aws.lambda_host import InvocationFailed
from tests.support.lambda_events import SNS, Context, Recorder, failures, kinesis_record, mq_message, sqs, sqs_record


def test_the_messages_of_a_queue_are_handled_and_only_the_failed_ones_come_again(lambda_handler):
    seen = []

    async def handle(message: Message) -> None:
        seen.append((message.body, message.attributes))
        if message.body == 2:
            raise ValueError("no")

    handler = lambda_handler(handle)
    messages = [Message(n, attributes={"n": 1, "s": "x", "b": b"\x00\xff", "l": ("a", "b")}) for n in range(4)]
    event = sqs(*(sqs_record(each, each.body) for each in messages))
    assert failures(handler(event, Context())) == ["m2"]
    assert sorted(body for body, _ in seen) == [0, 1, 2, 3]
    assert seen[0][1] == {"n": 1, "s": "x", "b": b"\x00\xff", "l": ["a", "b"]}


def test_an_envelope_comes_with_its_message_and_a_plain_message_without(lambda_handler):
    seen: list[Message] = []

    async def handle(message: Message) -> None:
        seen.append(message)

    sent = Message({"a": 1}, type="T", correlation_id="c", headers={"h": "x"})
    lambda_handler(handle)(sqs(sqs_record(sent, 0), sqs_record('{"plain":1}', 1)), Context())
    envelope, plain = sorted(seen, key=lambda message: message.type is None)
    assert envelope == sent
    assert (plain.id, plain.body, plain.created_at) == ("m1", {"plain": 1}, 1_700_000_000.0)


def test_of_a_fifo_group_what_stands_behind_a_failure_comes_again_too_and_in_order(lambda_handler):
    handled = []

    async def handle(message: Message) -> None:
        await asyncio.sleep(0)
        if message.body == 1:
            raise ValueError("no")
        handled.append(message.body)

    bodies = {0: "a", 1: "a", 2: "b", 3: "a", 4: "b"}
    event = sqs(*(sqs_record(Message(number), number, group=group) for number, group in bodies.items()))
    assert failures(lambda_handler(handle)(event, Context())) == ["m1", "m3"]
    assert handled == [0, 2, 4]


def test_results_are_sent_before_a_message_counts_as_done(lambda_handler):
    async def handle(message: Message) -> Message:
        return message.reply(message.body * 2)

    output = Recorder()
    assert failures(lambda_handler(handle, output=output)(sqs(sqs_record(Message(4), 0)), Context())) == []
    assert [each.body for each in output.sent] == [8]
    broken = lambda_handler(handle, output=Recorder(ConnectionLost("no answer")))
    assert failures(broken(sqs(sqs_record(Message(4), 0)), Context())) == ["m0"]


@pytest.mark.parametrize("second", [2, 1], ids=["both done", "one failed"])
def test_a_claimed_object_outlives_the_invocation(lambda_handler, second):
    """Lambda acknowledges after it, and may call with the same message again: its object was gone by then."""
    objects, out = MemoryObjects(), Recorder()

    async def handle(message: Message) -> None:
        if message.body == 1:
            raise ValueError("no")

    asyncio.run(ClaimCheckSender(out, objects, threshold=0).send(Message(0), Message(second)))
    event = sqs(*(sqs_record(each, number) for number, each in enumerate(out.sent)))
    failed = failures(lambda_handler(claim_checked(objects, delete=True)(handle))(event, Context()))
    assert failed == ([] if second == 2 else ["m1"])
    assert len(objects.objects) == 2


class Order(BaseModel):
    number: int


async def take_order(order: Order) -> None:
    if order.number < 0:
        raise Reject("no such order")


def test_poison_goes_to_the_dead_letter_channel_with_its_reason_or_comes_again_without_one(lambda_handler):
    event = sqs(sqs_record("no json", 0), sqs_record('{"number": -1}', 1), sqs_record('{"number": 1}', 2))
    assert sorted(failures(lambda_handler(take_order)(event, Context()))) == ["m0", "m1"]
    dead = Recorder()
    assert failures(lambda_handler(take_order, dead_letters=dead)(event, Context())) == []
    assert sorted(each.headers["dead-letter-reason"] for each in dead.sent)[1] == "Reject: no such order"
    assert b"no json" in {each.encode() for each in dead.sent}


def test_what_is_not_done_in_time_is_given_back_and_the_rest_counts(lambda_handler):
    async def handle(message: Message) -> None:
        if message.body == "slow":
            await asyncio.Event().wait()

    event = sqs(sqs_record(Message("slow"), 0), sqs_record(Message("fast"), 1))
    assert failures(lambda_handler(handle, margin=0.1)(event, Context(1.5))) == ["m0"]
    assert failures(lambda_handler(handle, margin=5)(event, Context(1))) == ["m0", "m1"]


@pytest.mark.parametrize("kind", ["in a thread", "ignoring its cancellation"])
def test_a_handler_that_does_not_end_does_not_keep_the_answer(lambda_handler, kind):
    """Lambda ended the function while it waited for the handler, and all messages came again."""
    ended = threading.Event()

    def blocking(message: Message) -> None:
        if message.body == "slow":
            ended.wait()

    async def stubborn(message: Message) -> None:
        while message.body == "slow" and not ended.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.05)

    handler = lambda_handler(blocking if kind == "in a thread" else stubborn, margin=0.2)
    event = sqs(sqs_record(Message("slow"), 0), sqs_record(Message("fast"), 1))
    began = time.monotonic()
    try:
        assert failures(handler(event, Context(1.5))) == ["m0"]
        assert time.monotonic() - began < 10
        assert failures(handler(sqs(sqs_record(Message("fast"), 1)), Context())) == []
    finally:
        ended.set()


def test_no_more_messages_are_handled_at_once_than_the_concurrency_says(lambda_handler):
    running, most = 0, 0

    async def handle(message: Message) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1

    event = sqs(*(sqs_record(Message(each), each) for each in range(10)))
    assert failures(lambda_handler(handle, concurrency=3)(event, Context())) == []
    assert most == 3


def test_a_pack_is_unpacked(lambda_handler):
    handled = []

    async def handle(message: Message) -> None:
        handled.append(message.body)

    packed = pack([entry_of(Message(each)) for each in range(5)], Message(None))
    assert failures(lambda_handler(handle)(sqs(sqs_record(packed, 0)), Context())) == []
    assert sorted(handled) == [0, 1, 2, 3, 4]


def test_failures_of_one_invocation_are_forgotten_in_the_next(lambda_handler):
    wrong = [True]

    async def handle(message: Message) -> None:
        if wrong[0]:
            raise ValueError("no")

    handler = lambda_handler(handle, on_group_failure="park_group", dead_letters=None)
    event = sqs(*(sqs_record(Message(number), number, group="g") for number in range(3)))
    assert failures(handler(event, Context())) == ["m0", "m1", "m2"]
    wrong[0] = False
    assert failures(handler(event, Context())) == []


def test_setup_is_entered_once_and_gives_options_in_the_loop_of_all_invocations(lambda_handler):
    loops, output, entered = [], Recorder(), []

    @asynccontextmanager
    async def setup():
        entered.append(asyncio.get_running_loop())
        yield {"output": output}

    async def handle(message: Message) -> Message:
        loops.append(asyncio.get_running_loop())
        return message.reply(1)

    handler = lambda_handler(handle, setup=setup)
    for number in range(3):
        handler(sqs(sqs_record(Message(1), number)), Context())
    assert len(entered) == 1
    assert set(loops) == set(entered)
    assert len(output.sent) == 3


def test_a_notification_of_a_topic_is_handled_or_the_invocation_fails(lambda_handler):
    seen: list[Message] = []

    async def handle(message: Message) -> None:
        seen.append(message)
        if len(seen) > 1:
            raise ValueError("no")

    handler = lambda_handler(handle)
    assert handler({"Records": [SNS]}, Context()) == {"batchItemFailures": []}
    assert (seen[0].id, seen[0].body, seen[0].attributes) == ("s1", {"from": "Berlin"}, {"kind": "ride"})
    with pytest.raises(InvocationFailed, match="1 of 1 messages failed: s1"):
        handler({"Records": [SNS]}, Context())


def test_an_event_of_eventbridge_is_handled_with_its_type_and_source(lambda_handler):
    seen: list[Message] = []

    async def handle(message: Message) -> None:
        seen.append(message)

    event = {
        "version": "0",
        "id": "e1",
        "detail-type": "JobCreated",
        "source": "com.example.jobs",
        "account": "123456789012",
        "time": "2026-01-01T00:00:00Z",
        "region": "eu-central-1",
        "resources": [],
        "detail": {"id": 7},
        "replay-name": "again",
    }
    lambda_handler(handle)(event, Context())
    (message,) = seen
    assert (message.id, message.type, message.source, message.body) == (
        "e1",
        "JobCreated",
        "com.example.jobs",
        {"id": 7},
    )
    assert message.replay_name == "again"


def test_records_of_a_stream_are_handled_in_order_per_key_and_come_again_from_the_first_failure(lambda_handler):
    handled = []

    async def handle(message: Message) -> None:
        await asyncio.sleep(0)
        if message.body == 3:
            raise ValueError("no")
        handled.append(message.body)

    records = [kinesis_record(str(number).encode(), 100 + number, f"k{number % 2}") for number in range(6)]
    assert failures(lambda_handler(handle)({"Records": records}, Context())) == ["103"]
    assert [each for each in handled if each % 2 == 0] == [0, 2, 4]
    assert [each for each in handled if each % 2] == [1]


def test_records_of_our_own_and_aggregates_are_read_and_fail_as_one_record(lambda_handler):
    seen: list[Message] = []

    async def handle(message: Message) -> None:
        seen.append(message)
        if message.body == {"n": 2}:
            raise ValueError("no")

    ours = Message({"n": 1}, id="i", type="T", attributes={"a": 1})
    aggregate = AggregatedRecord(1000)
    for number in (2, 3):
        aggregate.add(f"k{number}", None, b'{"n":%d}' % number)
    records = [kinesis_record(dump_record(ours), 1, "k"), kinesis_record(aggregate.encode(), 2, "a")]
    assert failures(lambda_handler(handle)({"Records": records}, Context())) == ["2"]
    first, second, third = sorted(seen, key=lambda message: message.body["n"])
    assert (first.id, first.type, first.attributes, first.group_id) == ("i", "T", {"a": 1}, "k")
    assert (second.group_id, second.headers["sub-sequence-number"]) == ("k2", "0")
    assert (third.body, third.created_at) == ({"n": 3}, 1_700_000_000.5)


def test_messages_of_amazon_mq_are_handled_with_their_envelopes_and_fail_together(lambda_handler):
    seen: list[Message] = []

    async def handle(message: Message) -> None:
        seen.append(message)
        if message.body == {"n": 2}:
            raise ValueError("no")

    ours = Message({"n": 1}, type="T", headers={"h": "x"})
    event = {
        "eventSource": "aws:mq",
        "eventSourceArn": "arn:aws:mq:eu-central-1:123456789012:broker:b:b-1",
        "messages": [
            mq_message(1, ours.encode(), eip=dump_envelope(ours).decode()),
            mq_message(2, b'{"n":2}'),
        ],
    }
    with pytest.raises(InvocationFailed, match="ID:b-2"):
        lambda_handler(handle)(event, Context())
    first, second = sorted(seen, key=lambda message: message.body["n"])
    assert (first.id, first.type, first.headers) == (ours.id, "T", {"h": "x"})
    assert (second.correlation_id, second.created_at) == ("c1", 1_700_000_000.0)


@pytest.mark.parametrize("event", [None, {}, {"Records": [{"eventSource": "aws:docdb"}]}, "x"])
def test_an_event_of_another_source_is_refused_by_name(event, lambda_handler):
    async def handle(message: Message) -> None: ...

    with pytest.raises(ConfigurationError, match="aws:sqs"):
        lambda_handler(handle)(event, Context())


@pytest.mark.parametrize("options", [{"margin": -1}, {"concurrency": 0}, {"on_group_failure": "ignore"}])
def test_options_that_cannot_be_are_refused_at_import(options, lambda_handler):
    async def handle(message: Message) -> None: ...

    with pytest.raises(ConfigurationError):
        lambda_handler(handle, **options)


@pytest.mark.aws
def test_what_our_driver_sends_arrives_in_the_shape_that_lambda_gives_it(moto_server, lambda_handler):
    """Received with plain boto3 and put into Lambda's words, as its event source mapping does."""
    from eip.topology import QueueSpec, Topology
    from eip.transports.aws import AwsTransport

    sent = Message({"n": 1}, type="T", group_id="g", attributes={"kind": "x", "raw": b"\x01"}, correlation_id="c")

    async def send() -> None:
        async with AwsTransport(region=moto_server.region, endpoint_url=moto_server.url) as aws:
            await Topology(QueueSpec("for-lambda.fifo")).apply(aws)
            await aws.queue("for-lambda.fifo").send(sent)

    asyncio.run(send())
    client = moto_server.client("sqs")
    url = client.get_queue_url(QueueName="for-lambda.fifo")["QueueUrl"]
    (got,) = client.receive_message(QueueUrl=url, MessageAttributeNames=["All"], AttributeNames=["All"])["Messages"]
    record = {
        "messageId": got["MessageId"],
        "receiptHandle": got["ReceiptHandle"],
        "body": got["Body"],
        "attributes": got["Attributes"],
        "messageAttributes": {
            name: {
                "dataType": each["DataType"],
                "stringValue": each.get("StringValue"),
                "binaryValue": b64encode(each.get("BinaryValue", b"")).decode(),
            }
            for name, each in got["MessageAttributes"].items()
        },
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-central-1:123456789012:for-lambda.fifo",
    }
    seen: list[Message] = []

    async def handle(message: Message) -> None:
        seen.append(message)

    assert failures(lambda_handler(handle)(sqs(record), Context())) == []
    assert seen == [sent.replace(deduplication_id=sent.id)]


def test_without_partial_responses_a_failure_fails_the_invocation(lambda_handler):
    """Lambda would not read the answer, and would delete the failed messages with the others."""

    async def handle(number: int) -> None: ...

    handler = lambda_handler(handle, partial_responses=False)
    assert handler(sqs(sqs_record("1", 1)), Context()) == {"batchItemFailures": []}
    for event in (sqs(sqs_record("1", 1), sqs_record("no", 2)), sqs(kinesis_record(b"no", 1, "a"))):
        with pytest.raises(InvocationFailed):
            handler(event, Context())
    with pytest.raises(TypeError, match="partial_responses"):
        lambda_handler(handle, partial_responses="no")


@pytest.fixture(scope="module")
def loaded():
    """The modules of a function that only handles, once it is imported; in a process of its own."""
    code = "import sys; from eip.transports.aws.lambda_host import lambda_handler; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_a_function_that_only_handles_loads_no_sdk(loaded):
    """Importing aioboto3 would be most of a cold start."""
    assert not {"aioboto3", "botocore", "aiohttp", "stompman"} & loaded


def test_a_cold_start_loads_only_what_handling_takes(loaded):
    """The time of a cold start is that of its modules: 0.08 s for these 267, measured with warm bytecode."""
    heavy = {"pydantic", "structlog", "sqlite3", "email", "http.client", "opentelemetry", "hypothesis"}
    rooms = ("eip.matching", "eip.stores", "eip.topology", "eip.patterns", "eip.telemetry", "eip.transports.activemq")
    assert not heavy & loaded
    assert not [each for each in loaded if each.startswith(rooms)]
    assert {each for each in loaded if each.startswith("eip.streams")} == {"eip.streams", "eip.streams.log"}
    assert len(loaded) < 290


def test_a_function_that_traces_has_a_span_for_each_attempt(lambda_handler, monkeypatch):
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr("opentelemetry.trace.get_tracer_provider", lambda: provider)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    async def handle(message: Message) -> None: ...

    lambda_handler(handle)(sqs(sqs_record(Message(1, traceparent=trace), 0)), Context())
    (span,) = exporter.get_finished_spans()
    assert span.context is not None
    assert f"{span.context.trace_id:032x}" == trace[3:35]
    assert span.name.startswith("process ")


PIPED = [
    pytest.param([sqs_record("1", 1), sqs_record("no", 2)], ["m2"], id="sqs"),
    pytest.param(
        [
            {**{key: each[key] for key in each if key != "kinesis"}, **each["kinesis"]}  # a pipe has them flat
            for each in (kinesis_record(b"1", 1, "a"), kinesis_record(b"no", 2, "b"))
        ],
        [kinesis_record(b"no", 2, "b")["kinesis"]["sequenceNumber"]],
        id="kinesis",
    ),
]


@pytest.mark.parametrize(("event", "failed"), PIPED)
def test_a_pipes_bare_list_of_records_is_handled_as_the_sources_own(event, failed, lambda_handler):
    """EventBridge Pipes hands over the records without an object around them."""
    seen = []

    async def handle(number: int) -> None:
        seen.append(number)

    assert failures(lambda_handler(handle)(event, Context())) == failed
    assert seen == [1]


def test_a_pipes_messages_of_activemq_fail_together(lambda_handler):
    async def handle(number: int) -> None: ...

    messages = [{"eventSource": "aws:amq", **mq_message(n, body)} for n, body in enumerate((b"1", b"no"))]
    assert lambda_handler(handle)(messages[:1], Context()) is not None
    with pytest.raises(InvocationFailed):
        lambda_handler(handle)(messages, Context())
