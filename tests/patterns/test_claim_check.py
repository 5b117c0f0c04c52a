"""Claim check: objects first, messages before objects are removed, nothing fetched that is not allowed."""

from __future__ import annotations

import asyncio
import json

import pytest

from eip import Consumer, Message
from eip.codec import TextCodec
from eip.errors import (
    ChannelNotFound,
    ConfigurationError,
    ConnectionLost,
    FailedEntry,
    InvalidMessage,
    PartialSendError,
    Reject,
    SendError,
    StoreError,
)
from eip.limits import Capabilities
from eip.packs import entry_of, pack
from eip.patterns.claim_check import SIZE_ATTRIBUTE, ClaimCheckSender, claim_checked
from eip.patterns.message_store import MessageStore
from eip.patterns.packer import Packer
from eip.stores.objects import FileObjects, MemoryObjects
from eip.transports.memory import MemoryTransport
from tests.runtime.scripted import Outbox, running, until

LARGE = {"text": "ä" * 2000}


@pytest.fixture(params=["memory", "files"])
def objects(request, tmp_path):
    return MemoryObjects() if request.param == "memory" else FileObjects(tmp_path / "claims")


class Recorder:
    def __init__(self, *, error: Exception | None = None) -> None:
        self.messages: list[Message] = []
        self.error = error

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)
        if self.error is not None:
            raise self.error


def claim(bucket: str, key: str, *, kind: str = "software.amazon.payloadoffloading.PayloadS3Pointer", **attributes):
    return Message([kind, {"s3BucketName": bucket, "s3Key": key}], attributes=attributes or {SIZE_ATTRIBUTE: 1})


async def test_there_and_back(objects):
    out, handler = Outbox(), Recorder()
    sender = ClaimCheckSender(out, objects, threshold=1000, prefix="claims/")
    message = Message(LARGE, type="Scanned", group_id="g", attributes={"kind": "invoice"}, headers={"h": "1"})
    await sender.send(message, Message("small"))
    checked, small = out.sent
    kind, where = json.loads(checked.encode())
    assert kind == "software.amazon.payloadoffloading.PayloadS3Pointer"
    assert where.keys() == {"s3BucketName", "s3Key"}
    assert where["s3BucketName"] == objects.bucket
    assert where["s3Key"].startswith("claims/")
    assert checked.attributes == {"kind": "invoice", SIZE_ATTRIBUTE: len(message.encode())}
    assert await objects.get(objects.bucket, where["s3Key"], limit=10**6) == message.encode()
    handle = claim_checked(objects, prefix="claims/")(handler)
    await handle(checked)
    await handle(small)
    assert handler.messages == [message, small]
    assert await objects.get(objects.bucket, where["s3Key"], limit=10**6) is not None


async def test_text_stays_text(objects):
    out, handler = Outbox(), Recorder()
    message = Message("ö" * 2000).with_codec(TextCodec())
    await ClaimCheckSender(out, objects, threshold=1000).send(message)
    assert out.sent[0].body.startswith('["software')
    await claim_checked(objects)(handler)(out.sent[0])
    assert handler.messages[0].body == "ö" * 2000


async def test_the_threshold_is_the_destinations_limit_attributes_included():
    out, objects = Outbox(), MemoryObjects()
    out.limits = Capabilities(message_bytes=10_000)
    sender = ClaimCheckSender(out, objects)
    assert sender.limits.message_bytes is None
    for size in (9_000, 9_990, 20_000):
        await sender.send(Message("x" * size))
    await sender.send(Message("x" * 5_000, attributes={"a": "y" * 5_000}))
    assert [SIZE_ATTRIBUTE in each.attributes for each in out.sent] == [False, True, True, True]
    assert len(objects.objects) == 3
    with pytest.raises(ConfigurationError, match="no limit"):
        ClaimCheckSender(Outbox(), objects)
    with pytest.raises(ConfigurationError, match=r"threshold must be 0 to .*, got 10001"):
        ClaimCheckSender(out, objects, threshold=10_001)


async def test_the_object_is_written_before_the_message_is_sent():
    class Checks(Outbox):
        async def send(self, *messages):
            for each in messages:
                assert json.loads(each.encode())[1]["s3Key"] in slow.objects
            await super().send(*messages)

    class Slow(MemoryObjects):
        async def put(self, key, data):
            await asyncio.sleep(1)
            await super().put(key, data)

    slow, out = Slow(), Checks()
    await ClaimCheckSender(out, slow, threshold=0).send(*(Message(number) for number in range(30)))
    assert len(out.sent) == 30


