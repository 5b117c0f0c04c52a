"""Packs: filled, exact for filters, in order, and unpacked by every consumer."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from eip import Backoff, Consumer, Message, Sender
from eip.errors import (
    ConfigurationError,
    ConnectionLost,
    DecodeError,
    FailedEntry,
    InvalidMessage,
    PartialSendError,
    Reject,
    SendError,
)
from eip.packs import is_pack, pack, unpack
from eip.patterns.batching import MessagesFailed, batched
from eip.patterns.packer import Packer
from eip.transports.memory import MemoryTransport
from tests.runtime.scripted import running, until


class Wire(Sender):
    """Takes a millisecond per call and keeps what was sent."""

    name = address = "wire"

    def __init__(self) -> None:
        self.calls: list[tuple[Message[Any], ...]] = []
        self.error: Exception | None = None

    async def send(self, *messages: Message[Any]) -> None:
        await asyncio.sleep(0.001)
        self.calls.append(messages)
        if self.error is not None:
            raise self.error

    @property
    def sent(self) -> list[Message[Any]]:
        return [each for call in self.calls for each in call]


def inner(sent: list[Message[Any]]) -> list[Message[Any]]:
    return [each for made in sent for each in (unpack(made.sealed()) if is_pack(made) else [made])]


@pytest.mark.parametrize("encoding", ["identity", "gzip", "zstd"])
async def test_packs_fill_64_kib_and_never_exceed_it(encoding):
    wire = Wire()
    messages = [Message({"n": number, "text": f"{number:x}" * 100}) for number in range(2000)]
    async with Packer(wire, encoding=encoding) as packer:
        await asyncio.gather(*(packer.send(each) for each in messages))
    assert inner(wire.sent) == messages
    sizes = [len(each.encode()) for each in wire.sent]
    assert max(sizes) <= 64 * 1024
    if encoding == "identity":
        assert sorted(sizes)[1] > 60 * 1024


async def test_a_lone_message_is_sent_as_it_is_and_at_once():
    wire = Wire()
    async with Packer(wire) as packer:
        async with asyncio.timeout(0.0011):
            await packer.send(Message(1, id="m"))
    assert [each.id for each in wire.sent] == ["m"]
    assert not is_pack(wire.sent[0])


async def test_what_comes_during_a_call_shares_the_next_pack():
    wire = Wire()
    async with Packer(wire) as packer:
        first = asyncio.create_task(packer.send(Message(0)))
        await asyncio.sleep(0.0005)
        await asyncio.gather(first, *(packer.send(Message(number)) for number in range(1, 50)))
    assert len(wire.sent) == 2


async def test_linger_waits_for_company_but_not_when_the_pack_is_full():
    wire = Wire()
    async with Packer(wire, linger=5) as packer:
        loop = asyncio.get_running_loop()
        start = loop.time()
        await asyncio.gather(packer.send(Message(1)), packer.send(Message(2)))
        assert loop.time() - start == pytest.approx(5.001)
        await asyncio.gather(*(packer.send(Message("x" * 1000)) for _ in range(100)))
        assert loop.time() - start < 15.1


async def test_only_messages_that_filters_cannot_tell_apart_share_a_pack():
    wire = Wire()
    kinds: list[Any] = [
        {"type": "a"},
        {"type": "b"},
        {"source": "s"},
        {"group_id": "g"},
        {"attributes": {"k": 1}},
        {"attributes": {"k": "1"}},
    ]
    async with Packer(wire) as packer:
        await packer.send(*(Message(number, **kinds[number % 6]) for number in range(60)))
    assert len(wire.sent) == 6
    for made in wire.sent:
        assert {
            (each.type, each.source, each.group_id, repr(dict(each.attributes))) for each in unpack(made.sealed())
        } == {(made.type, made.source, made.group_id, repr(dict(made.attributes)))}


async def test_count_limits_a_pack():
    wire = Wire()
    async with Packer(wire, max_messages=10) as packer:
        await packer.send(*(Message(number) for number in range(35)))
    assert [len(unpack(each.sealed())) for each in wire.sent] == [10, 10, 10, 5]


async def test_a_failed_call_fails_each_sender():
    wire = Wire()
    wire.error = ConnectionLost("gone")
    async with Packer(wire) as packer:
        outcomes = await asyncio.gather(packer.send(Message(1)), packer.send(Message(2)), return_exceptions=True)
    assert [type(each) for each in outcomes] == [SendError, SendError]


async def test_a_partial_failure_names_the_messages_of_the_failed_pack():
    wire = Wire()
    async with Packer(wire) as packer:
        first, second, third = Message(1, type="a"), Message(2, type="b"), Message(3, type="b")
        sending = asyncio.create_task(packer.send(first, second, third))

        async def fail(*packs: Message[Any]) -> None:
            raise PartialSendError([FailedEntry(packs[1], ConnectionLost("no"))], sent=1)

        wire.send = fail
        with pytest.raises(PartialSendError) as caught:
            await sending
    assert [entry.message for entry in caught.value.failed] == [second, third]
    assert caught.value.sent == 1


async def test_what_the_channel_cannot_carry_fails_alone():
    async with MemoryTransport() as transport:
        queue = transport.queue("q.fifo")
        async with Packer(queue) as packer:
            good = [packer.send(Message(number, group_id=f"g{number % 2}")) for number in range(10)]
            bad = packer.send(Message("no group"), Message("none either"))
            outcomes = await asyncio.gather(*good, bad, return_exceptions=True)
        assert outcomes[:10] == [None] * 10
        assert isinstance(outcomes[10], InvalidMessage)
        assert len(queue) == 2


async def test_senders_wait_when_too_much_is_pending():
    wire = Wire()
    gate = asyncio.Event()

    async def stuck(*packs: Message[Any]) -> None:
        await gate.wait()
        wire.calls.append(packs)

    wire.send = stuck
    async with Packer(wire, max_pending_bytes=10_000) as packer:
        sends = [asyncio.create_task(packer.send(Message("x" * 1000))) for _ in range(100)]
        await asyncio.sleep(1)
        assert packer._size < 12_000
        gate.set()
        await asyncio.gather(*sends)
    assert len(inner(wire.sent)) == 100


async def test_closing_sends_what_waits():
    wire = Wire()
    async with Packer(wire, linger=1000) as packer:
        sending = asyncio.create_task(packer.send(Message(1), Message(2)))
        await asyncio.sleep(1)
    await sending
    assert len(inner(wire.sent)) == 2
    with pytest.raises(ConfigurationError):
        await packer.send(Message(3))


async def test_what_cannot_be_packed_is_refused_before_anything_is_sent():
    wire = Wire()
    async with Packer(wire) as packer:
        for wrong in (Message(object()), pack([b"{}"], Message(1))):
            with pytest.raises(InvalidMessage):
                await packer.send(Message(1), wrong)
    assert wire.sent == []
    for options in (
        {"max_bytes": 100},
        {"max_messages": 0},
        {"format": "cloudevents", "encoding": "gzip"},
        {"encoding": "rar"},
    ):
        with pytest.raises(ConfigurationError):
            Packer(wire, **options)


async def test_what_compresses_well_is_still_no_more_than_consumers_unpack():
    wire = Wire()
    async with Packer(wire, encoding="zstd", max_messages=10_000) as packer:
        for _ in range(5):  # it learns how well they compress
            await packer.send(*(Message("x" * 10_000) for _ in range(1000)))
    assert len(inner(wire.sent)) == 5000
    assert len(wire.sent) < 100


async def test_zstd_without_its_extra_is_refused_at_once(monkeypatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(ConfigurationError, match=r"aioeip\[zstd\]"):
        Packer(Wire(), encoding="zstd")


async def test_a_pack_that_cannot_be_made_fails_its_senders_and_not_the_packer(monkeypatch):
    wire = Wire()
    async with Packer(wire) as packer:
        with monkeypatch.context() as broken:
            broken.setattr("eip.patterns._pack_filling.pack", lambda *_, **__: 1 / 0)
            with pytest.raises(SendError, match="division"):
                await packer.send(Message(1), Message(2))
        await packer.send(Message(3), Message(4))
    assert [each.body for each in inner(wire.sent)] == [3, 4]


async def test_senders_are_told_when_the_packer_is_cancelled():
    wire = Wire()

    async def stuck(*packs: Message[Any]) -> None:
        await asyncio.sleep(1000)

    wire.send = stuck
    packer = Packer(wire)
    await packer.__aenter__()
    sending = [asyncio.create_task(packer.send(Message(1)))]
    await asyncio.sleep(1)
    sending.append(asyncio.create_task(packer.send(Message(2))))
    await asyncio.sleep(1)
    closing = asyncio.create_task(packer.aclose())
    await asyncio.sleep(1)
    closing.cancel()
    outcomes = await asyncio.gather(*sending, return_exceptions=True)
    assert [type(each) for each in outcomes] == [SendError, SendError]


# The other side: any consumer unpacks.


async def test_a_consumer_hands_the_messages_of_a_pack_one_by_one():
    async with MemoryTransport() as transport:
        queue = transport.queue("q")
        seen = []

        async def handle(message: Message) -> None:
            seen.append(message.body)

        async with Packer(queue, encoding="zstd") as packer, running(Consumer(queue, handle)) as consumer:
            await packer.send(*(Message(number) for number in range(100)))
            await until(lambda: len(queue) == 0)
        assert sorted(seen) == list(range(100))
        assert consumer.stats.received == 1


async def test_what_fails_in_a_pack_is_sent_again_alone_before_the_pack_is_acknowledged():
    async with MemoryTransport() as transport:
        dead = transport.queue("dead")
        queue = transport.queue("q", dead_letters=dead, max_receive_count=3)
        seen: list[int] = []

        async def handle(message: Message) -> None:
            seen.append(message.body)
            if message.body == 3 or (message.body == 4 and seen.count(4) == 1):
                raise ValueError("no")

        async with Packer(queue) as packer, running(Consumer(queue, handle, retry=Backoff(base=1))):
            await packer.send(*(Message(number, id=f"m{number}") for number in range(6)))
            await until(lambda: len(queue) == 0)
        assert sorted(seen) == [0, 1, 2, 3, 3, 3, 4, 4, 5]  # three attempts at it: in the pack, and twice alone
        assert [each.id for each in dead.messages()] == ["m3"]


async def test_a_message_that_is_rejected_in_a_pack_goes_alone_to_the_dead_letter_channel():
    async with MemoryTransport() as transport:
        dead, queue = transport.queue("dead.fifo"), transport.queue("q.fifo")
        seen = []

        async def handle(message: Message) -> None:
            seen.append(message.body)
            if message.body == 1:
                raise Reject("broken")

        async with Packer(queue) as packer, running(Consumer(queue, handle, dead_letters=dead)):
            await packer.send(*(Message(number, group_id="g") for number in range(4)))
            await until(lambda: len(queue) == 0)
        assert seen == [0, 1, 2, 3]
        assert [each.body for each in dead.messages()] == [1]


async def test_a_pack_of_a_group_keeps_its_order_through_a_failure_and_repeats_nothing_here():
    async with MemoryTransport() as transport:
        queue = transport.queue("q.fifo")
        seen: list[int] = []

        async def handle(message: Message) -> None:
            seen.append(message.body)
            if message.body == 2 and seen.count(2) < 3:
                raise ValueError("not yet")

        async with Packer(queue) as packer, running(Consumer(queue, handle)):
            await packer.send(*(Message(number, group_id="g") for number in range(5)))
            await until(lambda: len(queue) == 0)
        assert seen == [0, 1, 2, 2, 2, 3, 4]


async def test_a_hostile_pack_goes_to_the_dead_letter_channel_whole():
    async with MemoryTransport() as transport:
        dead, queue = transport.queue("dead"), transport.queue("q")

        async def handle(message: Message) -> None:
            raise AssertionError

        async with running(Consumer(queue, handle, dead_letters=dead)):
            await queue.send(Message({"eip-pack": 1}, headers={"pack": "1 gzip 3"}))
            await until(lambda: len(dead) == 1)
        assert dead.messages()[0].headers["dead-letter-reason"].startswith(DecodeError.__name__)


async def test_when_all_of_a_pack_fails_it_is_retried_whole():
    async with MemoryTransport() as transport:
        queue = transport.queue("q")
        seen: list[int] = []

        async def handle(message: Message) -> None:
            seen.append(message.body)
            if len(seen) <= 3:
                raise ConnectionError("database is down")

        async with Packer(queue) as packer, running(Consumer(queue, handle)) as consumer:
            await packer.send(*(Message(number) for number in range(3)))
            await until(lambda: len(queue) == 0)
        assert consumer.stats.received == 2
        assert sorted(seen) == [0, 0, 1, 1, 2, 2]


# Batch handlers.


async def test_a_batch_handler_gets_what_is_there():
    async with MemoryTransport() as transport:
        queue = transport.queue("q")
        batches: list[int] = []

        @batched(size=10, window=5)
        async def handle(messages: Any) -> None:
            batches.append(len(messages))

        await queue.send(*(Message(number) for number in range(25)))
        async with running(Consumer(queue, handle, concurrency=10)):
            await until(lambda: len(queue) == 0)
        assert batches == [10, 10, 5]


async def test_only_what_failed_of_a_batch_comes_again():
    async with MemoryTransport() as transport:
        queue = transport.queue("q")
        seen: list[str] = []

        @batched(size=3, window=1)
        async def handle(messages: Any) -> None:
            seen.extend(each.id for each in messages)
            if len(seen) == 3:
                raise MessagesFailed({"m1": ValueError("no")})

        await queue.send(*(Message(number, id=f"m{number}") for number in range(3)))
        async with running(Consumer(queue, handle)):
            await until(lambda: len(queue) == 0)
        assert seen == ["m0", "m1", "m2", "m1"]


async def test_an_error_fails_the_whole_batch():
    async with MemoryTransport() as transport:
        queue = transport.queue("q")
        calls = 0

        @batched(size=2, window=1)
        async def handle(messages: Any) -> None:
            nonlocal calls
            calls += 1
            if calls == 1:
                raise ValueError("no")

        await queue.send(Message(1), Message(2))
        async with running(Consumer(queue, handle)) as consumer:
            await until(lambda: len(queue) == 0)
        assert consumer.stats.retried == 2


async def test_a_handler_of_many_gets_what_its_annotation_asks_for():
    """Fault 6: batch handlers of plain text; what is no text fails alone."""
    got: list[object] = []

    @batched(size=2, window=1)
    async def texts(batch: list[str]) -> None:
        got.extend(batch)

    @batched(size=1, window=1)
    async def messages(batch: Sequence[Message[bytes]]) -> None:
        got.extend(each.body for each in batch)

    with pytest.raises(DecodeError):
        await texts(Message.received(b"\xff"))
    await asyncio.gather(texts(Message.received(b"12:00")), texts(Message("sent")))
    await messages(Message.received(b"\xff"))
    assert got == ["12:00", "sent", b"\xff"]
