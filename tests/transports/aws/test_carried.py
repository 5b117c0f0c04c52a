"""What SQS and SNS carry of any message: ids of any text, a stranger's attributes, bodies that are no text, codecs."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from eip import Message
from eip._ids import is_own_group, own_group, to_native_id
from eip.channels import with_dead_letter_headers
from eip.codec import TextCodec
from eip.errors import ConfigurationError, DecodeError, InvalidMessage, MessageTooLarge, TransportError
from eip.limits import MIB
from eip.patterns.redrive import redrive
from eip.topology import QueueSpec, SubscriptionSpec, TopicSpec, Topology
from eip.transports.aws import AwsTransport
from eip.transports.aws._attributes import carried
from eip.transports.aws._batch_results import attributes_md5, checksum_error
from eip.transports.aws._client.errors import ServiceFailed
from eip.transports.aws._reading import read_message

IDS = ["a b", "Müller", "🦄", "x" * 200, "", "eip.sha256.0", "line\nend", "ok-1"]


def stranger(body: str, attributes: dict[str, Any], **system: str) -> Message[Any]:
    message, error = read_message("m1", body, system, attributes)
    assert error is None
    return message


@pytest.mark.aws
@pytest.mark.parametrize("suffix", ["", ".fifo"])
async def test_any_text_is_a_group_id_and_a_deduplication_id(aws, suffix):
    """Fault 4: mapped without collisions on FIFO, never an error on standard queues; read back as it was."""
    name = f"i{uuid4().hex[:12]}{suffix}"
    await Topology(QueueSpec(name)).apply(aws)
    queue = aws.queue(name)
    await queue.send(*(Message(number, group_id=each, deduplication_id=each) for number, each in enumerate(IDS)))
    found: dict[int, Any] = {}
    async with queue.receiver() as receiver:
        while len(found) < len(IDS):
            for delivery in await receiver.receive(10):
                found[delivery.message.body] = (delivery.message.group_id, delivery.message.deduplication_id)
                await delivery.ack()
    assert found == {number: (each, each) for number, each in enumerate(IDS)}


@pytest.mark.aws
@pytest.mark.parametrize("dedup", [None, "own"])
async def test_a_dead_letter_without_a_group_goes_into_a_fifo_queue_each_time_it_fails(aws, dedup):
    """Kind of fault 9: it was refused and tried for ever; redriven it is as it was, and no duplicate when it fails."""
    name = f"i{uuid4().hex[:12]}"
    await Topology(QueueSpec(name), QueueSpec(f"{name}-dead.fifo", content_based_deduplication=True)).apply(aws)
    queue, dead = aws.queue(name), aws.queue(f"{name}-dead.fifo")
    sent = Message({"n": 1}, deduplication_id=dedup, attributes={"kind": "odd"})
    await queue.send(sent)
    for _ in range(2):
        async with queue.receiver() as receiver:
            receiver.dead_letters = dead
            (delivery,) = await receiver.receive(1)
            await delivery.dead_letter("because")
        async with dead.receiver() as receiver:
            (delivery,) = await receiver.receive(1)
            assert delivery.message.headers["dead-letter-reason"] == "because"
            await delivery.nack()
        await redrive(dead, queue, idle=0.2, native=False)
    async with queue.receiver() as receiver:
        (delivery,) = await receiver.receive(1)
        await delivery.ack()
    assert delivery.message == sent
    with pytest.raises(InvalidMessage, match="needs a group_id"):
        await dead.send(sent)


def test_an_own_group_is_no_text_s_and_no_other_message_s():
    groups = {own_group(each) for each in ("", "a", "b", "\udcff", "ÿ")}
    assert len(groups) == 5
    assert groups.isdisjoint(to_native_id(each) for each in ("", "a", "b", "\udcffa", "ÿa", *groups))
    assert not is_own_group(own_group("a"), "b")
    forged = {"eip": {"DataType": "String", "StringValue": '{"id":"1","group":"g"}'}}
    assert stranger("1", forged, MessageGroupId=own_group("1")).group_id == own_group("1")


def test_the_queues_own_group_wins():
    """Fault 9c: the service orders by its MessageGroupId, whatever the sender's envelope says."""
    envelope = {"eip": {"DataType": "String", "StringValue": '{"id":"1","group":"forged","dedup":"forged"}'}}
    message = stranger("1", envelope, MessageGroupId="real", MessageDeduplicationId="own")
    assert (message.group_id, message.deduplication_id) == ("real", "own")
    assert stranger("1", envelope).group_id == "forged"  # a standard queue without groups has none of its own


