"""Idempotent receiver: handled once where nothing fails, never lost whatever does."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import pytest

from eip import Consumer, Message, clock
from eip.errors import ConfigurationError, InvalidMessage, Reject, Retry, StoreError
from eip.patterns._idempotency_lease import Claim, State
from eip.patterns.idempotent_receiver import idempotent
from eip.runtime.handlers import messages_of
from eip.stores import MemoryStore, SqliteStore
from eip.transports.memory import MemoryTransport
from tests.runtime.scripted import Outbox

DAY = 86_400


@pytest.fixture(params=["memory", "sqlite"])
async def store(request, tmp_path):
    store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "done.sqlite")
    yield store
    await store.aclose()


class Killable(MemoryStore):
    """A store as a process sees it: after `die_at` writes the process is gone, and writes nothing more."""

    def __init__(self, shared: MemoryStore) -> None:
        self.shared, self.calls, self.die_before = shared, 0, 10**9
        self.fail = False

    async def _gone(self) -> None:
        if self.calls >= self.die_before:
            await asyncio.sleep(1e9)
        if self.fail:
            raise StoreError("down")

    async def get(self, key):
        await self._gone()
        return await self.shared.get(key)

    async def put(self, key, value, **options):
        await self._gone()
        self.calls += 1
        return await self.shared.put(key, value, **options)

    async def put_part(self, key, part, value, **options):
        await self._gone()
        self.calls += 1
        return await self.shared.put_part(key, part, value, **options)

    async def parts(self, key):
        await self._gone()
        return await self.shared.parts(key)

    async def delete(self, key, **options):
        await self._gone()
        return await self.shared.delete(key, **options)


class Handler:
    """Counts its messages; `takes` seconds for each, and returns a message where `answers`."""

    def __init__(self, *, takes: float = 0.0, answers: bool = False) -> None:
        self.takes, self.answers, self.began, self.ended = takes, answers, 0, 0
        self.error: BaseException | None = None

    async def __call__(self, message: Message):
        self.began += 1
        await asyncio.sleep(self.takes)
        if self.error is not None:
            raise self.error
        self.ended += 1
        return message.derive({"answer": message.body}) if self.answers else None


async def test_a_duplicate_is_not_handled_and_gives_what_the_first_gave(store):
    handler = Handler(answers=True)
    receiver = idempotent(store)
    handle = receiver(handler)
    message = Message(1)
    (first,) = messages_of(await handle(message))
    (again,) = messages_of(await handle(message))
    assert (handler.began, receiver.duplicates) == (1, 1)
    assert again == first
    assert again.id == first.id
    await handle(Message(1))
    assert handler.began == 2


async def test_it_is_known_for_longer_than_a_queue_keeps_it(store):
    handler = Handler()
    handle = idempotent(store)(handler)
    message = Message(1)
    await handle(message)
    await asyncio.sleep(14.9 * DAY)
    await handle(message)
    assert handler.began == 1
    await asyncio.sleep(0.2 * DAY)
    await handle(message)
    assert handler.began == 2


async def test_keyed_by_a_function_and_set_apart_by_scope(store):
    orders, mails = Handler(), Handler()
    handle = idempotent(store, key=lambda message: message.body["order"], scope="orders")(orders)
    mail = idempotent(store, key=lambda message: message.body["order"], scope="mails")(mails)
    for order in ("a", "b", "a", "x" * 2000, "x" * 2000):
        await handle(Message({"order": order}))
        await mail(Message({"order": order}))
    assert (orders.began, mails.began) == (3, 3)
    with pytest.raises(Reject, match="no idempotency key"):
        await idempotent(store, key=lambda message: message.correlation_id)(orders)(Message(1))


async def test_a_concurrent_duplicate_is_deferred_until_the_lease_ends(store):
    handler = Handler(takes=5)
    receiver = idempotent(store, lease=30)
    handle = receiver(handler)
    message = Message(1)
    first = asyncio.ensure_future(handle(message))
    await asyncio.sleep(1)
    with pytest.raises(Retry) as deferred:
        await handle(message)
    assert deferred.value.delay == pytest.approx(29.25, abs=0.01)
    await first
    await handle(message)
    assert (handler.began, receiver.deferred, receiver.duplicates) == (1, 1, 1)


async def test_the_claim_is_renewed_while_the_handler_runs(store):
    handler = Handler(takes=3600)
    handle, other = idempotent(store, lease=10)(handler), idempotent(store, lease=10)(handler)
    message = Message(1)
    first = asyncio.ensure_future(handle(message))
    for _ in range(60):
        await asyncio.sleep(59)
        with pytest.raises(Retry):
            await other(message)
    await first
    assert handler.began == handler.ended == 1


@pytest.mark.parametrize("error", [ValueError("failed"), Reject("never"), Retry("later", delay=3), InvalidMessage("x")])
async def test_a_failure_gives_the_claim_back_at_once(store, error):
    handler = Handler()
    handle = idempotent(store)(handler)
    handler.error = error
    with pytest.raises(type(error)):
        await handle(Message(1, id="m"))
    handler.error = None
    await handle(Message(1, id="m"))
    assert (handler.began, handler.ended) == (2, 1)


async def test_a_cancelled_handler_gives_the_claim_back(store):
    handler = Handler(takes=100)
    handle = idempotent(store)(handler)
    task = asyncio.ensure_future(handle(Message(1, id="m")))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    handler.takes = 0
    await handle(Message(1, id="m"))
    assert handler.ended == 1


async def test_what_cannot_be_stored_is_not_done(store):
    async def unsendable(message: Message):
        return message.derive(object())

    with pytest.raises(InvalidMessage):
        await idempotent(store)(unsendable)(Message(1, id="m"))
    assert await store.get("m") is None


@pytest.mark.parametrize(
    ("die_before", "handled"),
    [(0, 1), (1, 2), (2, 2), (3, 1)],
    ids=["before the claim", "while handling", "between results and note", "done, not acknowledged"],
)
async def test_killed_in_each_state_the_message_is_handled_by_another(die_before, handled):
    """Writes: the claim, the result's part, the note; killed before the first, second, third, or after all."""
    shared = MemoryStore()
    dying, handler = Killable(shared), Handler(answers=True)
    dying.die_before = die_before
    message, begun = Message(1), clock.now()
    task = asyncio.ensure_future(idempotent(dying, lease=60)(handler)(message))
    await asyncio.sleep(1)
    dying.die_before = 0
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    handle = idempotent(shared, lease=60)(handler)
    try:
        made = await handle(message)
    except Retry as deferred:
        await asyncio.sleep(deferred.delay or 0)
        made = await handle(message)
    assert clock.now() - begun < 62
    assert len(messages_of(made)) == 1
    assert handler.ended == handled


