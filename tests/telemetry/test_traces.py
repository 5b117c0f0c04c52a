"""Spans: one for each message sent and each attempt to handle one, joined by traceparent over every hop."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from eip import Backoff, Consumer, Message
from eip.channels import Sender
from eip.envelope import load_message
from eip.errors import ConnectionLost, FailedEntry, PartialSendError, Reject
from eip.packs import unpack
from eip.patterns.message_scheduler import MessageScheduler
from eip.patterns.packer import Packer
from eip.runtime.handlers import messages_of
from eip.stores import MemoryStore
from eip.stores.outbox import SqliteOutbox
from eip.telemetry.traces import TracedSender, trace_settling, traced
from eip.testing import run
from eip.transports.memory import MemoryTransport


class Spans:
    """The spans that ended."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def all(self):
        return self._exporter.get_finished_spans()

    def named(self, name):
        return [each for each in self.all() if each.name == name]


@pytest.fixture
def spans():
    made = Spans()
    yield made
    made.provider.shutdown()


class Recorder(Sender):
    name = address = "recorder"

    def __init__(self, fail=lambda messages: None):
        self.sent: list[Message] = []
        self._fail = fail

    async def send(self, *messages):
        self.sent += messages
        error = self._fail(messages)
        if error is not None:
            raise error


def trace_of(span) -> str:
    return f"{span.context.trace_id:032x}"


def test_one_trace_goes_from_the_first_send_over_every_hop(spans):
    async def double(message: Message) -> list[Message]:
        return [message.derive(message.body * 2), Message("made anew")]

    async def end(message: Message) -> None: ...

    async def scenario() -> None:
        async with MemoryTransport() as memory:
            inputs, outputs = memory.queue("inputs"), memory.queue("outputs")
            first = Consumer(
                inputs,
                traced(provider=spans.provider)(double),
                output=TracedSender(outputs, provider=spans.provider),
            )
            second = Consumer(outputs, traced(provider=spans.provider)(end))
            await TracedSender(inputs, provider=spans.provider).send(Message(1, id="m", type="T", correlation_id="c"))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(first.run())
                tasks.create_task(second.run())
                while len(inputs) or len(outputs):
                    await asyncio.sleep(1)
                await first.stop()
                await second.stop()

    run(scenario())
    (sent,), (handled,) = spans.named("send inputs"), spans.named("process inputs")
    assert len({trace_of(each) for each in spans.all()}) == 1
    assert (handled.parent.span_id, handled.kind) == (sent.context.span_id, SpanKind.CONSUMER)
    again, (batch,) = spans.named("create outputs"), spans.named("send outputs")
    assert {each.parent.span_id for each in (*again, batch)} == {handled.context.span_id}
    assert {each.kind for each in again} == {SpanKind.PRODUCER}
    assert (batch.kind, batch.attributes["messaging.batch.message_count"]) == (SpanKind.CLIENT, 2)
    assert [each.context.span_id for each in batch.links] == [each.context.span_id for each in again]
    assert [each.context.span_id for each in handled.links] == [sent.context.span_id]
    assert {each.parent.span_id for each in spans.named("process outputs")} == {each.context.span_id for each in again}
    assert dict(handled.attributes) == {
        "messaging.system": "memory",
        "messaging.operation.name": "process",
        "messaging.message.id": "m",
        "messaging.message.body.size": 1,
        "messaging.destination.name": "inputs",
        "messaging.message.conversation_id": "c",
        "eip.message.type": "T",
        "messaging.operation.type": "process",
        "eip.message.receive_count": 1,
    }


def test_each_attempt_is_a_span_and_a_failed_one_says_so(spans):
    tries = []

    async def once_wrong(message: Message) -> None:
        tries.append(message)
        if len(tries) == 1:
            raise ValueError("no")

    async def scenario() -> None:
        async with MemoryTransport() as memory:
            queue = memory.queue("q")
            await queue.send(Message(1))
            consumer = Consumer(queue, traced(provider=spans.provider)(once_wrong), retry=Backoff(base=1, cap=1))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(consumer.run())
                while len(queue):
                    await asyncio.sleep(1)
                await consumer.stop()

    run(scenario())
    failed, fine = spans.named("process q")
    assert (failed.status.is_ok, failed.attributes["error.type"], len(failed.events)) == (False, "ValueError", 1)
    assert (fine.status.is_ok, fine.attributes["eip.message.receive_count"]) == (True, 2)