@pytest.mark.aws
async def test_a_queue_without_fair_queues_is_noticed_once(aws, caplog):
    """Fault 44: sent without the group id, which travels in the envelope; logged once."""
    name = f"u{uuid4().hex[:12]}"
    await Topology(QueueSpec(name)).apply(aws)
    queue, answer, refused = aws.queue(name), aws._client._answer, []

    async def refuses(service: str, operation: str, parameters: dict[str, Any]) -> Any:
        if any("MessageGroupId" in each for each in parameters.get("Entries", ())):
            refused.append(operation)
            failed = [
                {
                    "Id": each["Id"],
                    "Code": "InvalidParameterValue",
                    "SenderFault": True,
                    "Message": "The request include parameter that is not valid for this queue type",
                }
                for each in parameters["Entries"]
                if "MessageGroupId" in each
            ]
            kept = [each for each in parameters["Entries"] if "MessageGroupId" not in each]
            sent = await answer(service, operation, {**parameters, "Entries": kept}) if kept else {}
            return {"Successful": sent.get("Successful", []), "Failed": failed}
        return await answer(service, operation, parameters)

    aws._client._answer = refuses
    await queue.send(Message(1, group_id="g"), Message(2), Message(3, group_id="h"))
    await queue.send(Message(4, group_id="g"))
    assert len(refused) == 1
    assert caplog.text.count("fair_queues_refused") == 1
    async with queue.receiver() as receiver:
        groups: dict[int, str | None] = {}
        while len(groups) < 4:
            groups |= {each.message.body: each.message.group_id for each in await receiver.receive(10)}
    assert groups == {1: "g", 2: None, 3: "h", 4: "g"}


async def test_group_ids_can_be_left_off_standard_queues():
    """Fault 44: `fair_queues=False`."""
    queue = AwsTransport(region="us-east-1", account="1" * 12, fair_queues=False).queue("q")
    entry = queue._entry(Message(1, group_id="g"), 0)
    assert "MessageGroupId" not in entry.payload
    assert json.loads(entry.payload["MessageAttributes"]["eip"]["StringValue"])["group"] == "g"


TEXT = {"DataType": "String", "StringValue": "x"}
LONG = "because " * 120


def test_ten_attributes_leave_no_room_for_the_reason(caplog):
    """Fault 9: dead-lettered as it came, the reason logged."""
    ten = {f"a{number}": TEXT for number in range(10)}
    sent = carried(with_dead_letter_headers(stranger("1", ten), LONG, source="q", count=1), channel="dead", limit=MIB)
    assert sent.attributes == ten
    assert "dead_letter_reason_left_out" in caplog.text


def test_a_reason_is_cut_then_left_out_near_the_size_limit(caplog):
    """Fault 9: a message within 200 bytes of the limit."""
    for room, cut in ((2000, False), (400, True), (100, None), (0, None)):
        body = "x" * (MIB - room - len("aStringx"))
        dead = with_dead_letter_headers(stranger(body, {"a": TEXT}), LONG, source="q", count=1)
        sent = carried(dead, channel="dead", limit=MIB)
        assert sent.size <= MIB
        assert sent.attributes["a"] == TEXT
        assert (sent.body, "eip" in sent.attributes) == (body, cut is not None)
        if cut is not None:
            reason = json.loads(sent.attributes["eip"]["StringValue"])["headers"]["dead-letter-reason"]
            assert LONG.startswith(reason)
            assert (len(reason) < len(LONG)) is cut
    assert caplog.text.count("dead_letter_reason_left_out") == 2
    with pytest.raises(MessageTooLarge):
        carried(Message("x" * MIB), channel="q", limit=MIB)


def test_names_that_no_one_may_send_travel_in_the_envelope():
    """Fault 9: attributes `AWS.…` are delivered by the services, and refused by them."""
    odd = {"AWS.SNS.MOBILE.X": {"DataType": "Number.int", "StringValue": "007"}, "a": TEXT}
    dead = carried(with_dead_letter_headers(stranger("1", odd), "no", source="q", count=1), channel="dead", limit=MIB)
    assert set(dead.attributes) == {"a", "eip"}
    again = stranger(dead.body, dead.attributes)
    assert dict(again.attributes) == {"AWS.SNS.MOBILE.X": 7, "a": "x"}
    assert carried(again, channel="q", limit=MIB).attributes.keys() == {"a", "eip"}


def test_a_value_that_the_services_refuse_travels_in_the_envelope():
    """Faults 9 and 10: a stranger's envelope can hold a Number that is none, refused as a dead letter."""
    attrs = {"n": {"type": "Number", "text": "1e400"}, "t": {"type": "Odd type", "text": "x"}}
    envelope = {"eip": {"DataType": "String", "StringValue": json.dumps({"attrs": attrs})}}
    message = stranger("1", envelope)
    for sent in (message, Message(1, attributes=message.attributes)):
        out = carried(sent, channel="q", limit=MIB)
        assert out.attributes.keys() == {"eip"}
        assert json.loads(out.attributes["eip"]["StringValue"])["attrs"] == attrs