async def test_a_process_that_stood_still_cannot_note_its_message_as_done(store):
    """It held the message, stood still beyond its lease, and another took over."""
    slow, quick = Handler(takes=100, answers=True), Handler(answers=True)
    receiver = idempotent(store, lease=10)
    stalled = receiver(slow)

    async def never(*_):
        await asyncio.sleep(1e9)

    receiver._renewer._renew = never
    first = asyncio.ensure_future(stalled(Message("m", id="m")))
    await asyncio.sleep(11)
    (made,) = messages_of(await idempotent(store, lease=10)(quick)(Message("m", id="m")))
    (late,) = messages_of(await first)
    assert receiver.taken_over == 1
    assert late.id == made.id  # what it made itself is not sent


async def test_a_process_that_stood_still_may_end_what_nobody_took_over(store):
    handler = Handler(takes=100)
    receiver = idempotent(store, lease=10)

    async def never(*_):
        await asyncio.sleep(1e9)

    receiver._renewer._renew = never
    await receiver(handler)(Message("m", id="m"))
    await receiver(handler)(Message("m", id="m"))
    assert (handler.began, receiver.taken_over) == (1, 0)


async def test_a_handler_whose_claim_was_taken_over_is_stopped(store):
    slow, begun = Handler(takes=100), clock.now()
    receiver = idempotent(store, lease=10)
    task = asyncio.ensure_future(receiver(slow)(Message(1, id="m")))
    await asyncio.sleep(1)
    assert await store.delete("m")
    quick = Handler(takes=50)
    other = asyncio.ensure_future(idempotent(store, lease=10)(quick)(Message(1, id="m")))
    with pytest.raises(Retry, match="another"):
        await task
    assert clock.now() - begun < 5  # at the next renewal, not at its end
    await other
    assert (slow.ended, quick.ended) == (0, 1)