async def test_where_an_object_cannot_be_written_nothing_is_sent():
    class Full(MemoryObjects):
        async def put(self, key, data):
            if len(self.objects) == 2:
                raise StoreError("full")
            await super().put(key, data)

    objects, out = Full(), Outbox()
    with pytest.raises(SendError, match="full"):
        await ClaimCheckSender(out, objects, threshold=0).send(Message(1), Message(2), Message(3))
    assert not out.sent
    assert not objects.objects


async def test_an_invalid_message_leaves_no_object_and_an_unknown_outcome_does():
    objects, out = MemoryObjects(), Outbox()
    sender = ClaimCheckSender(out, objects, threshold=0)
    out.refuse.append(InvalidMessage("too many attributes"))
    with pytest.raises(InvalidMessage):
        await sender.send(Message(1))
    assert not objects.objects
    out.refuse.append(ConnectionLost("no answer"))
    with pytest.raises(ConnectionLost):
        await sender.send(Message(1))
    assert len(objects.objects) == 1  # the message may have been sent


async def test_of_a_partial_failure_the_given_messages_are_told():
    class Refuses(Outbox):
        async def send(self, *messages):
            raise PartialSendError([FailedEntry(messages[1], ValueError("no"))], sent=1)

    given = [Message(LARGE), Message(LARGE)]
    with pytest.raises(PartialSendError) as failed:
        await ClaimCheckSender(Refuses(), MemoryObjects(), threshold=0).send(*given)
    assert failed.value.failed[0].message is given[1]


async def test_the_reserved_attribute_is_not_the_users():
    sender = ClaimCheckSender(Outbox(), MemoryObjects(), threshold=100)
    with pytest.raises(InvalidMessage, match="reserved"):
        await sender.send(Message("x" * 200, attributes={"SQSLargePayloadSize": 1}))


async def test_packs_are_sent_as_they_are():
    out, objects = Outbox(), MemoryObjects()
    out.limits = Capabilities(message_bytes=100_000)
    async with Packer(ClaimCheckSender(out, objects, threshold=5000)) as packer:
        await asyncio.gather(*(packer.send(Message("x" * 900)) for _ in range(20)), packer.send(Message("y" * 8000)))
    assert len(objects.objects) <= 1


@pytest.mark.parametrize("kind", ["PayloadS3Pointer", "legacy"])
async def test_claims_of_other_senders_are_understood(objects, kind):
    await objects.put("k", b'{"from": "Java"}')
    handler = Recorder()
    legacy = "com.amazon.sqs.javamessaging.MessageS3Pointer"
    sent = (
        claim(objects.bucket, "k", kind=legacy, SQSLargePayloadSize=16, x=1)
        if kind == "legacy"
        else claim(objects.bucket, "k", ExtendedPayloadSize=16, x=1)
    )
    await claim_checked(objects)(handler)(sent)
    assert handler.messages[0].body == {"from": "Java"}
    assert handler.messages[0].attributes == {"x": 1}


@pytest.mark.parametrize(
    "message",
    [
        Message("x", attributes={SIZE_ATTRIBUTE: 1}),
        Message(["software.amazon.payloadoffloading.PayloadS3Pointer", {"s3BucketName": "memory", "s3Key": "k"}]),
        Message(["other.Pointer", {"s3BucketName": "memory", "s3Key": "k"}], attributes={SIZE_ATTRIBUTE: 1}),
        Message(["other.Pointer", {"s3BucketName": 7}, 3], attributes={SIZE_ATTRIBUTE: 1}),
        Message.received(b"{", attributes={SIZE_ATTRIBUTE: 1}),
    ],
)
async def test_what_is_no_claim_passes_as_it_is(message):
    handler = Recorder()
    await claim_checked(MemoryObjects())(handler)(message)
    assert handler.messages == [message]


async def test_only_allowed_buckets_and_keys_are_fetched(objects):
    await objects.put("claims/k", b"1")
    await objects.put("secret", b"1")
    handler = Recorder()
    handle = claim_checked(objects, prefix="claims/")(handler)
    for bucket, key in (("other", "claims/k"), (objects.bucket, "secret"), ("", "")):
        with pytest.raises(Reject, match="allow-list"):
            await handle(claim(bucket, key))
    with pytest.raises(Reject, match="allow-list"):
        await claim_checked(objects, buckets=())(handler)(claim(objects.bucket, "claims/k"))
    await claim_checked(objects, buckets=("other", objects.bucket))(handler)(claim(objects.bucket, "claims/k"))
    assert len(handler.messages) == 1


