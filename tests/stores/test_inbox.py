"""Inbox: note, effects and outgoing messages commit together, whatever client the user's transaction is of."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import uuid
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy import orm
from sqlalchemy.pool import NullPool
from typing_extensions import override

from eip import App, Handlers, Message, QueueSpec, Topology
from eip.channels import Sender
from eip.channels.addresses import ReturnAddresses
from eip.envelope import load_message
from eip.errors import (
    ChannelNotFound,
    ConfigurationError,
    ConnectionLost,
    DecodeError,
    InvalidMessage,
    InvalidResult,
    PartialSendError,
    Reject,
    StateError,
    StoreError,
)
from eip.patterns import Inbox, OutboxRelay, RequestReply
from eip.patterns._outbox_replies import ReplySender, addressed
from eip.patterns.diagram import diagram
from eip.runtime.handlers import body_type
from eip.stores.inbox import SqliteInbox
from eip.stores.outbox import SqliteOutbox
from eip.stores.postgres_inbox import PostgresInbox, schema
from eip.stores.postgres_outbox import PostgresOutbox
from eip.transports.memory import MemoryTransport
from tests.support.clients import CLIENTS, execute, execute_now

SQLITE = ["sqlite3", "SQLAlchemy on SQLite"]


class Failing(Sender):
    """A channel whose sends fail."""

    name = address = "failing"

    def __init__(self, error: Exception) -> None:
        self._error = error

    @override
    async def send(self, *messages):
        raise self._error


class Order(BaseModel):
    id: str


class Shop:
    """A database with a table of the user's own, an inbox and an outbox."""

    def __init__(self, table, outbox, connect, effects, effects_table, *, is_async):
        self.effects_table = effects_table
        self.table, self.outbox, self.connect, self.is_async = table, outbox, connect, is_async
        self._effects = effects

    def inbox(self, **options):
        return Inbox(self.table, self.connect, outbox=self.outbox, **options)

    def handler(self, act=lambda _connection, _order: None, *, inbox=None, scope="billing", **options):
        """A handler that writes an effect, does what the test wants, and returns a message."""
        inbox = inbox or self.inbox()
        wrap = inbox.handler(scope, **({"output": "bills"} | options))

        @wrap
        async def asynchronous(order: Order, connection):
            await execute(connection, f"INSERT INTO {self.effects_table} VALUES (?)", order.id)
            result = act(connection, order)
            if asyncio.iscoroutine(result):
                await result
            return Message(order.id, id=f"bill-{order.id}", group_id=order.id)

        if self.is_async:
            return asynchronous

        @wrap
        def synchronous(order: Order, connection):
            execute_now(connection, f"INSERT INTO {self.effects_table} VALUES (?)", order.id)
            act(connection, order)
            return Message(order.id, id=f"bill-{order.id}", group_id=order.id)

        return synchronous

    async def effects(self):
        return sorted(await self._effects())

    async def bills(self):
        rows = await self.outbox.waiting("bills", limit=100, skip_refused=False)
        return [load_message(each.message) for each in rows]

    async def close(self):
        await self.table.aclose()
        await self.outbox.aclose()


def sqlite_shop(folder, client):
    path = folder / "shop.sqlite"
    table, outbox = SqliteInbox(path), SqliteOutbox(path)
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE effects (id TEXT)")

    async def effects():
        with contextlib.closing(sqlite3.connect(path)) as db:
            return [each for (each,) in db.execute("SELECT id FROM effects")]

    connect: Any = table.connect
    if client != "sqlite3":
        connect = orm.sessionmaker(sa.create_engine(f"sqlite:///{path}", poolclass=NullPool)).begin
    return Shop(table, outbox, connect, effects, "effects", is_async=False)


async def postgres_shop(dsn, client):
    name = f"i{uuid.uuid4().hex[:12]}"
    table, outbox = PostgresInbox(dsn, name), PostgresOutbox(dsn, f"{name}_out")
    await outbox.create()

    def connect():
        return CLIENTS[client](dsn)

    async def effects():
        return [row[0] for row in await table._pool.fetch(f"SELECT id FROM effects_{name}")]

    await table._pool.fetch(f"CREATE TABLE effects_{name} (id text)")
    is_async = client.startswith("asyncpg") or "async" in client
    return Shop(table, outbox, connect, effects, f"effects_{name}", is_async=is_async)


def clients(*names):
    return pytest.mark.parametrize(
        "client", [each if each in SQLITE else pytest.param(each, marks=pytest.mark.postgres) for each in names]
    )