def test_a_message_made_here_keeps_to_the_services_rules():
    for attributes in ({"AWS.x": 1}, {f"a{number}": 1 for number in range(10)}, {"a": ""}):
        with pytest.raises(InvalidMessage):
            carried(Message(1, attributes=attributes), channel="q", limit=MIB)


@pytest.mark.parametrize("raw", [b"\xff\x00", b"", b"\x1f\x8b\x08 gzip", "Latin-1: Ünï".encode("latin-1"), b"a\x00b"])
def test_what_a_text_channel_cannot_carry_goes_as_base64(raw):
    """Fault 3: and is read back to the same bytes."""
    dead = carried(Message.received(raw, id="k"), channel="dead", limit=MIB)
    assert stranger(dead.body, dead.attributes).raw == raw


# Codecs.


@pytest.mark.aws
async def test_a_queue_and_a_topic_have_a_codec(aws, moto_server):
    """Fault 6: plain text of foreign producers, `Message at 12:00` among it, is a str."""
    name = f"c{uuid4().hex[:12]}"
    await Topology(TopicSpec(name), SubscriptionSpec(name, "s", raw=False)).apply(aws)
    topic = aws.topic(name, codec=TextCodec())
    moto_server.client("sns").publish(TopicArn=topic.address, Message="Message at 12:00", Subject="Greetings")
    await topic.send(Message("ours"))
    found: dict[str, Any] = {}
    async with topic.subscription("s").receiver() as receiver:
        while len(found) < 2:
            for delivery in await receiver.receive(10):
                found[delivery.message.body] = delivery.message.headers.get("subject")
    assert found == {"Message at 12:00": "Greetings", "ours": None}


def test_a_channel_has_one_codec():
    aws = AwsTransport(region="us-east-1", account="1" * 12)
    queue = aws.queue("q", codec=TextCodec())
    assert aws.queue("q") is aws.queue("q", codec=TextCodec()) is queue
    with pytest.raises(ConfigurationError, match="codec"):
        aws.queue("q", codec=TextCodec("text/html"))
    with pytest.raises(ConfigurationError, match="JSON"):
        aws.bus("b", codec=TextCodec())


@pytest.mark.parametrize("name", [None, 42, b"q", ["q"]])
def test_a_name_of_another_type_is_a_type_error(name):
    """Fault 34."""
    aws = AwsTransport(region="us-east-1", account="1" * 12)
    for ask in (aws.queue, aws.topic):
        with pytest.raises(TypeError, match="name"):
            ask(name)


@pytest.mark.parametrize("wanted", [{"a": ["x"]}, "a", 3])
async def test_a_dict_is_no_filter(aws, wanted):
    """Fault 27: the same error as in memory, and not no filter at all."""
    declared = Topology(TopicSpec("t"), SubscriptionSpec("t", "s", filter=wanted))
    with pytest.raises(ConfigurationError, match="a filter is"):
        await declared.apply(aws)
    with pytest.raises(ConfigurationError, match="a filter is"):
        aws.topic("t").subscription("s", filter=wanted)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"region": 1}, TypeError),
        ({"endpoint_url": b"http://x"}, TypeError),
        ({"session": "default"}, TypeError),
        ({"account": 123456789012}, TypeError),
        ({"account": "me"}, ConfigurationError),
        ({"linger": "1"}, TypeError),
        ({"linger": 61}, ConfigurationError),
        ({"linger": float("nan")}, ConfigurationError),
        ({"long_poll": None}, TypeError),
        ({"long_poll": 0}, ConfigurationError),
        ({"long_poll": timedelta(seconds=21)}, ConfigurationError),
        ({"connections": 2.5}, TypeError),
        ({"connections": True}, TypeError),
        ({"connections": 0}, ConfigurationError),
        ({"fair_queues": "no"}, TypeError),
        ({"meter": print}, TypeError),
        ({"visibilty": 5}, TypeError),
    ],
    ids=str,
)
def test_a_wrong_parameter_is_named(given, error):
    """Fault 34, on the transport."""
    with pytest.raises(error, match=next(iter(given))):
        AwsTransport(**{"region": "us-east-1", **given})


def test_durations_are_seconds_or_a_timedelta():
    aws = AwsTransport(region="us-east-1", linger=timedelta(milliseconds=50), long_poll=timedelta(seconds=2))
    assert (aws._batching.linger, aws._long_poll) == (0.05, 2.0)


