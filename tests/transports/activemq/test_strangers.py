"""What JMS producers, and worse, send: an odd message is its own failure, and everything behind it is handled."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
import structlog

from eip import Consumer, Message, clock
from eip.codec import JSON, BytesCodec, TextCodec
from eip.errors import ConfigurationError, InvalidMessage
from eip.patterns.redrive import redrive
from eip.retry import Backoff
from eip.transports.activemq import ActiveMQTransport
from tests.transports.activemq.proxy import Proxy

pytestmark = pytest.mark.activemq


def fresh() -> str:
    return f"strangers-{uuid4().hex[:12]}"


async def one(source):
    async with source.receiver(capacity=1) as receiver:
        (delivery,) = await receiver.receive(1, wait=30)
        await delivery.ack()
        return delivery.message


async def handled(queue, count, **options) -> list[Message]:
    """What a consumer handles, up to so many messages, for handlers that ask for the message as it is."""
    seen: list[Message] = []
    done = asyncio.Event()

    async def handle(message):
        seen.append(message)
        if len({each.id for each in seen}) == count:  # a connection that is replaced may bring some twice
            done.set()

    consumer = Consumer(queue, handle, **{"concurrency": 2, **options})
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(consumer.run())
        async with asyncio.timeout(40):
            await done.wait()
        await consumer.stop()
    return seen


@asynccontextmanager
async def odd_between_neighbours(activemq, jms, odd):
    """A queue with an odd message between others, and its dead letters; the others are handled, and only they."""
    queue, dead = activemq.queue(fresh()), activemq.queue(fresh())
    await jms.send(queue.name, '"before"')
    message_id = await jms.send(queue.name, **odd)
    for number in range(4):
        await jms.send(queue.name, f'"after {number}"')
    with structlog.testing.capture_logs() as logs:
        seen = await handled(queue, 5, dead_letters=dead)
    assert {each.body for each in seen} == {"before", *(f"after {number}" for number in range(4))}
    assert await jms.receive(queue.name, wait=0.2) is None, "everything is settled"
    yield message_id, dead, logs


HANDLED = {
    "a NUL in the correlation id": {"!correlation": "a\0b"},
    "a NUL and line ends in the type": {"!type": "t\0\n\r:\\"},
    "a backslash in a name": {"back\\slash": "x"},
    "names of headers": {"id": "7", "receipt": "r1", "transaction": "t", "version": "2", "host": "h", "message": "m"},
    "an expiry": {"expires": "60000"},
    "an expiry that is none": {"expires": "tomorrow"},
    "values no broker gives": {"timestamp": "tt", "priority": "high", "persistent": "no", "destination": "Berlin"},
    "forged subscription and ack": {"ack": "evil", "subscription": "evil"},
    "3,000 properties": {f"property{number}": "x" * 50 for number in range(3_000)},
}


@pytest.mark.parametrize("properties", HANDLED.values(), ids=HANDLED.keys())
async def test_what_is_odd_and_can_be_read_is_handled_and_retried(activemq, jms, properties):
    """Faults 5 and 14: properties are attributes, whatever their names; a retried copy keeps them."""
    queue = activemq.queue(fresh())
    await jms.send(queue.name, '"odd"', properties=properties)
    await jms.send(queue.name, '"next"')
    failed, seen, done = set(), {}, asyncio.Event()

    async def handle(message):
        if message.id not in failed:
            failed.add(message.id)
            raise ConnectionError("not now")
        seen[message.body] = message
        if len(seen) == 2:
            done.set()

    consumer = Consumer(queue, handle, retry=Backoff(base=0.05, cap=0.1))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(consumer.run())
        async with asyncio.timeout(30):
            await done.wait()
        await consumer.stop()
    expected = {
        name: text for name, text in properties.items() if name[0] != "!" and name not in ("ack", "subscription")
    }
    assert dict(seen["odd"].attributes) == expected
    assert seen["odd"].correlation_id == properties.get("!correlation")
    assert seen["odd"].type == properties.get("!type")
    assert seen["odd"].expires_at is None


TEMPORARY = f"eip-{'0' * 32}"
MALFORMED = {
    "a length that is too short": {"body": "hello", "properties": {"content-length": "1"}},
    "a length that is too long by one": {"body": "hello", "properties": {"content-length": "6"}},
    "a length that is none": {"body": "hello", "properties": {"content-length": "x"}},
    "a line end in a name": {"body": "hello", "properties": {"na\nme": "v"}},
    "a head in two": {"body": "hello", "properties": {"two\n\nheads": "v"}},
    "a colon and a backslash in a name": {"body": "hello", "properties": {"C:\\temp": "x"}},
    "a forged ack": {"body": "hello", "properties": {"x:1\nack": "forged"}},
    "a broken envelope": {"body": "hello", "properties": {"eip": "["}},
    "our temporary queue in the envelope": {
        "body": "hello",
        "properties": {"eip": f'{{"v": 1, "id": "x", "reply": "activemq:temp-queue/{TEMPORARY}"}}'},
    },
    "our temporary queue as reply-to": {"body": "hello", "properties": {"reply-to": f"/temp-queue/{TEMPORARY}"}},
}


@pytest.mark.parametrize("odd", MALFORMED.values(), ids=MALFORMED.keys())
async def test_what_is_malformed_is_dead_lettered_with_its_bytes(activemq, jms, odd):
    """Fault 5: it is acknowledged and dead-lettered, or left to the broker; redriven, it ends there again."""
    async with odd_between_neighbours(activemq, jms, odd) as (message_id, dead, logs):
        if any(each["event"] == "message_set_aside" for each in logs):
            found = await dead_letter_of_the_broker(jms, message_id)
            assert found == "hello"
            return
        found = await one(dead)
        assert found.raw is not None
        assert found.raw.endswith(b"hello")
        assert "cannot be read" in found.headers["dead-letter-reason"]


async def test_a_made_up_return_address_holds_nothing_up(activemq, jms):
    """Fault 9: nothing can be sent with the address of a temporary queue that is not ours, not even a dead letter."""
    queue, dead = activemq.queue(fresh()), activemq.queue(fresh())
    await jms.send(queue.name, '"odd"', properties={"reply-to": f"/temp-queue/{TEMPORARY}"})
    async with Consumer(queue, lambda _: None, dead_letters=dead):
        assert (await one(dead)).raw == b'"odd"'


async def dead_letter_of_the_broker(jms, message_id) -> str:
    """The text of a message in the broker's own dead-letter queue."""
    return str((await left_to_the_broker(jms, message_id)).body)