POSTGRES = ["asyncpg", "psycopg", "psycopg, async", "SQLAlchemy's session", "SQLAlchemy's async session"]
EVERY_KIND = clients(*SQLITE, *POSTGRES)
EACH_DATABASE = clients("sqlite3", "psycopg, async")


@pytest.fixture
async def shop(request, tmp_path, client):
    if client in SQLITE:
        made = sqlite_shop(tmp_path, client)
    else:
        made = await postgres_shop(request.getfixturevalue("postgres_server").dsn, client)
    yield made
    await made.close()


def order(number="1", **fields):
    return Message({"id": number}, id=number, **fields)


@EVERY_KIND
async def test_a_duplicate_is_skipped_and_what_was_done_is_done_once(shop):
    inbox = shop.inbox()
    handle = shop.handler(inbox=inbox)
    for each in (order("1"), order("2"), order("1"), order("2")):
        assert await handle(each) is None, "what it returns goes to the outbox"
    assert await shop.effects() == ["1", "2"]
    assert [each.id for each in await shop.bills()] == ["bill-1", "bill-2"]
    assert inbox.duplicates == 2


@EVERY_KIND
async def test_a_handler_that_fails_leaves_nothing_and_its_message_is_handled_when_it_comes_again(shop):
    failing = [True]

    def act(connection, body):
        if failing:
            raise ZeroDivisionError

    handle = shop.handler(act)
    with pytest.raises(ZeroDivisionError):
        await handle(order())
    assert (await shop.effects(), await shop.bills()) == ([], [])
    failing.clear()
    await handle(order())
    assert await shop.effects() == ["1"]
    assert len(await shop.bills()) == 1


@EVERY_KIND
async def test_of_two_at_once_one_is_handled_and_the_other_waits_for_it(shop):
    handle = shop.handler()
    await asyncio.gather(*(handle(order()) for _ in range(4)))
    assert await shop.effects() == ["1"]
    assert len(await shop.bills()) == 1


@clients(*POSTGRES)
async def test_a_database_error_that_the_handler_swallows_loses_nothing(shop):
    """PostgreSQL answers the commit of such a transaction with a rollback, and no client raises an error."""

    def wrong(connection, body):
        with contextlib.suppress(Exception):
            execute_now(connection, "INSERT INTO nowhere VALUES (?)", 1)

    async def wrong_async(connection, body):
        with contextlib.suppress(Exception):
            await execute(connection, "INSERT INTO nowhere VALUES (?)", 1)

    inbox = shop.inbox()
    if shop.is_async:

        @inbox.handler("s")
        async def handle(order: Order, connection):
            await wrong_async(connection, order)
    else:

        @inbox.handler("s")
        def handle(order: Order, connection):
            wrong(connection, order)

    for _ in range(2):
        with pytest.raises(Exception, match="transaction"):
            await handle(order())
    assert inbox.duplicates == 0


@clients(*SQLITE, *POSTGRES[1:])
@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_a_handler_that_ends_its_transaction_has_failed(shop, end):
    inbox = shop.inbox()
    if shop.is_async:

        @inbox.handler("s")
        async def handle(order: Order, connection):
            await getattr(connection, end)()
    else:

        @inbox.handler("s")
        def handle(order: Order, connection):
            getattr(connection, end)()

    message = order()
    for _ in range(2):  # its note is not kept, or the second would count as a duplicate, and the message be lost
        with pytest.raises(Exception, match=r"(?i)transaction"):
            await handle(message)


@pytest.mark.postgres
async def test_autocommit_is_refused_and_the_message_not_taken_for_handled(postgres_server):
    shop = await postgres_shop(postgres_server.dsn, "SQLAlchemy's session")
    engine = sa.create_engine(
        postgres_server.dsn.replace("postgresql", "postgresql+psycopg"),
        isolation_level="AUTOCOMMIT",
        poolclass=NullPool,
    )
    inbox = Inbox(shop.table, orm.sessionmaker(engine).begin, outbox=shop.outbox)
    handle = shop.handler(inbox=inbox)
    for _ in range(2):
        with pytest.raises(StateError, match="autocommit"):
            await handle(order())
    assert await shop.effects() == []
    psycopg_s = Inbox(shop.table, lambda: psycopg.connect(postgres_server.dsn, autocommit=True), outbox=shop.outbox)
    await shop.handler(inbox=psycopg_s)(order())  # it has a transaction of its own
    assert await shop.effects() == ["1"]
    await shop.close()