async def test_files_outside_of_the_folder_are_never_there(tmp_path):
    (tmp_path / "secret").write_text("1")
    objects = FileObjects(tmp_path / "claims")
    await objects.put("a/b", b"1")
    (tmp_path / "claims" / "link").symlink_to(tmp_path / "nowhere")
    for key in ("../secret", "a/../../secret", "/etc/passwd", "a//b", ".", "a", "", "a\0b", "link", "a/b/c", "x" * 300):
        assert await objects.get("claims", key, limit=100) is None
    with pytest.raises(ConfigurationError, match="names no file"):
        await objects.put("../x", b"")
    await objects.delete("claims", "../secret")
    assert (tmp_path / "secret").exists()


async def test_what_is_too_large_is_never_read(objects):
    await objects.put("k", bytes(2000))
    with pytest.raises(Reject, match="more than 1,999 bytes"):
        await claim_checked(objects, max_bytes=1999)(Recorder())(claim(objects.bucket, "k"))


async def test_a_missing_object_is_rejected_or_dropped(objects):
    handler = Recorder()
    with pytest.raises(Reject, match="gone"):
        await claim_checked(objects)(handler)(claim(objects.bucket, "k"))
    await claim_checked(objects, on_missing="drop")(handler)(claim(objects.bucket, "k"))
    assert not handler.messages
    with pytest.raises(ConfigurationError, match="missing"):
        claim_checked(objects, on_missing="ignore")  # type: ignore[arg-type]


async def test_objects_are_removed_after_the_message(objects):
    order: list[str] = []

    class Told(MemoryObjects):
        async def delete(self, bucket, key):
            order.append(f"removed, {len(queue)} in the queue")
            await super().delete(bucket, key)

    async def handle(message: Message) -> None:
        order.append(f"handled {message.body}")

    told = Told()
    async with MemoryTransport() as transport:
        queue = transport.queue("in")
        consumer = Consumer(queue, claim_checked(told, delete=True)(handle))
        running = asyncio.create_task(consumer.run())
        await ClaimCheckSender(queue, told, threshold=0).send(Message(1), delay=5)
        await asyncio.sleep(4)
        assert not order
        await asyncio.sleep(6)
        assert order == ["handled 1", "removed, 0 in the queue"]
        assert not told.objects
        await consumer.stop()
        await running


async def test_a_dead_lettered_message_keeps_its_object():
    objects, handler = MemoryObjects(), Recorder(error=ValueError("never"))
    async with MemoryTransport() as transport:
        dead = transport.queue("dead")
        queue = transport.queue("in", dead_letters=dead, max_receive_count=2)
        consumer = Consumer(queue, claim_checked(objects, delete=True)(handler))
        running = asyncio.create_task(consumer.run())
        await ClaimCheckSender(queue, objects, threshold=0).send(Message(1))
        await asyncio.sleep(200)
        assert len(dead) == 1
        assert len(objects.objects) == 1
        await dead.move_messages(queue)
        handler.error = None
        await asyncio.sleep(100)
        assert not objects.objects
        await consumer.stop()
        await running


async def test_a_message_dead_lettered_after_its_handler_succeeded_keeps_its_object():
    """Its results could not be sent."""
    objects, out = MemoryObjects(), Outbox()
    out.refuse.append(InvalidMessage("never"))

    async def handle(message: Message):
        return message.derive(2)

    async with MemoryTransport() as transport:
        dead = transport.queue("dead")
        queue = transport.queue("in", dead_letters=dead, max_receive_count=2)
        consumer = Consumer(queue, claim_checked(objects, delete=True)(handle), output=out)
        running = asyncio.create_task(consumer.run())
        await ClaimCheckSender(queue, objects, threshold=0).send(Message(1))
        await asyncio.sleep(10)
        assert len(dead) == 1
        assert len(objects.objects) == 1
        await consumer.stop()
        await running


@pytest.mark.parametrize("group", [None, "g"], ids=["in parallel", "in order"])
async def test_what_leaves_its_pack_keeps_its_object(group):
    """Its handler had succeeded, its results could not be sent: it was dead-lettered, its pack acknowledged."""
    objects, checked = MemoryObjects(), Outbox()

    class Refuses(Outbox):
        async def send(self, *messages: Message) -> None:
            if messages[0].body == 1:
                raise InvalidMessage("never")
            await super().send(*messages)

    async def handle(message: Message) -> Message:
        return message.derive(message.body)

    out = Refuses()
    given = [Message(number, group_id=group) for number in range(3)]
    await ClaimCheckSender(checked, objects, threshold=0).send(*given)
    async with MemoryTransport() as transport:
        fifo = group is not None
        dead = transport.queue("dead", fifo=fifo)
        queue = transport.queue("in", fifo=fifo, dead_letters=dead, max_receive_count=2)
        await queue.send(pack([entry_of(each) for each in checked.sent], checked.sent[0]).sealed())
        async with running(Consumer(queue, claim_checked(objects, delete=True)(handle), output=out)):
            await until(lambda: len(queue) == 0)
        assert [each.body for each in out.sent] == [0, 2]
        (kept,) = dead.messages()
        assert json.loads(kept.encode())[1]["s3Key"] in objects.objects


