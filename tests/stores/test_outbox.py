"""Outbox and relay, on SQLite and on a real PostgreSQL: what commits is sent, in order per group, whoever dies."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sqlite3
import subprocess
import sys
import uuid
from collections import defaultdict
from contextlib import asynccontextmanager

import asyncpg
import pytest

from eip import Message
from eip.channels import Sender
from eip.errors import (
    ChannelNotFound,
    ConfigurationError,
    ConnectionLost,
    FailedEntry,
    InvalidMessage,
    MessageTooLarge,
    PartialSendError,
    StoreError,
)
from eip.patterns.outbox import OutboxRelay
from eip.retry import Backoff
from eip.stores.outbox import SqliteOutbox
from eip.stores.postgres_outbox import PostgresOutbox, schema


class Channel(Sender):
    """Keeps what it accepts, and fails as told."""

    name = address = "channel"

    def __init__(self, fail=lambda messages: None) -> None:
        self.accepted: list[Message] = []
        self.calls: list[list[str]] = []
        self._fail = fail
        self._came = asyncio.Event()

    async def send(self, *messages):
        self.calls.append([each.body for each in messages])
        error = self._fail(messages)
        failed = {each.message.id for each in error.failed} if isinstance(error, PartialSendError) else set()
        if error is None or failed:
            self.accepted += [each for each in messages if each.id not in failed]
            self._came.set()
        if error is not None:
            raise error

    @property
    def bodies(self):
        return [each.body for each in self.accepted]

    async def until(self, count: int):
        async with asyncio.timeout(30):
            while len(self.accepted) < count:
                self._came.clear()
                await self._came.wait()


class SqliteShop:
    """The user's own database with a table of theirs, on SQLite."""

    def __init__(self, folder):
        self.path = folder / "shop.sqlite"
        self.outbox = SqliteOutbox(self.path)
        with contextlib.closing(sqlite3.connect(self.path)) as db, db:
            db.execute("CREATE TABLE orders (id TEXT PRIMARY KEY)")

    async def order(self, *messages, channel="orders", fails=False):
        db = sqlite3.connect(self.path)
        try:
            with db:
                db.execute("INSERT INTO orders VALUES (?)", (uuid.uuid4().hex,))
                self.outbox.add(db, channel, *messages)
                if fails:
                    raise ZeroDivisionError
        finally:
            db.close()

    async def orders(self):
        db = sqlite3.connect(self.path)
        count = db.execute("SELECT count(*) FROM orders").fetchone()[0]
        db.close()
        return count

    async def spoil(self):
        """What a program of another version could have written."""
        db = sqlite3.connect(self.path)
        with db:
            db.execute(self.outbox.insert, ("orders", "g", b"no message", 0.0))
        db.close()

    def again(self):
        return SqliteOutbox(self.path)

    async def close(self):
        await self.outbox.aclose()


class PostgresShop:
    """The same on PostgreSQL."""

    def __init__(self, dsn, name):
        self.dsn, self.name = dsn, name
        self.outbox = PostgresOutbox(dsn, name)

    async def open(self):
        self.pool = await asyncpg.create_pool(self.dsn, min_size=1, max_size=2)
        await self.pool.execute(f"CREATE TABLE orders_{self.name} (id TEXT PRIMARY KEY)")
        await self.outbox.create()

    async def order(self, *messages, channel="orders", fails=False):
        async with self.pool.acquire() as connection, connection.transaction():
            await connection.execute(f"INSERT INTO orders_{self.name} VALUES ($1)", uuid.uuid4().hex)
            await self.outbox.add(connection, channel, *messages)
            if fails:
                raise ZeroDivisionError

    async def orders(self):
        return await self.pool.fetchval(f"SELECT count(*) FROM orders_{self.name}")

    async def spoil(self):
        await self.pool.execute(self.outbox.insert, "orders", "g", b"no message", 0.0)

    def again(self):
        return PostgresOutbox(self.dsn, self.name)

    async def close(self):
        await self.outbox.aclose()
        await self.pool.close()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def shop(request, tmp_path):
    if request.param == "sqlite":
        file = SqliteShop(tmp_path)
        yield file
        await file.close()
        return
    made = PostgresShop(request.getfixturevalue("postgres_server").dsn, f"o{uuid.uuid4().hex[:12]}")
    await made.open()
    yield made
    await made.close()