async def test_a_handler_that_goes_on_is_stopped_again_and_its_task_is_left_as_it_was(store):
    cancelled = 0

    async def stubborn(message: Message):
        nonlocal cancelled
        while cancelled < 3:
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                cancelled += 1

    receiver = idempotent(store, lease=9)

    async def call() -> int:
        with pytest.raises(Retry):
            await receiver(stubborn)(Message(1, id="m"))
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    task = asyncio.create_task(call())
    await asyncio.sleep(1)
    await store.put("m", State(owner="another", until=clock.now() + 1000).model_dump_json().encode())
    assert await task == 0
    assert (cancelled, receiver.taken_over) == (3, 1)


async def test_who_cancels_the_task_of_a_handler_that_lost_its_claim_is_not_ignored(store):
    receiver = idempotent(store, lease=9)

    async def slow_to_end(message: Message):
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(5)

    task = asyncio.ensure_future(receiver(slow_to_end)(Message(1, id="m")))
    await asyncio.sleep(1)
    await store.put("m", State(owner="another", until=clock.now() + 1000).model_dump_json().encode())
    await asyncio.sleep(3)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_a_thousand_handlers_share_one_timer_and_need_no_tasks_of_their_own(store, monkeypatch):
    """Operations are counted, not timed: a task or a timer for each message would triple the receiver's cost."""
    loop, handle = asyncio.get_running_loop(), idempotent(store, lease=30)(Handler(takes=5))
    timers, set_timer = [], loop.call_at

    def noted(when, callback, *arguments, **options):
        timers.append(callback.__qualname__)
        return set_timer(when, callback, *arguments, **options)

    monkeypatch.setattr(loop, "call_at", noted)
    calls = [asyncio.ensure_future(handle(Message(number))) for number in range(1000)]
    await asyncio.sleep(1)
    assert len(asyncio.all_tasks()) == 1001
    await asyncio.gather(*calls)
    assert len([each for each in timers if "set_result" not in each]) == 1  # asyncio.sleep sets results


async def test_while_the_store_fails_nothing_is_handled():
    store, handler = Killable(MemoryStore()), Handler()
    store.fail = True
    with pytest.raises(StoreError):
        await idempotent(store)(handler)(Message(1))
    assert handler.began == 0


async def test_a_store_that_fails_for_a_while_stops_no_handler():
    store, handler = Killable(MemoryStore()), Handler(takes=60)
    receiver = idempotent(store, lease=30)
    task = asyncio.ensure_future(receiver(handler)(Message(1, id="m")))
    await asyncio.sleep(5)
    store.fail = True
    await asyncio.sleep(20)
    store.fail = False
    await task
    assert handler.ended == 1


async def test_a_store_that_fails_beyond_the_lease_stops_the_handler():
    store, handler = Killable(MemoryStore()), Handler(takes=600)
    task = asyncio.ensure_future(idempotent(store, lease=30)(handler)(Message(1, id="m")))
    await asyncio.sleep(5)
    store.fail = True
    begun = clock.now()
    with pytest.raises(StoreError):
        await task
    assert clock.now() - begun < 30
    store.fail, handler.takes = False, 0
    await idempotent(store, lease=30)(handler)(Message(1, id="m"))
    assert handler.ended == 1


async def test_a_write_whose_answer_was_lost_is_recognised():
    """The renewal and the note of success both happen, and say that they failed."""

    class Mute(MemoryStore):
        mute = 0

        async def put(self, key, value, **options):
            version = await super().put(key, value, **options)
            if self.mute and version is not None:
                self.mute -= 1
                raise StoreError("no answer")
            return version

    store, handler = Mute(), Handler(takes=15)
    receiver = idempotent(store, lease=30)
    task = asyncio.ensure_future(receiver(handler)(Message(1, id="m")))
    await asyncio.sleep(5)
    store.mute = 1
    await asyncio.sleep(9)
    assert store.mute == 0
    store.mute = 1
    await task
    assert store.mute == 0
    await receiver(handler)(Message(1, id="m"))
    assert (handler.began, receiver.taken_over) == (1, 0)


