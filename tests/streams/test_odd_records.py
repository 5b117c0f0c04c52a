"""A record that cannot be read concerns nobody but itself: its neighbours are handled, and the shard goes on."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from hashlib import md5

import pytest

from eip import Backoff, Consumer, Message, running
from eip.errors import ConnectionLost, DecodeError, MessageTooLarge
from eip.stores import MemoryStore
from eip.streams import BatchConsumer, GroupOptions
from eip.transports.aws.kinesis.aggregation import MAGIC, AggregatedRecord, deaggregate
from eip.transports.aws.kinesis.records import dump_record
from tests.runtime.scripted import Outbox
from tests.streams.scripted import SHARD, ScriptedLog, until


def aggregated(body: bytes) -> bytes:
    return MAGIC + body + md5(body).digest()


def small_records(count: int) -> bytes:
    return aggregated(b"\x0a\x01k" + b"\x1a\x04\x08\x00\x1a\x00" * count)


#: Records that cannot be read at all.
UNREADABLE = {
    "nested too deep": b'{"eip":' + b"[" * 100_000,
    "nested too deep, closed": b'{"eip":' + b"[" * 5_000 + b"]" * 5_000 + b',"n":1}',
    "attributes nested too deep": b'{"eip":{"id":"i","attrs":{"a":' + b"[" * 900 + b"]" * 900 + b'}},"n":1}',
    "cut off": b'{"eip":{"id":"i"',
    "opening alone": b'{"eip":',
    "opening and spaces": b'{"eip":' + b" " * 1000,
    "not UTF-8": b'{"eip":{"id":"\xff"},"n":1}',
    "a lone surrogate": b'{"eip":{"id":"\\ud800"},"n":1}',
    "a time that is no number": b'{"eip":{"id":"i","at":NaN},"n":1}',
    "wrong types": b'{"eip":{"id":7,"headers":[]},"n":1}',
    "a number without end": b'{"eip":{"id":"i","at":' + b"9" * 5000 + b'},"n":1}',
    "no body": b'{"eip":{"id":"i","in":"body","ct":"text/plain"}}',
}

#: Records that are what a handler makes of them, aggregates that are none among them.
FOREIGN = {
    "empty": b"",
    "text": b"Message at 12:00",
    "Latin-1": "Grüße".encode("latin-1"),
    "UTF-16": "Grüße".encode("utf-16"),
    "control characters": bytes(range(32)),
    "gzip": gzip.compress(b'{"messageType":"DATA_MESSAGE"}', mtime=0),
    "zip-like": b"PK\x03\x04" + b"\x00" * 40,
    "zlib": zlib.compress(b"x" * 1000),
    "magic alone": MAGIC,
    "a wrong digest": aggregated(b"\x0a\x01k")[:-1] + b"\x00",
    "an aggregate of nothing": aggregated(b""),
    "keys without records": aggregated(b"\x0a\x01k"),
    "a negative key index": aggregated(b"\x1a\x0f\x08" + b"\xff" * 9 + b"\x01\x1a\x01x"),
    "a negative length": aggregated(b"\x0a\x01k\x1a" + b"\xff" * 9 + b"\x01"),
    "a varint without end": aggregated(b"\x0a\x01k\x1a" + b"\xff" * 40),
    "an unknown explicit hash key": aggregated(b"\x0a\x01k\x1a\x07\x08\x00\x10\x05\x1a\x01x"),
    "a sub-record that is longer than said": aggregated(b"\x0a\x01k\x1a\x04\x08\x00\x1a\x7fxxxx"),
    "an unknown field that is cut short": aggregated(b"\x0a\x01k\x1a\x05\x08\x00\x1a\x01x\x2a\x7f"),
    "too many sub-records": small_records(180_000),
}


def bytes_of(message: Message) -> bytes:
    return message.encode()


@pytest.mark.parametrize("kind", ["consumer", "batch consumer", "batch consumer that does not bisect"])
async def test_an_unreadable_record_is_dead_lettered_alone_and_the_shard_goes_on(kind):
    """Fault 2: also after a restart nothing of it comes again."""
    log, dead, leases = ScriptedLog(), Outbox("dead"), MemoryStore()
    seen: list = []

    async def one(message: Message) -> None:
        seen.append(message.encode())

    async def many(messages) -> None:
        seen.extend(each.encode() for each in messages)

    def consumer():
        group = log.group(leases=leases, dead_letters=dead)
        if kind == "consumer":
            return Consumer(group, one)
        return BatchConsumer(group, many, bisect="bisect" not in kind)

    good = 0
    for odd in UNREADABLE.values():
        log.put(b'{"n":%d}' % good, odd, b'{"n":%d}' % (good + 1))
        good += 2
    async with running(consumer()):
        await until(lambda: len(seen) == good and len(dead.sent) == len(UNREADABLE))
    assert sorted(seen) == sorted(b'{"n":%d}' % number for number in range(good))
    assert sorted(map(bytes_of, dead.sent)) == sorted(UNREADABLE.values())
    assert all("DecodeError" in each.headers["dead-letter-reason"] for each in dead.sent)
    assert {each.headers["shard"] for each in dead.sent} == {SHARD}
    async with running(consumer()):
        log.put(b'"last"')
        await until(lambda: seen[-1] == b'"last"')
    assert (len(seen), len(dead.sent)) == (good + 1, len(UNREADABLE))


async def test_foreign_records_reach_the_handler_byte_for_byte():
    """Faults 2 and 3: bytes that are no JSON and aggregates that are none are ordinary records."""
    log = ScriptedLog()
    log.put(*FOREIGN.values())
    seen: list[bytes] = []

    async def handle(messages) -> None:
        seen.extend(each.encode() for each in messages)

    async with running(BatchConsumer(log.group(), handle)):
        await until(lambda: len(seen) == len(FOREIGN))
    assert seen == list(FOREIGN.values())


async def test_what_reading_raises_is_the_record_s_failure_whatever_the_log():
    """Fault 2: a log of somebody else's may raise, too."""
    log, dead = ScriptedLog(), Outbox("dead")
    read, seen = log.message, []

    def message(shard, record):
        if record.payload == b"odd":
            raise RecursionError("too deep")
        return read(shard, record)

    log.message = message
    log.put(b"1", b"odd", b"2")

    async def handle(message: Message) -> None:
        seen.append(message.body)

    async with running(Consumer(log.group(dead_letters=dead), handle)):
        await until(lambda: len(seen) == 2 and dead.sent)
    assert dead.sent[0].encode() == b"odd"
    assert "RecursionError: too deep" in dead.sent[0].headers["dead-letter-reason"]