@asynccontextmanager
async def relaying(outbox, channel, **options):
    options = {"poll": 0.05, **options}
    relay = OutboxRelay(outbox, {"orders": channel}, **options)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(relay.run())
        yield relay
        await relay.stop()


def by_group(messages):
    groups = defaultdict(list)
    for each in messages:
        groups[each.group_id].append(each.body)
    return dict(groups)


async def test_what_commits_is_sent_and_what_rolls_back_is_not(shop):
    channel = Channel()
    await shop.outbox.create()  # as often as you like
    await shop.order(Message("a", id="1", type="Ordered", attributes={"n": 1}))
    with pytest.raises(ZeroDivisionError):
        await shop.order(Message("b"), fails=True)
    await shop.order(Message("c"))
    async with relaying(shop.outbox, channel) as relay:
        await channel.until(2)
    assert channel.bodies == ["a", "c"]
    assert (channel.accepted[0].id, channel.accepted[0].type, channel.accepted[0].attributes) == (
        "1",
        "Ordered",
        {"n": 1},
    )
    assert await shop.orders() == 2
    assert await shop.outbox.unsent() == {}
    assert relay.sent == 2


async def test_what_is_committed_later_is_sent_at_once_when_the_relay_is_woken(shop):
    channel = Channel()
    async with relaying(shop.outbox, channel, poll=60) as relay:
        for number in range(3):
            await shop.order(Message(number))
            relay.wake()
            await channel.until(number + 1)
    assert channel.bodies == [0, 1, 2]


async def test_a_group_is_sent_one_after_the_other_and_groups_do_not_wait(shop):
    channel = Channel()
    for number in range(4):
        await shop.order(*(Message(f"{group}{number}", group_id=group) for group in "ab"), Message(f"-{number}"))
    async with relaying(shop.outbox, channel):
        await channel.until(12)
    assert channel.calls == [["a0", "b0", "-0", "-1", "-2", "-3"], ["a1", "b1"], ["a2", "b2"], ["a3", "b3"]]


@pytest.mark.parametrize("error", [ConnectionLost("no answer"), ChannelNotFound("not yet"), ValueError("a bug")])
async def test_a_send_that_fails_is_tried_again_in_order(shop, monkeypatch, error):
    monkeypatch.setattr("eip.patterns._background._RETRY_BACKOFF", Backoff(base=0.01, cap=0.01))
    failures = iter([error, None, error, error])
    channel = Channel(lambda messages: next(failures, None))
    for number in range(4):
        await shop.order(Message(number, group_id="g"))
    async with relaying(shop.outbox, channel):
        await channel.until(4)
    assert channel.bodies == [0, 1, 2, 3]


async def test_of_a_send_that_failed_in_part_only_the_rest_is_sent_again(shop):
    def second_once(messages):
        if len(channel.calls) > 1:
            return None
        return PartialSendError([FailedEntry(messages[1], ConnectionLost("no answer"))], sent=2)

    channel = Channel(second_once)
    await shop.order(Message("a", group_id="a"), Message("b", group_id="b"), Message("c", group_id="c"))
    await shop.order(Message("b2", group_id="b"))
    async with relaying(shop.outbox, channel):
        await channel.until(4)
    assert channel.bodies == ["a", "c", "b", "b2"]


def too_large(messages):
    """As a sender does that checks its messages before it sends any."""
    return MessageTooLarge(2, 1) if any(each.body == "large" for each in messages) else None