async def left_to_the_broker(jms, message_id):
    """A message in the broker's own dead-letter queue; others of the session are there, too."""
    while (found := await jms.receive("ActiveMQ.DLQ", wait=10)) is not None:
        if found.properties["!id"][1] == message_id:
            return found
    raise AssertionError("it is not there")


UNREADABLE = {
    "a length of 5 GB": {"body": "hello", "properties": {"content-length": "5000000000"}},
    "a property of 2 MB": {"body": "hello", "properties": {"big": "x" * 2_000_000}},
    "a body above the limit": {"body": "x" * 2_000_000},
}


@pytest.mark.parametrize("odd", UNREADABLE.values(), ids=UNREADABLE.keys())
async def test_what_cannot_be_read_at_all_is_left_to_the_broker(activemq, jms, odd):
    """Fault 5: its id is logged once, the broker keeps it in its own dead-letter queue, and does not send it again."""
    async with odd_between_neighbours(activemq, jms, odd) as (message_id, _, logs):
        (line,) = [each for each in logs if each["event"] == "message_set_aside"]
        assert line["where"] == "the broker's dead-letter queue"
        assert await dead_letter_of_the_broker(jms, message_id) == odd["body"]


@pytest.mark.parametrize("heartbeat", [0.0, 0.5])
async def test_a_length_that_swallows_what_follows_is_noticed_in_bounded_time(
    activemq_broker, jms, monkeypatch, heartbeat
):
    """Fault 5: a frame that claims more than comes is not waited for, and those it held up are handled."""
    monkeypatch.setattr("eip.transports.activemq._stomp.frame_timeout._MAX_STALL_S", 0.3)
    odd = {"body": "hello", "properties": {"content-length": "500000"}}
    async with (
        ActiveMQTransport(activemq_broker.url, heartbeat=heartbeat) as activemq,
        odd_between_neighbours(activemq, jms, odd) as (message_id, _, _logs),
    ):
        assert await dead_letter_of_the_broker(jms, message_id) == "hello"