async def test_without_a_destination_an_unreadable_record_stays_and_its_neighbours_are_handled():
    """Fault 2: nothing is dropped unhandled; the lane waits, and stopping does not."""
    log, loop = ScriptedLog(), asyncio.get_running_loop()
    log.put(b"1", UNREADABLE["cut off"], b"2")
    seen: list = []

    async def handle(messages) -> None:
        seen.extend(each.body for each in messages)

    group = log.group()
    async with running(BatchConsumer(group, handle, retry=Backoff(base=300, cap=300))):
        await until(lambda: seen == [1, 2])
        await asyncio.sleep(10)
        assert group.shards[0].checkpoint.sequence == "1"
        stopped = loop.time()
    assert loop.time() - stopped < 1


class Small(Outbox):
    """Takes no message above a size."""

    async def send(self, *messages: Message) -> None:
        for each in messages:
            if len(each.encode()) > 1000:
                raise MessageTooLarge(len(each.encode()), 1000, channel=self.name)
        await super().send(*messages)


@pytest.mark.parametrize("kind", ["consumer", "batch consumer"])
async def test_a_record_that_its_dead_letter_channel_can_never_carry_is_referred_to(kind):
    """Fault 3: a record may be larger than any message of a queue; its key does not wait for ever."""
    log, dead, seen = ScriptedLog(), Small("dead"), []
    log.put(b'{"eip":' + b"[" * 5000, b'{"eip":[', b"1", key="k")

    async def one(message: Message) -> None:
        seen.append(message.body)

    async def many(messages) -> None:
        seen.extend(each.body for each in messages)

    group = log.group(dead_letters=dead)
    async with running(Consumer(group, one) if kind == "consumer" else BatchConsumer(group, many)):
        await until(lambda: seen and len(dead.sent) == 2)
    reference, small = dead.sent
    assert small.encode() == b'{"eip":['
    where = {"stream": "s", "shard": SHARD, "sequence-number": "1", "size": 5007}
    assert reference.body == {"dead-letter-reference": where}
    assert reference.headers["sequence-number"] == "1"
    assert "DecodeError" in reference.headers["dead-letter-reason"]