@EACH_DATABASE
async def test_scopes_keys_and_replays_tell_messages_apart(shop):
    await shop.handler(scope="billing")(order())
    await shop.handler(scope="shipping")(order())
    assert await shop.effects() == ["1", "1"]
    by_body = shop.handler(inbox=shop.inbox(key=lambda message: message.body["id"]), scope="by body")
    await by_body(order().replace(id="x"))
    await by_body(order().replace(id="y"))
    assert await shop.effects() == ["1", "1", "1"]
    with pytest.raises(Reject, match="no idempotency key"):
        await shop.handler(inbox=shop.inbox(key=lambda message: None))(order())
    replayed = shop.handler(inbox=shop.inbox(replays=True), scope="replays")
    for name in (None, "r1", "r1", "r2"):
        headers = {} if name is None else {"replay-name": name}
        await replayed(order(headers=headers))
    assert len(await shop.effects()) == 3 + len({order(headers={"replay-name": "r"}).replay_name, None}) + 1


@EACH_DATABASE
@pytest.mark.parametrize(
    "key", ["a\0b", "x" * 10_000_000, "'; DROP TABLE effects; --", ":p1 ? %s $1", "ü" * 600, "eip:sha256:"]
)
async def test_ids_come_from_strangers(shop, key):
    handle = shop.handler()
    for _ in range(2):
        await handle(Message({"id": "1"}, id=key))
    assert await shop.effects() == ["1"]


@EACH_DATABASE
async def test_a_body_is_validated_before_the_handler_and_the_message_comes_again_otherwise(shop):
    handle = shop.handler()
    assert body_type(handle) is Order
    with pytest.raises(DecodeError):
        await handle(Message({"no": "id"}, id="1"))
    await handle(order())
    assert await shop.effects() == ["1"]
    assert str(diagram(handle)).startswith("inbox")


@EACH_DATABASE
async def test_results_with_nowhere_to_go_take_everything_back(shop):
    with pytest.raises(InvalidResult, match="nowhere to go"):
        await shop.handler(output=None)(order())
    assert await shop.effects() == []


@EACH_DATABASE
async def test_results_carry_the_trace_of_their_message(shop):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await shop.handler()(order(traceparent=trace))
    (bill,) = await shop.bills()
    assert bill.traceparent == trace


@EACH_DATABASE
async def test_old_notes_are_removed_now_and_then_and_a_failure_of_that_fails_no_message(shop, monkeypatch):
    now = [1_000_000.0]
    monkeypatch.setattr("eip.clock.now", lambda: now[0])
    monkeypatch.setattr("eip.patterns.inbox._PURGE_LIMIT", 2)
    inbox = shop.inbox(retention=3600)
    handle = shop.handler(inbox=inbox)
    for number in range(5):
        await handle(order(str(number)))
    now[0] += 3601
    purge = shop.table.purge
    removed = []

    async def counted(before, *, limit):
        removed.append(await purge(before, limit=limit))
        return removed[-1]

    async def fails(before, *, limit):
        raise StoreError("away")

    monkeypatch.setattr(shop.table, "purge", fails)
    await handle(order("a"))
    monkeypatch.setattr(shop.table, "purge", counted)
    now[0] += 61
    for each in "bcde":
        await handle(order(each))
    assert removed == [2, 2, 1]
    await handle(order("0"))
    assert (await shop.effects()).count("0") == 2, "forgotten, so handled again"


@clients("sqlite3", "SQLAlchemy's session", "asyncpg")
async def test_a_handler_and_its_connections_are_of_one_kind(shop):
    inbox = shop.inbox()
    if shop.is_async:

        @inbox.handler("s")
        def handle(order: Order, connection): ...
    else:

        @inbox.handler("s")
        async def handle(order: Order, connection): ...

    with pytest.raises(ConfigurationError, match="connect must be"):
        await handle(order())


async def test_what_can_never_work_is_refused_at_once(tmp_path):
    shop = sqlite_shop(tmp_path, "sqlite3")
    bare: Any = Inbox(shop.table, shop.connect)
    with pytest.raises(ConfigurationError, match="need an outbox"):
        bare.handler("s", output="bills")
    for scope, error in (("", ConfigurationError), ("a\0", ConfigurationError), (None, TypeError)):
        with pytest.raises(error, match="scope must be"):
            bare.handler(scope)

    def one(message): ...
    def three(message, connection, more): ...
    def several(message, *connections): ...
    async def yields(message, connection):
        yield Message(1)

    for wrong in (one, three, yields, 7, several):
        with pytest.raises(ConfigurationError):
            bare.handler("s")(wrong)
    made: Any = Inbox
    with pytest.raises(TypeError, match="table must be an inbox's table"):
        made("eip_inbox", shop.connect)
    with pytest.raises(TypeError, match="connect must be a function"):
        made(shop.table, "shop.sqlite")
    with pytest.raises(TypeError, match="outbox must be an outbox or None"):
        made(shop.table, shop.connect, outbox="out")
    with pytest.raises(TypeError, match="replies must be ReturnAddresses"):
        OutboxRelay(shop.outbox, {}, replies="replies-")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="retention must be > 0"):
        Inbox(shop.table, shop.connect, retention=0)
    for name in ("", "a b", 'x"; DROP TABLE y'):
        with pytest.raises(ConfigurationError):
            SqliteInbox(tmp_path / "db", name)
        with pytest.raises(ConfigurationError):
            schema(name)
    await shop.close()