async def test_a_dead_letter_that_no_channel_can_carry_is_left_to_the_broker(activemq_broker, jms):
    """Fault 9: 5 MB of properties are more than a client may send; the message is settled all the same."""
    async with ActiveMQTransport(activemq_broker.url) as activemq:
        odd = {"body": "not json", "properties": {"big": "x" * 5_000_000, "eip": "["}}
        async with odd_between_neighbours(activemq, jms, odd) as (message_id, _, logs):
            assert [each["event"] for each in logs].count("message_set_aside") == 1
            assert await dead_letter_of_the_broker(jms, message_id) == "not json"


ODD_NAMES: tuple[str, ...] = (
    "a\nAMQ_SCHEDULED_DELAY",
    "a:b",
    "AMQ_SCHEDULED_DELAY",
    "reply-to",
    "eip",
    "eip-attempts",
    "eip-due",
    "expires",
)
ODD_NAMES += (
    "persistent",
    "JMSXGroupID",
    "JMSType",
    "receipt",
    "transaction",
    "selector",
    "a\rb",
    "ünï",
    "x\0y",
    "correlation-id",
)
ODD_NAMES += ("content-length", "destination", "amq-msg-type", "message-id", "priority", "type", "🦄", " ", "x" * 300)


async def test_no_attribute_becomes_a_header_on_any_way_out(activemq, jms):
    """Fault 9b: first send, retried copy, dead letter, redrive: a JMS consumer sees no property but the plain one."""
    attributes = {**dict.fromkeys(ODD_NAMES, "60000"), "plain": "yes"}
    queue, dead = activemq.queue(fresh()), activemq.queue(fresh())
    sent = Message({"n": 1}, attributes=attributes)

    async def first_send():
        await queue.send(sent)
        return queue

    async def retried_copy():
        await queue.send(sent)
        async with queue.receiver() as receiver:
            (delivery,) = await receiver.receive(1)
            await delivery.nack(delay=0.1)
        return queue

    async def dead_letter():
        await queue.send(sent)
        async with queue.receiver() as receiver:
            receiver.dead_letters = dead
            (delivery,) = await receiver.receive(1)
            await delivery.dead_letter("because")
        return dead

    async def redriven():
        await redrive(await dead_letter(), queue, limit=1)
        return queue

    ours = {"eip", "content-type", "content-length", "amq-msg-type", "eip-attempts", "eip-due", "plain"}
    for way in (first_send, retried_copy, dead_letter, redriven):
        channel = await way()
        found = await jms.receive(channel.name)
        assert found is not None, way
        names = {name for name in found.properties if name[0] != "!"}
        assert names - ours - {"eip-1", "AMQ_SCHEDULED_DELAY", "scheduledJobId"} == set(), way
        assert found.properties["!expires"][1] == "0"
        assert found.properties.get("AMQ_SCHEDULED_DELAY", ("", ""))[1] != "60000"
        assert "!type" not in found.properties
        assert "!reply" not in found.properties
        assert json.loads(found.body) == {"n": 1}
        await way()
        assert dict((await one(channel)).attributes) == attributes, way