async def test_a_verdict_is_no_exception_of_the_span(spans):
    async def refuse(message: Message) -> None:
        raise Reject("not ours")

    with pytest.raises(Reject):
        await traced(provider=spans.provider)(refuse)(Message(1))
    (span,) = spans.named("process")
    assert (span.attributes["error.type"], span.events) == ("Reject", ())


async def test_a_foreign_traceparent_is_the_parent(spans):
    sender = Recorder()
    foreign = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await TracedSender(sender, provider=spans.provider).send(Message(1, traceparent=foreign))
    (span,) = spans.named("send recorder")
    assert (trace_of(span), f"{span.parent.span_id:016x}") == (foreign[3:35], foreign[36:52])
    assert sender.sent[0].traceparent == f"00-{foreign[3:35]}-{span.context.span_id:016x}-01"


async def test_of_a_send_that_fails_in_part_only_those_spans_fail(spans):
    sender = Recorder(lambda messages: PartialSendError([FailedEntry(messages[1], ConnectionLost("no"))], sent=1))
    with pytest.raises(PartialSendError):
        await TracedSender(sender, provider=spans.provider).send(Message(1, id="a"), Message(2, id="b"))
    status = {each.attributes["messaging.message.id"]: each.status.is_ok for each in spans.named("create recorder")}
    assert status == {"a": True, "b": False}
    with pytest.raises(ConnectionLost):
        await TracedSender(Recorder(lambda _: ConnectionLost("no")), provider=spans.provider).send(Message(1, id="c"))
    assert not spans.named("send recorder")[-1].status.is_ok


async def test_without_the_sdk_a_trace_is_carried_on():
    sender = Recorder()
    foreign = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    async def echo(message: Message) -> Message:
        return message.reply(1)

    await TracedSender(sender).send(Message(1, traceparent=foreign))
    (reply,) = messages_of(await traced()(echo)(sender.sent[0]))
    assert reply.traceparent == foreign
    await TracedSender(sender).send(Message(1))
    assert sender.sent[1].traceparent is None


@pytest.mark.parametrize("count", [1, 3])
async def test_settling_is_a_span_of_its_own_with_links_to_its_messages(spans, count):
    async with MemoryTransport() as memory:
        queue = memory.queue("q")
        await TracedSender(queue, provider=spans.provider).send(*(Message(each) for each in range(count)))
        async with queue.receiver() as receiver:
            receiver.settling = trace_settling(receiver, provider=spans.provider)
            deliveries = await receiver.receive(10)
            await receiver.nack(deliveries)
            await receiver.ack(await receiver.receive(10))
    (ack,), (nack,) = spans.named("ack q"), spans.named("nack q")
    created = spans.named("send q" if count == 1 else "create q")
    for span in (ack, nack):
        assert (span.kind, span.attributes["messaging.operation.type"]) == (SpanKind.CLIENT, "settle")
        assert [each.context.span_id for each in span.links] == [each.context.span_id for each in created]
    assert ack.attributes.get("messaging.batch.message_count") == (None if count == 1 else count)


async def test_an_outbox_s_rows_and_packs_carry_the_trace_that_is_current(spans, tmp_path):
    outbox = SqliteOutbox(tmp_path / "o.sqlite")
    tracer = spans.provider.get_tracer("test")
    recorder = Recorder()
    with (
        contextlib.closing(sqlite3.connect(tmp_path / "o.sqlite")) as db,
        db,
        tracer.start_as_current_span("order") as order,
    ):
        outbox.add(db, "orders", Message(1))
        async with Packer(recorder, linger=0.01) as packer:
            await packer.send(Message(2), Message(3))
    ((_, raw),) = await outbox.waiting("orders", limit=1, skip_refused=False)
    (sent,) = recorder.sent
    for message in (load_message(raw), *unpack(sent)):
        assert message.traceparent is not None
        assert message.traceparent[3:52] == f"{trace_of(order)}-{order.context.span_id:016x}"
    await outbox.aclose()


@pytest.mark.parametrize(("when", "carried"), [({"delay": 1}, True), ({"interval": 1}, False)])
async def test_a_message_that_is_sent_later_carries_the_trace_a_repeated_one_does_not(spans, when, carried):
    recorder, store = Recorder(), MemoryStore()
    tracer = spans.provider.get_tracer("test")
    async with MessageScheduler(store, {"out": recorder}) as scheduler:
        with tracer.start_as_current_span("order"):
            await scheduler.send(Message(1), to="out", **when)
        async with asyncio.timeout(30):
            while not recorder.sent:
                await asyncio.sleep(0.05)
    (order,) = spans.named("order")
    assert (recorder.sent[0].traceparent or "").startswith(f"00-{trace_of(order)}") is carried