async def test_handlers_of_several_types_share_an_inbox(tmp_path):
    shop = sqlite_shop(tmp_path, "sqlite3")
    handlers = Handlers()
    handlers.add(shop.handler(scope="orders"))
    for _ in range(2):
        await handlers(order(type="Order"))
    assert (handlers.types, await shop.effects()) == (("Order",), ["1"])
    await shop.close()


async def test_a_table_that_is_away_fails_the_message_and_no_more(tmp_path):
    away = PostgresInbox("postgresql://postgres@127.0.0.1:1/none")
    shop = sqlite_shop(tmp_path, "sqlite3")
    with pytest.raises(StoreError):
        await shop.handler(inbox=Inbox(away, shop.connect, outbox=shop.outbox))(order())
    await away.aclose()
    await shop.close()


async def test_an_application_replies_through_the_outbox(tmp_path):
    """A reply is written in the transaction, and the relay finds its address; one that is refused holds up no other."""
    shop = sqlite_shop(tmp_path, "sqlite3")
    inbox = shop.inbox()

    def make_app():
        app = App(MemoryTransport(), topology=Topology(QueueSpec("orders")))
        app.add(shop.table)
        app.add(shop.outbox)
        addresses = ReturnAddresses(app.transport, prefix="replies-")
        app.add(OutboxRelay(shop.outbox, {"bills": app.sender("bills")}, replies=addresses, poll=0.02))

        @app.consumer("orders")
        @inbox.handler("billing", replies=True, output="bills")
        def bill(message: Message[Order], db: sqlite3.Connection) -> Message:
            db.execute("INSERT INTO effects VALUES (?)", (message.body.id,))
            return message.reply(f"paid {message.body.id}")

        return app

    app = make_app()
    assert app.handlers[0].message_types == {"Order": Order}
    async with app, asyncio.timeout(30):
        orders, lost = app.transport.queue("orders"), app.transport.queue("elsewhere")
        await orders.send(order("0", return_address=lost.address), order("no reply"))
        async with RequestReply(orders, app.transport.queue("replies-1")) as asking:
            answer = await asking.request(order("1"), timeout=20)
        assert answer.body == "paid 1"
        assert "outbox-address" not in answer.headers
        while not (refused := await shop.outbox.refused()):
            await asyncio.sleep(0.01)
        assert "AddressRefused" in refused[0].reason
        bills = app.transport.queue("bills")
        while not len(bills):
            await asyncio.sleep(0.01)
        assert [each.body for each in bills.messages()] == ["paid no reply"]
    assert await shop.effects() == ["0", "1", "no reply"]


async def test_replies_to_one_address_hold_up_no_others():
    """Replies to a queue that is gone are refused, those to one that is away tried again; a slow one is not awaited."""
    there_got_it = asyncio.Event()

    class Slow(Failing):
        @override
        async def send(self, *messages):
            async with asyncio.timeout(20):
                await there_got_it.wait()
            raise self._error

    class Addresses(ReturnAddresses):
        @override
        def resolve(self, address):
            return {"gone": Failing(ChannelNotFound("gone")), "away": Failing(ConnectionLost("away"))}.get(
                address, there
            )

    async with MemoryTransport() as memory:
        there = memory.queue("there")
        replies = [addressed(Message(each, id=each), each) for each in ("gone", "there", "away")]
        with pytest.raises(PartialSendError) as raised:
            await ReplySender(Addresses(memory, prefix="t")).send(*replies, Message("no address", id="none"))
        assert [(each.message.id, type(each.error)) for each in raised.value.failed] == [
            ("gone", InvalidMessage),
            ("away", ConnectionLost),
        ]
        assert [each.body for each in there.messages()] == ["there", "no address"]
        assert not there.messages()[0].headers