async def test_text_beyond_the_bmp_between_jms_and_stomp(activemq, jms):
    """Fault 13: what we send can be read by a JMS consumer, what a JMS producer sends by us, in JSON and plain text."""
    queue = activemq.queue(fresh())
    text = activemq.queue(fresh(), codec=TextCodec())
    await queue.send(Message({"text": "héllo 🦄"}, correlation_id="🦄", attributes={"kind": "🦄"}))
    await text.send(Message("plain 🦄"))
    found = await jms.receive(queue.name)
    assert json.loads(found.body) == {"text": "héllo 🦄"}
    assert found.properties["!correlation"][1] == "🦄"
    assert (await jms.receive(text.name)).body == "plain 🦄"
    await jms.send(queue.name, '{"text": "🦄"}')
    await jms.send(text.name, "plain 🦄\0é")
    assert (await one(queue)).body == {"text": "🦄"}
    received = await one(text)
    assert (received.body, received.raw) == ("plain 🦄\0é", "plain 🦄\0é".encode())
    await text.send(received.replace(id="passed on"), Message("own 🦄"))
    assert [(await one(text)).body for _ in range(2)] == ["plain 🦄\0é", "own 🦄"]


async def test_attributes_beyond_the_bmp_outlive_a_restart_of_the_broker(start_activemq):
    """Fault 13: a broker that reads a property from its disk replaces such characters, so they travel as escapes."""
    broker = start_activemq(sync=True)
    sent = Message("🦄", correlation_id="🦄", type="🦄", attributes={"🦄": "🦄", "kind": "🦄"}, headers={"note": "🦄"})
    async with ActiveMQTransport(broker.url) as transport:
        await transport.queue("odd").send(sent)
    broker.restart()
    async with ActiveMQTransport(broker.url) as transport:
        found = await one(transport.queue("odd"))
    assert found.body == "🦄"
    assert found.with_body(None) == sent.with_body(None)


async def test_plain_text_and_bytes_of_jms_producers_reach_handlers(activemq, jms):
    """Fault 6: handlers annotated str and bytes get what was sent; bytes stay a BytesMessage when passed on."""
    queue, raw = activemq.queue(fresh(), codec=TextCodec()), activemq.queue(fresh(), codec=BytesCodec())
    texts: list[str] = []
    pieces: list[bytes] = []
    done = asyncio.Event()

    async def text(body: str) -> None:
        texts.append(body)

    async def piece(body: bytes) -> None:
        pieces.append(body)
        done.set()

    await jms.send(queue.name, "Message at 12:00")
    await jms.send(raw.name, "Message at 12:00")
    await jms.send(raw.name, b"\x1f\x8b\0\xff")
    for channel, handler, count in ((queue, text, 1), (raw, piece, 2)):
        consumer = Consumer(channel, handler)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(consumer.run())
            async with asyncio.timeout(30):
                while consumer.stats.handled < count:
                    await asyncio.sleep(0.02)
            await consumer.stop()
    assert (texts, set(pieces)) == (["Message at 12:00"], {b"Message at 12:00", b"\x1f\x8b\0\xff"})


BODILESS = ["map", "stream", "object"]


@pytest.mark.parametrize("kind", BODILESS)
@pytest.mark.parametrize("codec", [JSON, BytesCodec()], ids=["json", "bytes"])
@pytest.mark.parametrize("with_dead_letters", [True, False])
async def test_what_stomp_carries_no_body_of_keeps_it_at_the_broker(activemq, jms, kind, codec, with_dead_letters):
    """Kind of fault 5: it is never handled as if it were empty, and no empty copy takes its place."""
    queue, dead = activemq.queue(fresh(), codec=codec), activemq.queue(fresh())
    message_id = await jms.send(queue.name, "contents", kind=kind)
    await jms.send(queue.name, '"after"')
    with structlog.testing.capture_logs() as logs:
        seen = await handled(queue, 1, dead_letters=dead if with_dead_letters else None)
    found = await left_to_the_broker(jms, message_id)
    assert (found.kind, found.body) == (kind, "contents")
    assert [each.raw for each in seen] == [b'"after"']
    assert [each["event"] for each in logs].count("message_set_aside") == 1
    assert await jms.receive(dead.name, wait=0.2) is None