async def test_a_refused_message_holds_up_its_group_alone_until_it_is_dropped(shop):
    channel = Channel(too_large)
    await shop.order(Message("a1", group_id="a"), Message("large", group_id="a"), Message("a2", group_id="a"))
    await shop.order(Message("b1", group_id="b"), Message("b2", group_id="b"), Message("loose"))
    async with relaying(shop.outbox, channel) as relay:
        await channel.until(4)
        assert by_group(channel.accepted) == {"a": ["a1"], "b": ["b1", "b2"], None: ["loose"]}
        while not (refused := await shop.outbox.refused()):
            await asyncio.sleep(0.01)
        assert [(each.channel, each.group) for each in refused] == [("orders", "a")]
        assert refused[0].reason.startswith("MessageTooLarge: message of 2 bytes")
        assert await shop.outbox.drop([refused[0].number]) == 1
        await channel.until(5)
    assert by_group(channel.accepted)["a"] == ["a1", "a2"]
    assert relay.refused == 1


async def test_a_reason_that_the_database_cannot_hold_stops_no_channel(shop):
    """Noting the refusal was refused for ever, and what was written after the message was never sent."""
    channel = Channel(lambda messages: InvalidMessage("no \0 \ud800") if messages[0].body == "odd" else None)
    await shop.order(Message("odd", group_id="g"))
    async with relaying(shop.outbox, channel):
        while not (refused := await shop.outbox.refused()):
            await asyncio.sleep(0.01)
        await shop.order(Message("fine"))
        await channel.until(1)
    assert "InvalidMessage: no \\x00 \\ud800" in refused[0].reason


async def test_a_refused_message_can_be_retried(shop):
    wrong = [True]
    channel = Channel(lambda messages: InvalidMessage("no") if wrong[0] else None)
    await shop.order(Message(1, group_id="g"), Message(2, group_id="g"))
    async with relaying(shop.outbox, channel):
        while not await shop.outbox.refused():
            await asyncio.sleep(0.01)
        wrong[0] = False
        assert await shop.outbox.retry() == 1
        await channel.until(2)
    assert channel.bodies == [1, 2]
    assert await shop.outbox.retry() == 0


async def test_a_refused_message_may_be_skipped(shop):
    channel = Channel(too_large)
    await shop.order(*(Message(body, group_id="g") for body in ("1", "large", "2")))
    async with relaying(shop.outbox, channel, on_refused="skip"):
        await channel.until(2)
    assert channel.bodies == ["1", "2"]
    assert await shop.outbox.unsent() == {"orders": 1}


async def test_a_row_that_is_no_message_is_set_aside(shop):
    channel = Channel()
    await shop.spoil()
    await shop.order(Message("held up", group_id="g"), Message("fine", group_id="other"))
    async with relaying(shop.outbox, channel):
        await channel.until(1)
        while not (refused := await shop.outbox.refused()):
            await asyncio.sleep(0.01)
    assert refused[0].reason.startswith("DecodeError")
    assert channel.bodies == ["fine"]


async def test_one_relay_sends_and_another_takes_over_when_it_stops(shop, monkeypatch):
    monkeypatch.setattr("eip.patterns.outbox._MAX_STANDBY_S", 0.05)
    channel, other = Channel(), shop.again()
    async with relaying(other, channel) as second, asyncio.TaskGroup() as tasks:
        while not second.leading:
            await asyncio.sleep(0.01)
        first = OutboxRelay(shop.outbox, {"orders": channel}, poll=0.05)
        tasks.create_task(first.run())
        await shop.order(Message(1))
        await channel.until(1)
        await second.stop()
        while not first.leading:
            await asyncio.sleep(0.01)
        await shop.order(Message(2))
        await channel.until(2)
        await first.stop()
    assert (first.sent, second.sent) == (1, 1)  # the first one stood by before
    await other.aclose()


async def test_a_relay_whose_lease_was_taken_stops_sending(shop):
    """As one that stood still for longer than its lease: what it was busy with is cancelled."""
    stuck = asyncio.Event()

    class Stuck(Channel):
        async def send(self, *messages):
            stuck.set()
            await asyncio.Event().wait()

    await shop.order(Message(1))
    slow = OutboxRelay(shop.outbox, {"orders": Stuck()}, poll=0.05, lease=0.3)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(slow.run())
        await stuck.wait()
        while not await shop.outbox.lead("another", 9e12):
            await shop.outbox.resign(slow._owner)
        while slow.leading:
            await asyncio.sleep(0.01)
        await slow.stop()
        await running
    assert await shop.outbox.unsent() == {"orders": 1}