@pytest.mark.parametrize(
    ("name", "ask"),
    [
        ("name", lambda aws: aws.bus(7)),
        ("name", lambda aws: aws.stream(None)),
        ("aggregate", lambda aws: aws.stream("s", aggregate=1)),
        ("hash_key", lambda aws: aws.stream("s", hash_key=7)),
        ("reads", lambda aws: aws.stream("s", reads=5)),
        ("codec", lambda aws: aws.queue("q", codec="text/plain")),
        ("codec", lambda aws: aws.topic("t", codec=TextCodec)),
        ("codec", lambda aws: aws.bus("b", codec=object())),
        ("visibility", lambda aws: aws.queue("q", visibility=5)),
        ("address", lambda aws: aws.resolve(None)),
        ("capacity", lambda aws: aws.queue("q").receiver(capacity="10")),
        ("capacity", lambda aws: aws.topic("t").subscription("s").receiver(capacity=2.5)),
        ("name", lambda aws: aws.topic("t").subscription(None)),
        ("name", lambda aws: aws.bus("b").subscription(3)),
    ],
)
def test_a_wrong_parameter_of_a_channel_is_named(name, ask):
    """Fault 34, on queues, topics, buses and streams."""
    with pytest.raises(TypeError, match=name):
        ask(AwsTransport(region="us-east-1", account="1" * 12))


@pytest.mark.parametrize("given", [{"a": 1}, "text", None, Message], ids=str)
@pytest.mark.parametrize("channel", ["queue", "topic", "bus"])
async def test_what_is_sent_is_a_message(channel, given):
    """Fault 34: `send({...})`."""
    sender = getattr(AwsTransport(region="us-east-1", account="1" * 12), channel)("x")
    with pytest.raises(TypeError, match="messages must be Message"):
        await sender.send(given)


@pytest.mark.parametrize(
    ("delay", "error"), [("1", TypeError), (-1, InvalidMessage), (901, InvalidMessage), (float("nan"), InvalidMessage)]
)
async def test_a_wrong_delay_is_named(delay, error):
    """Fault 34."""
    with pytest.raises(error, match="delay"):
        await AwsTransport(region="us-east-1", account="1" * 12).queue("q").send(Message(1), delay=delay)


# Envelopes that cannot be read.


@pytest.mark.parametrize(
    "envelope",
    [
        {"DataType": "String", "StringValue": '{"id": 1, "n": 1.10,\t"x":'},
        {"DataType": "String.json", "StringValue": "[1]"},
        {"DataType": "Binary.cbor", "BinaryValue": b"\xff\x00"},
    ],
    ids=["torn", "list", "binary"],
)
def test_an_envelope_that_cannot_be_read_is_kept_in_the_dead_letter(envelope):
    """Fault 9: byte for byte, with its data type, beside the dead letter's own envelope."""
    message, error = read_message("m1", "1", {}, {"eip": envelope, "a": TEXT})
    assert isinstance(error, DecodeError)
    sent = carried(with_dead_letter_headers(message, "because", source="q", count=1), channel="dead", limit=MIB)
    own = sent.attributes.pop("eip")
    assert sent.attributes == {"eip-unread": envelope, "a": TEXT}
    again, error = read_message("m2", sent.body, {}, {**sent.attributes, "eip": own})
    assert error is None
    assert again.headers["dead-letter-reason"] == "because"


# Checksums.


def test_the_md5_of_attributes_is_the_services():
    """Fault 51; the digest is the one of the Developer Guide's algorithm, as SQS returned it for this attribute."""
    assert attributes_md5({"timestamp": {"StringValue": "1493147359900", "DataType": "Number"}}) == (
        "235c5c510d26fb653d073faed50ae77c"
    )


def test_a_received_message_that_is_not_what_was_sent_is_its_own_error():
    """Fault 51: a wrong MD5 on receive."""
    received = {"Body": "1", "MD5OfBody": "c4ca4238a0b923820dcc509a6f75849b", "MessageAttributes": {"a": TEXT}}
    assert checksum_error(received) is None
    assert checksum_error({**received, "MD5OfBody": "0" * 32}) is not None
    assert checksum_error({**received, "MD5OfMessageAttributes": "0" * 32}) is not None


@pytest.mark.aws
async def test_a_wrong_md5_after_a_send_is_no_confirmation(aws):
    """Fault 51: sent again, and in the end an error."""
    name = f"w{uuid4().hex[:12]}"
    await Topology(QueueSpec(name)).apply(aws)
    queue = aws.queue(name)
    queue._accumulator._attempts = 2
    answer = aws._client._answer

    async def wrong(service: str, operation: str, parameters: dict[str, Any]) -> Any:
        found = await answer(service, operation, parameters)
        for each in found.get("Successful", ()):
            each["MD5OfMessageBody"] = "0" * 32
        return found

    aws._client._answer = wrong
    with pytest.raises(TransportError) as caught:
        await queue.send(Message(1))
    assert isinstance(caught.value, ServiceFailed)