@pytest.mark.parametrize("kind", BODILESS)
async def test_what_is_not_persistent_and_has_no_body_stays_in_its_queue(activemq, jms, kind):
    """Kind of fault 5: ActiveMQ drops what is NACKed and not persistent; what is left stops no consumer of one slot."""
    queue, dead = activemq.queue(fresh()), activemq.queue(fresh())
    for _ in range(3):
        await jms.send(queue.name, "contents", kind=kind, properties={"!transient": True})
    await jms.send(queue.name, '"after"')
    seen = await handled(queue, 1, dead_letters=dead, concurrency=1)
    assert [each.body for each in seen] == ["after"]
    for _ in range(3):
        found = await jms.receive(queue.name, wait=10)
        assert (found.kind, found.body) == (kind, "contents")
    assert await jms.receive(dead.name, wait=0.2) is None


@pytest.mark.parametrize("odd", [{"kind": "map"}, {"properties": {"big": "x" * 2_000_000}}], ids=["map", "big"])
async def test_a_redrive_of_the_brokers_own_dead_letters_loses_none(activemq, jms, odd):
    """Kind of fault 5: NACKed there, a message is gone; it stays, and those behind it are moved."""
    source, target = activemq.queue(fresh()), activemq.queue(fresh())
    dead = activemq.queue("ActiveMQ.DLQ")
    while await dead.peek(1):
        await jms.receive(dead.name, wait=1)
    message_id = await jms.send(source.name, "contents", **odd)
    await jms.send(source.name, '"after"')
    await handled(source, 1)
    await jms.send(dead.name, '"behind"')
    with structlog.testing.capture_logs() as logs:
        progress = await redrive(dead, target)
    assert progress.moved == 1
    assert progress.left == ("kind" in odd)
    assert message_id in {each.get("message_id") for each in logs}, "the log names it"
    assert (await jms.receive(target.name)).body == '"behind"'
    assert (await left_to_the_broker(jms, message_id)).body == "contents"
    assert await jms.receive(target.name, wait=0.2) is None


async def test_what_is_taken_for_an_empty_text_is_never_copied(activemq, jms):
    """Kind of fault 5: where a handler that takes it fails too often, the broker keeps it: no copy is empty."""
    queue, dead = activemq.queue(fresh(), codec=BytesCodec(), on_empty="handle"), activemq.queue(fresh())
    message_id, failed = await jms.send(queue.name, "contents", kind="map"), 0

    async def handle(body: bytes) -> None:
        nonlocal failed
        failed += body == b""
        raise ConnectionError("not now")

    async with Consumer(queue, handle, dead_letters=dead, retry=Backoff(base=0.01, cap=0.02, max_attempts=3)):
        found = await left_to_the_broker(jms, message_id)
    assert (found.kind, found.body, failed) == ("map", "contents", 3)
    assert await jms.receive(dead.name, wait=0.2) is None


async def test_empty_texts_are_handled_where_that_is_asked_for(activemq, jms):
    """A JMS producer's tick has properties only; a topic's queue and a retry have it as well."""
    topic = activemq.topic(fresh(), on_empty="handle", codec=BytesCodec())
    queue = activemq.queue(fresh(), on_empty="handle", codec=BytesCodec())
    subscription = topic.subscription("ticks")
    for channel in (queue, subscription.queue):
        for kind in ("none", "text"):
            await jms.send(channel.name, kind=kind, properties={"kind": kind})
        seen = await handled(channel, 2)
        assert {(each.body, each.attributes["kind"]) for each in seen} == {(b"", "none"), (b"", "text")}
    with pytest.raises(ConfigurationError, match="on_empty must be one of"):
        activemq.queue(queue.name, on_empty="drop")


