"""The message scheduler: at its time, once while nobody dies, never not at all."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from eip import Message, clock, running
from eip.errors import ConfigurationError, ConnectionLost, InvalidMessage, StoreError
from eip.patterns import MessageScheduler, ScheduledMessage
from eip.stores import MemoryStore, SqliteStore
from eip.transports.memory import MemoryTransport
from tests.runtime.scripted import Outbox

YEAR = 365 * 24 * 3600.0


class Timed(Outbox):
    """Notes when each message was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.at: list[float] = []

    async def send(self, *messages: Message[Any]) -> None:
        await super().send(*messages)
        self.at.append(clock.now())


def bodies(channel: Outbox) -> list[Any]:
    return [each.body for each in channel.sent]


async def held(scheduler: MessageScheduler, key: str) -> ScheduledMessage:
    found = await scheduler.get(key)
    assert found is not None
    return found


class Calendar:
    """A clock on the wall that runs with the loop, and can be set."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.offset = clock.now() - loop.time()
        self.now = lambda: self.offset + loop.time()


@pytest.mark.parametrize("processes", [1, 3])
async def test_a_message_is_sent_once_a_year_ahead(processes, tmp_path):
    store, out, calendar = SqliteStore(tmp_path / "s.sqlite"), Timed(), Calendar()
    schedulers = [MessageScheduler(store, {"out": out}) for _ in range(processes)]
    with clock.use_clock(calendar.now):
        began = clock.now()
        async with running(*schedulers):
            message = Message({"invoice": 7}, group_id="customer 1", attributes={"n": 1}, headers={"h": "x"})
            await schedulers[0].send(message, to="out", delay=timedelta(days=365))
            for _ in range(365):  # a day passes, and the services look at their clocks some times
                await asyncio.sleep(10)
                assert out.sent == []
                calendar.offset += 24 * 3600 - 10.1
            await asyncio.sleep(100)
    assert out.sent == [message]
    assert 0 <= out.at[0] - began - YEAR < 5
    await store.aclose()


async def test_what_was_due_while_nobody_ran_is_sent_in_the_order_of_a_group_s_times():
    store, out = MemoryStore(), Outbox()
    scheduler = MessageScheduler(store, {"out": out}, concurrency=50)
    for number in reversed(range(200)):
        group = ("odd", "even")[number % 2]
        await scheduler.send(Message(number, group_id=group), to="out", at=clock.now() + number)
    await asyncio.sleep(1000)
    async with running(scheduler):
        await asyncio.sleep(60)
    assert sorted(bodies(out)) == list(range(200))
    for group in ("odd", "even"):
        assert [each.body for each in out.sent if each.group_id == group] == sorted(
            each.body for each in out.sent if each.group_id == group
        )


async def test_it_can_be_cancelled_moved_and_looked_at():
    out = Outbox()
    scheduler = MessageScheduler(MemoryStore(), {"out": out})
    async with running(scheduler):
        keys = {body: await scheduler.send(Message(body), to="out", delay=60) for body in ("stays", "goes", "moves")}
        assert await scheduler.cancel(keys["goes"])
        assert not await scheduler.cancel(keys["goes"])
        assert await scheduler.move(keys["moves"], delay=600)
        assert not await scheduler.move("unknown", delay=600)
        assert [each.message.body for each in await scheduler.pending()] == ["stays", "moves"]
        found = await held(scheduler, keys["moves"])
        assert (found.to, found.failures, found.refused) == ("out", 0, None)
        await asyncio.sleep(100)
        assert bodies(out) == ["stays"]
        assert not await scheduler.cancel(keys["stays"])
        await asyncio.sleep(600)
        assert bodies(out) == ["stays", "moves"]
        assert await scheduler.pending() == []


async def test_a_message_repeats_with_ids_of_its_own_and_catches_up_once():
    out = Timed()
    scheduler = MessageScheduler(MemoryStore(), {"out": out})
    message = Message("tick", deduplication_id="d", expires_at=clock.now() + 30)
    began = clock.now()
    async with running(scheduler):
        await scheduler.send(message, to="out", interval=60, key="ticks")
        await asyncio.sleep(200)
    await asyncio.sleep(600)  # nobody runs
    async with running(MessageScheduler(scheduler._store, {"out": out})):
        await asyncio.sleep(100)
    times = [round(each - began) for each in out.at]
    assert times == [60, 120, 180, 800, 840]
    assert len({each.id for each in out.sent}) == len({each.deduplication_id for each in out.sent}) == 5
    assert [round((each.expires_at or 0.0) - each.created_at) for each in out.sent] == [30] * 5
    assert await scheduler.cancel("ticks")


async def test_each_process_may_declare_a_job_at_its_start():
    out, store = Timed(), MemoryStore()
    first, second = (MessageScheduler(store, {"out": out}) for _ in range(2))
    began = clock.now()
    async with running(first, second):
        await first.send(Message("old"), to="out", interval=100, key="job")
        await asyncio.sleep(50)
        await second.send(Message("new"), to="out", interval=100, key="job")
        await asyncio.sleep(60)
        assert (bodies(out), round(out.at[0] - began)) == (["new"], 100)
        await second.send(Message("faster"), to="out", interval=10, key="job")
        await asyncio.sleep(25)
    assert bodies(out) == ["new", "faster", "faster"]


@pytest.mark.parametrize(
    ("cron", "start", "expected"),
    [
        ("0 9 * * mon-fri", "2026-11-27T09:00", ["2026-11-30T09:00", "2026-12-01T09:00"]),
        ("30 2 * * *", "2026-03-28T12:00", ["2026-03-29T03:00", "2026-03-30T02:30"]),  # 02:30 is left out that day
        ("30 2 * * *", "2026-10-24T12:00", ["2026-10-25T02:30", "2026-10-26T02:30"]),  # 02:30 comes twice that day
        ("0 3 29 2 *", "2026-11-27T09:00", ["2028-02-29T03:00"]),
    ],
)
async def test_cron_follows_the_clock_on_the_wall(cron, start, expected):
    zone, out, calendar = ZoneInfo("Europe/Berlin"), Outbox(), Calendar()
    scheduler = MessageScheduler(MemoryStore(), {"out": out})
    calendar.offset += datetime.fromisoformat(start).replace(tzinfo=zone).timestamp() - clock.now()
    with clock.use_clock(calendar.now):
        async with running(scheduler):
            key = await scheduler.send(Message("x"), to="out", cron=cron, timezone="Europe/Berlin")
            seen = []
            for _ in expected:
                due = (await held(scheduler, key)).due
                seen.append(datetime.fromtimestamp(due, zone).strftime("%Y-%m-%dT%H:%M"))
                calendar.offset += due - clock.now()
                await asyncio.sleep(10)
    assert seen == expected
    assert len(out.sent) == len(expected)


async def test_a_clock_that_is_set_forward_or_back_is_followed_within_seconds():
    out, calendar = Outbox(), Calendar()
    scheduler = MessageScheduler(MemoryStore(), {"out": out})
    with clock.use_clock(calendar.now):
        async with running(scheduler):
            await scheduler.send(Message("forward"), to="out", delay=3600)
            await scheduler.send(Message("back"), to="out", delay=7200)
            calendar.offset += 3600
            await asyncio.sleep(10)
            assert bodies(out) == ["forward"]
            calendar.offset -= 3600
            await asyncio.sleep(3700)
            assert bodies(out) == ["forward"]
            await asyncio.sleep(3600)
            assert bodies(out) == ["forward", "back"]


async def test_a_failing_channel_is_tried_again_and_keeps_nobody_waiting():
    good, bad = Outbox(), Timed()
    bad.refuse.extend(ConnectionLost("away") for _ in range(4))
    scheduler = MessageScheduler(MemoryStore(), {"good": good, "bad": bad}, concurrency=1)
    async with running(scheduler):
        await scheduler.send(Message("bad", group_id="g"), to="bad", delay=1)
        await scheduler.send(Message("good", group_id="g"), to="good", delay=2)
        await asyncio.sleep(3)
        assert bodies(good) == ["good"]
        (waiting,) = await scheduler.pending()
        assert waiting.failures >= 1
        await asyncio.sleep(60)
    assert bodies(bad) == ["bad"]


async def test_a_message_that_no_attempt_will_carry_is_dead_lettered():
    out, dead = Outbox(), Outbox()
    scheduler = MessageScheduler(MemoryStore(), {"out": out}, dead_letters=dead)
    out.refuse.append(InvalidMessage("too large"))
    dead.refuse.append(ConnectionLost("away"))
    async with running(scheduler):
        await scheduler.send(Message("odd"), to="out", delay=1)
        await asyncio.sleep(1)
        out.refuse.append(InvalidMessage("too large"))
        await scheduler.send(Message("next"), to="out", delay=1)
        await asyncio.sleep(100)
    assert sorted(bodies(out) + bodies(dead)) == ["next", "odd"]
    assert await scheduler.pending() == []


async def test_a_refused_message_without_dead_letters_is_kept_and_can_be_tried_again():
    out, store = Outbox(), MemoryStore()
    scheduler = MessageScheduler(store, {"out": out})
    async with running(scheduler):
        out.refuse.append(InvalidMessage("too large"))
        key = await scheduler.send(Message("odd"), to="out", delay=1)
        await asyncio.sleep(1000)
        assert "too large" in ((await held(scheduler, key)).refused or "")
        assert scheduler.refused == 1
        assert await scheduler.move(key, delay=0)
        await asyncio.sleep(1)
        assert bodies(out) == ["odd"]
        out.refuse.append(InvalidMessage("too large"))
        key = await scheduler.send(Message("odd"), to="out", delay=1)
        await asyncio.sleep(5)
    await asyncio.sleep(15 * 24 * 3600)
    assert await scheduler.get(key) is None


class Killed(BaseException):
    """The process ends here."""


class Dying(MemoryStore):
    """Ends its process before or after the n-th call."""

    def __init__(self, inner: MemoryStore, at: float) -> None:
        self.inner, self.left = inner, at

    def __getattribute__(self, name: str) -> Any:
        if name not in ("get", "put", "delete", "due"):
            return object.__getattribute__(self, name)

        async def call(*args: Any, **options: Any) -> Any:
            self.tick()
            result = await getattr(self.inner, name)(*args, **options)
            self.tick()
            return result

        return call

    async def next_due(self) -> float | None:
        return await self.inner.next_due()

    def tick(self) -> None:
        self.left -= 0.5
        if self.left <= 0:
            raise Killed


@pytest.mark.parametrize("at", [step / 2 for step in range(1, 16)])
@pytest.mark.parametrize("repeats", [False, True])
async def test_a_scheduler_killed_anywhere_leaves_the_message_to_another(at, repeats):
    """At most the sending in hand is repeated, with the same id."""
    inner, out = MemoryStore(), Outbox()
    schedule: dict[str, Any] = {"interval": 100.0} if repeats else {"delay": 100.0}
    await MessageScheduler(inner, {"out": out}).send(Message("x"), to="out", **schedule, key="k")
    await asyncio.sleep(99)
    dying = MessageScheduler(Dying(inner, at), {"out": out})
    task = asyncio.create_task(dying.run())
    await asyncio.sleep(20)
    task.cancel()
    await asyncio.wait((task,))
    if not task.cancelled():
        task.exception()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running(MessageScheduler(inner, {"out": out})))
        await asyncio.sleep(75)
    ids = [each.id for each in out.sent]
    assert 1 <= len(ids) <= 2
    assert len(set(ids)) == 1
    assert (await MessageScheduler(inner, {"out": out}).get("k") is not None) is repeats


async def test_a_store_that_is_away_is_waited_for():
    out, store = Outbox(), MemoryStore()
    scheduler = MessageScheduler(store, {"out": out})
    await scheduler.send(Message("x"), to="out", delay=10)
    async with running(scheduler):
        due, store.due = store.due, _away
        await asyncio.sleep(100)
        assert not scheduler.health().ok
        store.due = due
        await asyncio.sleep(100)
        assert scheduler.health().ok
    assert bodies(out) == ["x"]


async def _away(*_: Any, **__: Any) -> Any:
    raise StoreError("the database is away")


async def test_another_program_s_record_and_an_unknown_channel_stop_nobody():
    out, store = Outbox(), MemoryStore()
    await store.put("odd", b"\xff", due=clock.now())
    await MessageScheduler(store, {"gone": out}).send(Message("gone"), to="gone", delay=0)
    scheduler = MessageScheduler(store, {"out": out}, concurrency=1)
    async with running(scheduler):
        await scheduler.send(Message("x"), to="out", delay=1)
        assert [each.message.body for each in await scheduler.pending()] == ["gone", "x"]
        await asyncio.sleep(30)
    assert bodies(out) == ["x"]


@pytest.mark.parametrize(
    ("times", "reason"),
    [
        ({}, "exactly one of at, delay, interval, cron, got none"),
        ({"at": 1.0, "delay": 2.0}, "exactly one of .*, got at, delay"),
        ({"at": datetime(2026, 1, 1)}, "at must have a time zone"),  # noqa: DTZ001 - what is refused
        ({"at": 1e300}, "at must be between 1970 and the year 9999"),
        ({"at": float("nan")}, "at must be between"),
        ({"delay": -1.0}, "delay must be >= 0"),
        ({"delay": float("inf")}, "delay must be between"),
        ({"interval": 0.5}, "interval must be at least 1 s"),
        ({"interval": float("inf")}, "interval must be at least 1 s"),
        ({"cron": "at noon"}, "cron must be a cron expression, .* got 'at noon'"),
        ({"cron": ""}, "cron must be a cron expression"),
        ({"cron": "0 0 30 2 *"}, "cron must"),
        ({"cron": "0 9 * * *", "timezone": "Mars/Phobos"}, "timezone must be one of the tz database.*Mars"),
        ({"cron": "0 9 * * *", "timezone": "../../etc/passwd"}, "timezone must be one"),
        ({"delay": 1.0, "to": "nowhere"}, "to must name one of the channels 'out', got 'nowhere'"),
    ],
)
async def test_times_that_cannot_be_are_refused_at_once(times, reason):
    scheduler = MessageScheduler(MemoryStore(), {"out": Outbox()})
    with pytest.raises(ConfigurationError, match=reason):
        await scheduler.send(Message("x"), **{"to": "out", **times})


async def test_wrong_types_are_named():
    scheduler = MessageScheduler(MemoryStore(), {"out": Outbox()})
    for wrong, name in (({"at": "noon"}, "at"), ({"cron": 5}, "cron"), ({"delay": 1.0, "key": 7}, "key")):
        with pytest.raises(TypeError, match=name):
            await scheduler.send(Message("x"), to="out", **wrong)
    with pytest.raises(TypeError, match="messages must be Message"):
        await scheduler.send("x", to="out", delay=1.0)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="channels"):
        MessageScheduler(MemoryStore(), {})
    with pytest.raises(InvalidMessage, match="expire"):
        await scheduler.send(Message("x", expires_at=clock.now() + 5), to="out", delay=10)
    at = datetime.now(UTC)
    assert await scheduler.send(Message("past"), to="out", at=at - timedelta(days=1))


async def test_on_a_fifo_queue_a_sending_that_is_repeated_arrives_once():
    """The scheduler dies after the channel accepted; its peer sends with the same deduplication id."""
    async with MemoryTransport() as transport:
        queue = transport.queue("q.fifo", fifo=True)
        inner = MemoryStore()
        await MessageScheduler(inner, {"q": queue}).send(Message("x", group_id="g"), to="q", delay=1)
        await asyncio.sleep(1)
        task = asyncio.create_task(MessageScheduler(Dying(inner, 3.5), {"q": queue}).run())
        await asyncio.wait((task,), timeout=10)
        task.cancel()
        await asyncio.wait((task,))
        async with running(MessageScheduler(inner, {"q": queue})):
            await asyncio.sleep(90)
        receiver = queue.receiver()
        assert [each.message.body for each in await receiver.receive(10, wait=1)] == ["x"]
        await receiver.aclose()


async def test_a_message_that_replaces_one_being_sent_is_sent_too():
    """Though it is for the same time: noting that the first was sent must not take the second with it."""
    at = clock.now() + 60

    class Replaced(Outbox):
        async def send(self, *messages: Message[Any]) -> None:
            await super().send(*messages)
            if len(self.sent) == 1:
                await scheduler.send(Message("second"), to="out", at=at, key="k")

    out = Replaced()
    scheduler = MessageScheduler(MemoryStore(), {"out": out})
    await scheduler.send(Message("first"), to="out", at=at, key="k")
    async with running(scheduler):
        await asyncio.sleep(300)
    assert bodies(out) == ["first", "second"]
    assert await scheduler.get("k") is None


async def test_a_job_that_is_declared_again_while_it_is_sent_is_sent_once():
    class Declared(Outbox):
        async def send(self, *messages: Message[Any]) -> None:
            await super().send(*messages)
            await scheduler.send(Message("job"), to="out", interval=60, key="k")

    out = Declared()
    scheduler = MessageScheduler(MemoryStore(), {"out": out})
    await scheduler.send(Message("job"), to="out", interval=60, key="k")
    async with running(scheduler):
        await asyncio.sleep(60 * 3 + 30)
    assert bodies(out) == ["job"] * 3


# Natively.


async def test_a_queue_delays_a_message_by_itself_where_asked():
    async with MemoryTransport() as memory:
        queue, store = memory.queue("q"), MemoryStore()
        scheduler = MessageScheduler(store, {"q": queue})  # which nobody runs
        key = await scheduler.send(Message("later"), to="q", delay=60, native=True)
        assert not await scheduler.cancel(key), "it is the queue's"
        assert await scheduler.pending() == []
        async with queue.receiver() as receiver:
            assert not await receiver.receive(1, wait=59)
            (found,) = await receiver.receive(1, wait=2)
            assert found.message.body == "later"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"to": "t", "delay": 1}, "native without schedules"),
        ({"to": "q", "interval": 60}, "native without schedules"),
        ({"to": "q", "delay": 1, "key": "k"}, "native without schedules"),
    ],
)
async def test_what_no_channel_delays_by_itself_is_refused(options, complaint):
    async with MemoryTransport() as memory:
        scheduler = MessageScheduler(MemoryStore(), {"q": memory.queue("q"), "t": memory.topic("t")})
        with pytest.raises(ConfigurationError, match=complaint):
            await scheduler.send(Message(1), native=True, **options)


class Kept:
    """Schedules of a service, which can fail."""

    def __init__(self) -> None:
        self.held: dict[str, tuple[Any, float]] = {}
        self.fails = False

    async def put(self, key: str, message: Message[Any], to: Any, *, first: float, **_: Any) -> None:
        if self.fails:
            raise ConnectionLost("away")
        self.held[key] = message.body, first

    async def remove(self, key: str) -> bool:
        return self.held.pop(key, None) is not None


async def test_what_a_service_keeps_is_known_moved_and_cancelled():
    kept, out, calendar = Kept(), Timed(), Calendar()
    with clock.use_clock(calendar.now):
        scheduler = MessageScheduler(MemoryStore(), {"out": out}, schedules=kept)
        began = clock.now()
        async with running(scheduler):
            await scheduler.send(Message(1), to="out", delay=60, key="a", native=True)
            assert (await held(scheduler, "a")).native
            assert await scheduler.move("a", delay=30)
            assert kept.held["a"][1] == pytest.approx(began + 30)
            await asyncio.sleep(31)
            assert not await scheduler.move("a", delay=60), "the service has sent it"
            assert not await scheduler.cancel("a")
            await asyncio.sleep(25 * 3600)
            assert await scheduler.get("a") is None, "and it is forgotten"
            kept.fails = True
            with pytest.raises(ConnectionLost):
                await scheduler.send(Message(2), to="out", delay=60, key="b", native=True)
            assert await scheduler.get("b") is None
    assert out.sent == [], "the scheduler itself sends none of it"


async def test_a_native_message_needs_the_schedules_that_keep_it():
    store = MemoryStore()
    keeper = MessageScheduler(store, {"out": Timed()}, schedules=Kept())
    await keeper.send(Message(1), to="out", delay=60, key="a", native=True)
    with pytest.raises(ConfigurationError, match="give the scheduler its schedules"):
        await MessageScheduler(store, {"out": Timed()}).cancel("a")