async def test_in_a_consumer_duplicates_are_acknowledged_and_deferred_ones_wait(store):
    handler, out = Handler(takes=5, answers=True), Outbox()
    receiver = idempotent(store, lease=20)
    async with MemoryTransport() as transport:
        queue = transport.queue("in")
        consumer = Consumer(queue, receiver(handler), output=out)
        task = asyncio.create_task(consumer.run())
        await queue.send(*(Message(number % 3, id=f"m{number % 3}") for number in range(9)))
        await asyncio.sleep(60)
        assert len(queue) == 0
        await consumer.stop()
        await task
    assert handler.began == handler.ended == 3
    assert receiver.deferred >= 6
    assert len({each.id for each in out.sent}) == 3


def test_options_that_cannot_be():
    with pytest.raises(ConfigurationError, match="longer than the lease"):
        idempotent(MemoryStore(), lease=60, window=30)
    with pytest.raises(ConfigurationError, match="more than 0"):
        idempotent(MemoryStore(), lease=0)


async def test_results_that_cannot_be_read_are_a_store_error_in_bounded_time():
    """A record that counts a hundred billion results took all memory."""
    store = MemoryStore()

    async def handle(_: Message) -> Message:
        return Message("result")

    once, message = idempotent(store)(handle), Message("x")
    await once(message)
    (part,) = await store.parts(message.id)
    await store.put_part(message.id, part, b"\xff")
    with pytest.raises(StoreError, match="cannot be read"):
        await once(message)
    await store.put(message.id, b'{"owner": "a", "until": 1, "results": 100000000000}')
    with pytest.raises(StoreError, match="lost"):
        await once(message)


WORKER = """
import asyncio, os, sys
from eip import Message
from eip.errors import Retry
from eip.runtime.handlers import messages_of
from eip.patterns.idempotent_receiver import idempotent
from eip.stores import SqliteStore

async def main(path, log, lease, hang):
    store = SqliteStore(path)
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def handle(message: Message) -> None:
        os.write(file, f"{message.id}\\n".encode())
        if hang:
            await asyncio.sleep(1000)

    receive = idempotent(store, lease=lease)(handle)

    async def until_done(number):
        while True:
            try:
                return await receive(Message(number, id=f"m{number}"))
            except Retry as deferred:
                await asyncio.sleep(min(deferred.delay or 0.0, 0.3))

    await asyncio.gather(*(until_done(number) for number in range(50)))
    await store.aclose()

asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4] == "hang"))
"""


def _worker(tmp_path, log: str, lease: float, *, hang: bool = False) -> subprocess.Popen[bytes]:
    arguments = [str(tmp_path / "done.sqlite"), str(tmp_path / log), str(lease), "hang" if hang else ""]
    return subprocess.Popen([sys.executable, "-c", WORKER, *arguments])


def _handled(path) -> list[str]:
    return sorted(path.read_text().split(), key=lambda name: int(name[1:])) if path.exists() else []


ALL = [f"m{number}" for number in range(50)]


def test_racing_processes_handle_each_message_once(tmp_path):
    workers = [_worker(tmp_path, "log", 60) for _ in range(3)]
    assert [each.wait() for each in workers] == [0, 0, 0]
    assert _handled(tmp_path / "log") == ALL


def test_what_a_killed_process_had_is_handled_by_another(tmp_path):
    first = _worker(tmp_path, "first", 2, hang=True)
    while len(_handled(tmp_path / "first")) < 50:
        assert first.poll() is None
        time.sleep(0.05)
    first.kill()
    first.wait()
    assert _worker(tmp_path, "second", 2).wait() == 0
    assert _handled(tmp_path / "second") == ALL


async def test_waiting_for_a_killed_handlers_claim_uses_up_no_receive():
    """Fault 37: with ``max_receive_count=2`` the message was dead-lettered without ever being handled to the end."""
    store, handled = MemoryStore(), []

    async def handle(message: Message) -> None:
        handled.append(message.id)

    async with MemoryTransport() as transport:
        dead = transport.queue("dead")
        queue = transport.queue("work", max_receive_count=2, dead_letters=dead, visibility=5)
        await queue.send(Message(1, id="m"))
        async with queue.receiver() as receiver:  # the first attempt, which is killed
            (delivery,) = await receiver.receive(1)
            assert await Claim(store, delivery.message.id, 60.0).take() is None
            await asyncio.sleep(6)
            consumer = Consumer(queue, idempotent(store)(handle))
            running = asyncio.create_task(consumer.run())
            await asyncio.sleep(100)
            await consumer.stop()
            await running
    assert handled == ["m"]
    assert consumer.stats.dead_lettered == 0
