"""The outbox in the user's own transaction, whatever client that is of; on a real PostgreSQL and on SQLite."""

from __future__ import annotations

import contextlib
import sqlite3
import uuid

import pytest
import sqlalchemy as sa
from opentelemetry.sdk.trace import TracerProvider
from sqlalchemy import orm
from sqlalchemy.pool import NullPool

from eip import Message
from eip.envelope import load_message
from eip.errors import ConfigurationError, InvalidMessage
from eip.stores._connections import entered
from eip.stores.outbox import SqliteOutbox
from eip.stores.postgres_outbox import PostgresOutbox
from tests.support.clients import CLIENTS


@pytest.fixture(scope="module")
def name():
    return f"o{uuid.uuid4().hex[:12]}"


@pytest.fixture
async def outbox(postgres_server, name):
    made = PostgresOutbox(postgres_server.dsn, name)
    await made.create()
    yield made
    await made.drop([each.number for each in await made.refused()])
    await made.sent([each.number for each in await made.waiting("orders", limit=100, skip_refused=True)])
    await made.aclose()


async def add(outbox, connection, *messages, channel="orders"):
    work = outbox.add(connection, channel, *messages)
    if work is not None:
        await work


async def written(outbox):
    return [load_message(each.message) for each in await outbox.waiting("orders", limit=100, skip_refused=False)]


@pytest.mark.postgres
@pytest.mark.parametrize("client", CLIENTS)
async def test_messages_commit_and_roll_back_with_the_users_transaction(postgres_server, outbox, client):
    begin = CLIENTS[client]
    async with entered(begin(postgres_server.dsn)) as connection:
        await add(outbox, connection, Message("a", id="1", group_id="g", attributes={"n": 1}), Message(b"\0\xff"))
        await add(outbox, connection)
        await add(outbox, connection, Message("c"))
        assert await outbox.unsent() == {}, "not committed yet"

    async def fail():
        async with entered(begin(postgres_server.dsn)) as connection:
            await add(outbox, connection, Message("never"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    first, second, third = await written(outbox)
    assert (first.id, first.body, first.group_id, first.attributes) == ("1", "a", "g", {"n": 1})
    assert second.encode() == b"\0\xff"
    assert third.body == "c"


@pytest.mark.postgres
@pytest.mark.parametrize("client", ["psycopg", "SQLAlchemy's async session"])
async def test_a_group_may_have_any_name_and_the_trace_is_carried(postgres_server, outbox, client):
    """PostgreSQL takes no NUL in a text, and no index entry of more than some 2,700 bytes."""
    groups = ["a\0b", "x" * 50_000, "'; DROP TABLE orders; --", ":p1 ? %s $1", "ü" * 600]
    tracer = TracerProvider().get_tracer("test")
    with tracer.start_as_current_span("order") as span:
        async with entered(CLIENTS[client](postgres_server.dsn)) as connection:
            await add(outbox, connection, *(Message(1, group_id=each) for each in groups))
    found = await written(outbox)
    assert [each.group_id for each in found] == groups
    assert all(f"{span.get_span_context().span_id:016x}" in (each.traceparent or "") for each in found)
    for number in [each.number for each in await outbox.waiting("orders", limit=100, skip_refused=True)]:
        await outbox.refuse(number, "no")  # the index over groups takes it
    assert await written(outbox) == []


@pytest.mark.postgres
@pytest.mark.parametrize("client", ["psycopg", "psycopg, async", "SQLAlchemy's session"])
async def test_of_a_call_with_a_message_that_cannot_be_written_nothing_is(postgres_server, outbox, client):
    async with entered(CLIENTS[client](postgres_server.dsn)) as connection:
        with pytest.raises(InvalidMessage):
            await add(outbox, connection, Message("fine"), Message(object()))
    assert await written(outbox) == []


@pytest.mark.parametrize("driver", ["sqlite3", "SQLAlchemy's session", "SQLAlchemy's connection"])
async def test_sqlite_is_written_with_sqlalchemy_as_well(tmp_path, driver):
    outbox = SqliteOutbox(tmp_path / "shop.sqlite")
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'shop.sqlite'}", poolclass=NullPool)

    def begin():
        if driver == "sqlite3":
            return contextlib.closing(sqlite3.connect(tmp_path / "shop.sqlite"))
        return orm.sessionmaker(engine).begin() if "session" in driver else engine.begin()

    with begin() as connection:
        outbox.add(connection, "orders", Message("a", group_id="g\0"), Message(b"\0\xff"))
        if driver == "sqlite3":
            connection.commit()

    def fail():
        with begin() as connection:
            outbox.add(connection, "orders", Message("never"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [each.encode() for each in await written(outbox)] == [b'"a"', b"\0\xff"]
    await outbox.aclose()


@pytest.mark.parametrize("wrong", [None, "shop.sqlite", sa.create_engine("sqlite://"), object(), sqlite3])
async def test_what_is_no_connection_is_a_type_error_at_once(tmp_path, wrong):
    outbox = SqliteOutbox(tmp_path / "o.sqlite")
    with pytest.raises(TypeError, match="connection must be a connection of asyncpg, psycopg or sqlite3, or a session"):
        outbox.add(wrong, "orders", Message(1))
    with (
        contextlib.closing(sqlite3.connect(tmp_path / "o.sqlite")) as db,
        pytest.raises(ConfigurationError, match="channel must be"),
    ):
        outbox.add(db, "a\0", Message(1))
    await outbox.aclose()