async def test_a_claim_is_moved_as_it_is():
    """As a dead letter, or by a redrive: its attribute is not the user's, and its body waits already."""
    objects = MemoryObjects()
    async with MemoryTransport() as transport:
        dead = transport.queue("dead")
        through = ClaimCheckSender(dead, objects, threshold=0)
        queue = transport.queue("in")
        refused = Message({"payload_url": "https://elsewhere/k"}, attributes={SIZE_ATTRIBUTE: 1})
        await queue.send(claim("memory", "gone"), refused)
        consumer = Consumer(queue, claim_checked(objects)(Recorder()), dead_letters=through)
        async with running(consumer):
            await until(lambda: len(queue) == 0)
        assert [each.attributes for each in dead.messages()] == [{SIZE_ATTRIBUTE: 1}] * 2
        assert not objects.objects


@pytest.mark.parametrize("wrap", ["claims", "packer", "store"])
async def test_a_failure_that_passes_is_one_in_the_sender_around_it_too(wrap):
    """A dead letter went without its reason, since the channel seemed not to take it."""

    class Throttled(MemoryObjects):
        async def put(self, key: str, data: bytes) -> None:
            raise StoreError("slow down", transient=transient)

    class Away(Outbox):
        async def send(self, *messages: Message) -> None:
            raise ConnectionLost("away") if transient else ChannelNotFound("away")

    async with Packer(Away()) as packer:
        senders = {
            "claims": ClaimCheckSender(Outbox(), Throttled(), threshold=0),
            "packer": packer,
            "store": MessageStore(Throttled()),
        }
        for transient in (True, False):
            with pytest.raises(SendError) as failed:
                await senders[wrap].send(Message(1))
            assert failed.value.transient == transient


@pytest.mark.parametrize("key", ["", "ä" * 513], ids=["empty", "long"])
async def test_a_key_that_no_object_can_have_is_rejected_unread(key):
    class Untouched(MemoryObjects):
        async def get(self, bucket: str, key: str, *, limit: int) -> bytes | None:
            raise AssertionError((bucket, key))

    odd = json.dumps(["software.amazon.payloadoffloading.PayloadS3Pointer", {"s3BucketName": "memory", "s3Key": key}])
    with pytest.raises(Reject, match="names no object"):
        await claim_checked(Untouched())(Recorder())(Message.received(odd.encode(), attributes={SIZE_ATTRIBUTE: 1}))


async def test_a_removal_that_fails_and_a_host_without_deliveries_are_left_to_expire():
    class Stuck(MemoryObjects):
        async def delete(self, bucket, key):
            raise StoreError("down")

    objects, handler = Stuck(), Recorder()
    handle = claim_checked(objects, delete=True)(handler)
    await objects.put("k", b"1")
    await handle(claim("memory", "k"))  # no consumer: nobody tells when it was acknowledged
    async with MemoryTransport() as transport:
        queue = transport.queue("in")
        consumer = Consumer(queue, handle)
        running = asyncio.create_task(consumer.run())
        await ClaimCheckSender(queue, objects, threshold=0).send(Message(1))
        await asyncio.sleep(5)
        assert len(queue) == 0
        await consumer.stop()
        await running
    assert len(handler.messages) == len(objects.objects) == 2


async def test_files_expire(tmp_path):
    objects = FileObjects(tmp_path / "claims", "shared")
    await objects.put("a/old", b"1")
    assert await objects.expire(1000 * 365 * 86400) == 0
    assert await objects.expire(-1000 * 365 * 86400) == 1
    assert await objects.get("shared", "a/old", limit=10) is None


async def test_an_object_that_is_shorter_than_its_message_says_is_not_handled(objects):
    """An object that was cut off looked like a whole body."""
    handled = []

    async def handle(message: Message) -> None:
        handled.append(message.encode())

    await objects.put("k", b"[1, 2]")
    redeem = claim_checked(objects)(handle)
    short = claim(objects.bucket, "k")
    with pytest.raises(StoreError, match="has 6 of 7 bytes"):
        await redeem(short.replace(attributes={SIZE_ATTRIBUTE: 7}))
    for size in (6, 5, "7", True):
        await redeem(short.replace(attributes={SIZE_ATTRIBUTE: size}))
    assert handled == [b"[1, 2]"] * 4
