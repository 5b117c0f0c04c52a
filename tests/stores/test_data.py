"""What patterns keep in a store comes out byte for byte, whatever the message holds."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import uuid
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from eip import Message
from eip.attributes import from_native, to_native
from eip.channels import Sender
from eip.envelope import dump_message, load_message
from eip.message import SequenceInfo
from eip.patterns.aggregator import Aggregate, Aggregator
from eip.patterns.idempotent_receiver import idempotent
from eip.patterns.message_store import MessageStore
from eip.patterns.outbox import OutboxRelay
from eip.patterns.resequencer import Resequencer
from eip.stores import MemoryStore, SqliteStore
from eip.stores.objects import FileObjects
from eip.stores.outbox import SqliteOutbox
from eip.stores.postgres import PostgresStore
from eip.stores.postgres_outbox import PostgresOutbox
from eip.stores.redis import RedisStore

pytestmark = pytest.mark.asyncio

NATIVE: dict[str, tuple[str, str | bytes]] = {
    "padded": ("Number.int", "007"),
    "trailing zero": ("Number", "1.10"),
    "38 digits": ("Number", "12345678901234567890123456789012345678"),
    "small": ("Number", "0." + "3" * 38),
    "uuid": ("String.UUID", "1f0c4b0e-0000-0000-0000-000000000000"),
    "long": ("Number.java.lang.Long", "42"),
    "gif": ("Binary.gif", b"GIF89a\0\xff"),
    "no number": ("Number", "nine"),
    "array": ("String.Array", '["a", 1.10, null]'),
}
ATTRIBUTES: dict[str, Any] = {
    "big": 10**200,
    "negative": -(2**64),
    "decimal": Decimal("1.100"),
    "float": 1e308,
    "flag": True,
    "bytes": bytes(range(256)),
    "text": "Grüße 🦄 \U0010ffff",
    "several": ["a", 1, 2.5],
}
BODIES = {
    "long decimal": b'{"amount": 0.1000000000000000055511151231257827, "n": 123456789012345678901234567890}',
    "beyond a float": b"1e400",
    "doubled keys": b'{"a": 1, "a": 2}',
    "odd spacing": b' { "a" :\t1 }\n',
    "plain text": b"Message at 12:00",
    "no UTF-8": b"\xff\xfe\x00gzip\x1f\x8b",
    "empty": b"",
    "NUL": b'{"a": "\\u0000"}\0',
    "lone surrogate": b'"\\ud800"',
    "deep": b"[" * 2000 + b"]" * 2000,
}


def received(raw: bytes, number: int) -> Message:
    """As a driver hands it on, from a foreign producer."""
    native = {name: from_native(*given) for name, given in NATIVE.items()}
    return Message.received(
        raw,
        id=f"m-{number}",
        correlation_id="g",
        attributes={**native, **ATTRIBUTES},
        sequence=SequenceInfo("s", number),
    )


MESSAGES = [received(raw, number) for number, raw in enumerate(BODIES.values())]


def assert_same(found: list[Message]) -> None:
    assert [each.encode() for each in found] == list(BODIES.values())
    for each in found:
        assert {name: to_native(each.attributes[name])[:2] for name in NATIVE} == NATIVE
        assert {name: each.attributes[name] for name in ATTRIBUTES} == ATTRIBUTES
        assert {name: type(each.attributes[name]) for name in ATTRIBUTES} == {k: type(v) for k, v in ATTRIBUTES.items()}


class Kept(Sender):
    name = address = "kept"

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def send(self, *messages: Message) -> None:
        self.messages += messages


@pytest.fixture(
    params=[
        "memory",
        "sqlite",
        pytest.param("postgres", marks=pytest.mark.postgres),
        pytest.param("redis", marks=pytest.mark.redis),
    ]
)
async def store(request, tmp_path):
    name = f"t{uuid.uuid4().hex}"
    if request.param == "memory":
        made: Any = MemoryStore()
    elif request.param == "sqlite":
        made = SqliteStore(tmp_path / "data.sqlite")
    elif request.param == "postgres":
        made = PostgresStore(request.getfixturevalue("postgres_server").dsn, name)
    else:
        made = RedisStore(request.getfixturevalue("redis_server").url, name)
    yield made
    await made.aclose()


async def test_a_message_is_its_own_dump():
    assert_same([load_message(dump_message(each)) for each in MESSAGES])


async def test_a_duplicate_gives_what_the_first_handling_gave(store):
    """Faults 10, 11, 12: an integer beyond 64 bits was a TypeError, and the handler ran five times."""
    calls = []

    async def handle(message: Message) -> list[Message]:
        calls.append(message.id)
        return MESSAGES

    once = idempotent(store)(handle)
    await once(Message(1, id="m"))
    again = await once(Message(1, id="m"))
    assert calls == ["m"]
    assert isinstance(again, list)
    assert_same(again)


async def test_an_aggregate_is_of_the_inputs_as_they_came(store):
    """Faults 10, 11, 12."""
    gathered: list[Message] = []

    def combine(aggregate: Aggregate) -> int:
        gathered.extend(aggregate.messages)
        return len(gathered)

    aggregator = Aggregator(store, output=Kept(), size=len(MESSAGES), combine=combine)
    for each in MESSAGES:
        await aggregator(each)
    assert_same(gathered)


async def test_a_part_that_waited_is_sent_on_as_it_came(store):
    """Faults 10, 11, 12."""
    out = Kept()
    resequencer = Resequencer(store, output=out)
    for each in reversed(MESSAGES):
        await resequencer(each)
    assert_same(out.messages)


async def test_a_message_store_keeps_what_it_was_given(tmp_path):
    """Faults 10, 11, 12."""
    kept = MessageStore(FileObjects(tmp_path))
    await kept.send(*MESSAGES)
    found = [each async for each in kept.messages(0, 4e9)]
    assert_same(sorted(found, key=lambda each: int(each.id[2:])))


async def test_the_outbox_sends_what_was_written_sqlite(tmp_path):
    """Faults 10, 11, 12."""
    outbox, out = SqliteOutbox(tmp_path / "o.sqlite"), Kept()
    with contextlib.closing(sqlite3.connect(tmp_path / "o.sqlite")) as db, db:
        outbox.add(db, "orders", *MESSAGES)
    await relayed(outbox, out)
    assert_same(out.messages)


@pytest.mark.postgres
async def test_the_outbox_sends_what_was_written_postgres(postgres_server):
    """Faults 10, 11, 12."""
    outbox, out = PostgresOutbox(postgres_server.dsn, f"o{uuid.uuid4().hex[:12]}"), Kept()
    await outbox.create()
    connection = await asyncpg.connect(postgres_server.dsn)
    await outbox.add(connection, "orders", *MESSAGES)
    await connection.close()
    await relayed(outbox, out)
    assert_same(out.messages)


async def relayed(outbox: Any, out: Kept) -> None:
    async with asyncio.timeout(20), OutboxRelay(outbox, {"orders": out}, poll=0.02):
        while len(out.messages) < len(MESSAGES):
            await asyncio.sleep(0.01)
    await outbox.aclose()