async def test_a_bytes_message_stays_one_through_retry_dead_letter_and_redrive(activemq, jms):
    """Raw bytes from ActiveMQ to ActiveMQ: kind, bytes, priority and properties as they came."""
    queue, dead = activemq.queue(fresh()), activemq.queue(fresh())
    for body in (b"text as bytes", b"\xff\0\xfe"):
        await jms.send(queue.name, body, properties={"n": 7, "flag": True, "!priority": "6", "!type": "T"})
        async with queue.receiver() as receiver:
            receiver.dead_letters = dead
            (first,) = await receiver.receive(1)
            await first.nack(delay=0.1)
            (second,) = await receiver.receive(1, wait=10)
            assert second.headers["priority"] == "6"
            await second.dead_letter("because")
        await redrive(dead, queue, limit=1)
        found = await jms.receive(queue.name)
        assert (found.kind, b64decode(found.body)) == ("bytes", body)
        assert (found.properties["n"][1], found.properties["flag"][1]) == ("7", "true")
        assert found.properties["!type"][1] == "T"


async def test_the_brokers_own_facts_win_over_the_envelope(activemq, jms):
    """Faults 9c and 14: correlation id, type and expiry of the broker, whatever an envelope says."""
    queue = activemq.queue(fresh())
    envelope = {"v": 1, "id": "e", "cid": "envelope", "type": "envelope", "exp": 1.0}
    properties = {"!correlation": "broker", "!type": "broker", "!ttl": "60000", "eip": json.dumps(envelope)}
    await jms.send(queue.name, "{}", properties=properties)
    found = await one(queue)
    assert (found.id, found.correlation_id, found.type) == ("e", "broker", "broker")
    assert found.expires_at == pytest.approx(clock.now() + 60, abs=30)


async def test_an_odd_message_at_every_reconnect_and_at_start(activemq, activemq_broker, jms):
    """Fault 5: a consumer that starts with it, and one whose connection breaks with it in hand, get on."""
    queue, dead = activemq.queue(fresh()), activemq.queue(fresh())
    async with Proxy(activemq_broker.port) as proxy:
        url = f"stomp://eip:eip-secret@127.0.0.1:{proxy.port}"
        async with ActiveMQTransport(url, max_message_bytes=1_000_000) as transport:
            source = transport.queue(queue.name)
            await jms.send(queue.name, "x" * 2_000_000)
            await jms.send(queue.name, "x", properties={"content-length": "0"})
            await jms.send(queue.name, '"after"')
            proxy.cut_before = b"MESSAGE"
            seen = await handled(source, 1, dead_letters=dead)
    assert [each.body for each in seen] == ["after"]


@pytest.mark.parametrize("size", [3_000, 5_000])
async def test_envelopes_of_wide_characters_fit_into_header_lines(activemq, size):
    """A line has 10 KiB of UTF-8 at the broker, whatever the characters take."""
    queue = activemq.queue(fresh())
    for character in ("€", "🦄", "\\", ":", "\n", '"'):
        sent = Message(1, headers={"long": character * size}, attributes={"long": character * size}, type="€" * size)
        await queue.send(sent)
        assert await one(queue) == sent


async def test_more_than_the_headers_of_a_broker_hold_is_refused_before_it_is_sent(activemq_broker):
    async with ActiveMQTransport(activemq_broker.url) as activemq:
        queue = activemq.queue(fresh())
        with pytest.raises(InvalidMessage, match="headers of a broker"):
            await queue.send(Message(1, attributes={"big": "x" * 5_000_000}))
        await queue.send(Message(2, attributes={f"n{number}": "x" for number in range(3_000)}))
        assert (await one(queue)).body == 2


async def test_a_forged_due_time_holds_no_slot_for_long(activemq, jms, monkeypatch):
    """Fault 9b: messages that claim to be due in years do not stop a consumer; they wait at the broker."""
    monkeypatch.setattr("eip.transports.activemq._postponing._MAX_HELD_S", 0.2)
    queue = activemq.queue(fresh())
    for _ in range(4):
        await jms.send(queue.name, '"later"', properties={"eip-due": "99999999999999"})
    await jms.send(queue.name, '"now"')
    assert [each.body for each in await handled(queue, 1)] == ["now"]
    assert await jms.receive(queue.name, wait=0.5) is None