async def test_a_handler_that_cancels_itself_or_raises_a_base_exception_fails_its_batch_alone(memory):
    """Faults 41a and 41b: the lane goes on, nobody else ends."""
    stream, dead, seen = memory.stream("s", shards=1), Outbox("dead"), []
    await stream.send(*(Message(number, group_id="k") for number in range(4)))

    async def handle(messages) -> None:
        (body,) = (each.body for each in messages)
        if body == 0:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)
        if body == 1:
            raise GeneratorExit
        if body == 2:
            raise asyncio.CancelledError
        seen.append(body)

    group = stream.group("g", start="trim_horizon", dead_letters=dead)
    retry = Backoff(base=1, cap=1, max_attempts=2)
    async with running(BatchConsumer(group, handle, batch_size=1, retry=retry)):
        await until(lambda: seen == [3])
    assert [each.body for each in dead.sent] == [0, 1, 2]


async def test_an_aggregate_of_very_many_records_is_held_a_few_at_a_time():
    """Fault 2: work and memory are bounded by ``max_read_ahead``, not by what an aggregate says it holds."""
    log, most, seen = ScriptedLog(), 0, 0
    log.put(small_records(20_000))

    async def handle(messages) -> None:
        nonlocal most, seen
        most = max(most, group.shards[0].held)
        seen += len(messages)

    group = log.group(options=GroupOptions(max_read_ahead=500))
    async with running(BatchConsumer(group, handle, batch_size=100)):
        await until(lambda: seen == 20_000)
    assert most <= 500


def test_an_aggregate_within_an_aggregate_is_data():
    """Fault 2: nesting is not followed."""
    inner = AggregatedRecord(1000)
    inner.add("k", None, b"x")
    outer = AggregatedRecord(1000)
    outer.add("k", None, inner.encode())
    found = deaggregate(outer.encode())
    assert found is not None
    assert [each.data for each in found] == [inner.encode()]


async def test_a_failing_read_is_tried_again_and_loses_nothing():
    """Fault 41: also where the driver lets a foreign error through."""
    log, seen = ScriptedLog(), []
    log.put(b"1")
    log.failures = [ConnectionLost("away"), ValueError("odd"), KeyError("Records")]

    async def handle(message: Message) -> None:
        seen.append(message.body)

    async with running(Consumer(log.group(), handle)):
        await until(lambda: seen == [1])


@pytest.mark.parametrize("data", [b'{ "n" : 1 }', b'{"n":1e400, "n":2}', b"{}", b"[1, 2 ]", b' "x"', b"7", b"{\n}"])
def test_what_is_sent_on_unchanged_is_the_same_bytes(data):
    """Fault 12."""
    from eip.transports.aws.kinesis.records import load_record

    received, error = load_record(data, key="k", id="i")
    assert error is None
    again, error = load_record(dump_record(received), key="k", id="other")
    assert (again.encode(), error) == (data, None)


def test_an_unreadable_record_says_so():
    from eip.transports.aws.kinesis.records import load_record

    for data in UNREADABLE.values():
        message, error = load_record(data, key="k", id="i")
        assert isinstance(error, DecodeError)
        assert (message.raw, message.id, message.group_id) == (data, "i", "k")