async def test_a_store_that_fails_for_a_while_is_survived(shop, monkeypatch):
    monkeypatch.setattr("eip.patterns._background._RETRY_BACKOFF", Backoff(base=0.01, cap=0.01))
    channel, failing = Channel(), [True]
    waiting = shop.outbox.waiting

    async def sometimes(*arguments, **options):
        if failing[0]:
            failing[0] = False
            raise StoreError("gone")
        return await waiting(*arguments, **options)

    monkeypatch.setattr(shop.outbox, "waiting", sometimes)
    await shop.order(Message(1))
    async with relaying(shop.outbox, channel):
        await channel.until(1)
    assert failing == [False]


async def test_a_backlog_is_sent_in_order(shop):
    channel = Channel()
    for start in range(0, 600, 100):
        await shop.order(*(Message(each, group_id=f"g{each % 7}") for each in range(start, start + 100)))
    async with relaying(shop.outbox, channel):
        await channel.until(600)
    assert by_group(channel.accepted) == {f"g{each}": list(range(each, 600, 7)) for each in range(7)}


@pytest.mark.parametrize(
    "options",
    [{"channels": {}}, {"on_refused": "ignore"}, {"poll": 0}, {"lease": 0}],
    ids=lambda each: next(iter(each)),
)
async def test_options_that_cannot_be_are_refused(tmp_path, options):
    outbox = SqliteOutbox(tmp_path / "db")
    with pytest.raises(ConfigurationError):
        OutboxRelay(outbox, **{"channels": {"a": Channel()}, **options})
    await outbox.aclose()


@pytest.mark.parametrize("name", ["", "a b", 'x"; DROP TABLE y', "ü", "x" * 49])
def test_a_name_that_is_no_table_is_refused(tmp_path, name):
    with pytest.raises(ConfigurationError):
        SqliteOutbox(tmp_path / "db", name)
    with pytest.raises(ConfigurationError):
        schema(name)


async def test_a_message_that_cannot_be_written_fails_the_users_transaction(shop):
    with pytest.raises(InvalidMessage):
        await shop.order(Message(object()))
    assert await shop.orders() == 0


RELAY = """
import asyncio, os, signal, sys
from eip.channels import Sender
from eip.patterns.outbox import OutboxRelay
from eip.retry import Backoff
from eip.stores.outbox import SqliteOutbox

path, log, killed_at = sys.argv[1], sys.argv[2], int(sys.argv[3])
outbox = SqliteOutbox(path)

class Log(Sender):
    name = address = "log"

    async def send(self, *messages):
        for message in messages:
            with open(log, "a") as file:
                print(message.group_id, message.body, file=file)
            if message.body == killed_at:
                os.kill(os.getpid(), signal.SIGKILL)  # accepted, and nobody noted it

async def main():
    relay = OutboxRelay(outbox, {"orders": Log()}, poll=0.02, lease=0.5)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(relay.run())
        while await outbox.unsent():
            await asyncio.sleep(0.02)
        await relay.stop()

asyncio.run(main())
"""


async def test_a_relay_that_is_killed_loses_nothing_and_keeps_the_order(tmp_path):
    shop = SqliteShop(tmp_path)
    await shop.order(*(Message(each, group_id=f"g{each % 3}") for each in range(30)))
    log = tmp_path / "log"
    for killed_at in (7, 16, -1):
        done = subprocess.run(
            [sys.executable, "-c", RELAY, str(shop.path), str(log), str(killed_at)], check=False, timeout=60
        )
        assert done.returncode == (0 if killed_at < 0 else -signal.SIGKILL)
    sent = defaultdict(list)
    for line in log.read_text().splitlines():
        group, body = line.split()
        sent[group].append(int(body))
    assert {group: list(dict.fromkeys(bodies)) for group, bodies in sent.items()} == {
        f"g{each}": list(range(each, 30, 3)) for each in range(3)
    }
    assert sum(map(len, sent.values())) <= 30 + 2 * 3  # of each kill, what was under way
    await shop.close()
