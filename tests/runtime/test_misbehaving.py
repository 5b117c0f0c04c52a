"""Handlers that misbehave: each costs its own message, and nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextvars import ContextVar
from datetime import timedelta
from itertools import count
from typing import Any

import anyio
import pytest

from eip import Backoff, Consumer, Message
from eip.errors import Reject, Retry
from eip.packs import entry_of, pack
from eip.patterns.idempotent_receiver import idempotent
from eip.stores import MemoryStore
from eip.transports.memory import MemoryTransport

from .scripted import Outbox, Scripted, running, until

NOW = Backoff(base=0)


def messages(count: int, **envelope: Any) -> list[Message[Any]]:
    return [Message(number, id=f"m{number}", **envelope) for number in range(count)]


def packed(several: list[Message[Any]]) -> Message[Any]:
    return pack([entry_of(each) for each in several], like=several[0])


@pytest.mark.parametrize("awaits", [True, False])
async def test_a_handler_that_cancels_its_task_costs_no_slot(awaits):
    """Fault 41a: after as many as `concurrency` the consumer stood still."""
    source = Scripted(*messages(5))

    async def handle(message: Message) -> None:
        if message.body < 3 and len(source.nacked) < 3:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            if awaits:
                await asyncio.sleep(1)

    async with running(Consumer(source, handle, concurrency=1, retry=NOW)) as consumer:
        await until(lambda: len(source.acked_ids) == 5, within=60)
        assert consumer.stats.retried == (3 if awaits else 0)
        assert consumer.stats.in_flight == 0


async def test_a_task_that_is_cancelled_later_costs_no_slot():
    """Fault 41a, a neighbour: the handler kept its task, and it is cancelled while the worker is idle or settles."""
    source = Scripted(*messages(3), settle_batch=1)
    kept: list[asyncio.Task[Any]] = []

    async def slow_ack(deliveries):
        await asyncio.sleep(1)
        source.acked.append([each.message.id for each in deliveries])
        return ()

    source._ack = slow_ack

    async def handle(_: Message) -> None:
        task = asyncio.current_task()
        assert task is not None
        kept.append(task)

    async with running(Consumer(source, handle, concurrency=1)) as consumer:
        await asyncio.sleep(0.5)
        kept[0].cancel()  # in the middle of its ack
        await until(lambda: len(source.acked_ids) == 2)
        await asyncio.sleep(5)
        kept[-1].cancel()  # idle
        source.put(Message(9, id="next"))
        await until(lambda: "next" in source.acked_ids)
        assert consumer.stats.in_flight == 0


async def ticks() -> AsyncIterator[int]:
    """Has a timeout open while whoever asks for the next one is at work."""
    with anyio.move_on_after(0.1):
        for tick in count():
            yield tick


@pytest.mark.parametrize("form", ["alone", "packed", "packed in order"])
async def test_a_timeout_that_a_handler_never_leaves_costs_no_other_message(form):
    """Fault 41a, a neighbour: it cancelled each later handler of the slot, for ever, and the settling as well."""
    group = "g" if form == "packed in order" else None
    several = messages(5, group_id=group)
    source = Scripted(*several) if form == "alone" else Scripted(packed(several))
    dead, done, left = Outbox("dead"), list[int](), list[Any]()

    async def handle(message: Message) -> None:
        if message.body == 1:
            left.append(ticks())
            await anext(left[-1])
        await asyncio.sleep(0.2)
        done.append(message.body)

    retry = Backoff(base=0, max_attempts=1)
    async with running(Consumer(source, handle, concurrency=1, dead_letters=dead, retry=retry)) as consumer:
        await until(lambda: len(source.acked_ids) == (5 if form == "alone" else 1), within=30)
        assert consumer.stats.in_flight == 0
    assert done == [0, 2, 3, 4]
    assert [each.id for each in dead.sent] == ["m1"]


@pytest.mark.parametrize("form", ["alone", "packed", "packed in order"])
async def test_what_a_handler_sets_in_its_context_is_not_there_for_the_next_message(form):
    """A context variable may name a tenant."""
    tenant, seen = ContextVar[str]("tenant"), list[str]()
    several = messages(4, group_id="g" if form == "packed in order" else None)
    source = Scripted(*several) if form == "alone" else Scripted(packed(several))

    async def handle(message: Message) -> None:
        seen.append(tenant.get("nobody"))
        tenant.set(f"t{message.body}")

    async with running(Consumer(source, handle, concurrency=2)):
        await until(lambda: len(source.acked_ids) == (4 if form == "alone" else 1))
    assert seen == ["nobody"] * 4


class Odd(BaseException):
    pass


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize("error", [GeneratorExit(), Odd("odd"), BaseExceptionGroup("several", [Odd()]), Unprintable()])
@pytest.mark.parametrize("in_pack", [False, True])
async def test_whatever_a_handler_raises_fails_its_message_only(error, in_pack):
    """Fault 41b: one message ended every consumer of the process."""
    dead = Outbox("dead")
    source = Scripted(packed(messages(3))) if in_pack else Scripted(*messages(3))
    done = []

    async def handle(message: Message) -> None:
        if message.body == 1:
            raise error
        done.append(message.body)

    retry = Backoff(base=0, max_attempts=1)
    async with running(Consumer(source, handle, dead_letters=dead, retry=retry)) as consumer:
        await until(lambda: dead.sent and source.acked)
        assert consumer.stats.dead_lettered == 1
    assert done == [0, 2]
    assert type(error).__name__ in dead.sent[0].headers["dead-letter-reason"]


async def test_in_a_pack_a_message_whose_handler_cancels_itself_is_not_lost():
    """Fault 41a: the task group took it for the end of the task, and the pack was acknowledged."""
    source, dead = Scripted(packed(messages(3))), Outbox("dead")

    async def handle(message: Message) -> None:
        if message.body == 1:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(1)

    async with running(Consumer(source, handle, dead_letters=dead, retry=Backoff(base=0, max_attempts=1))):
        await until(lambda: source.acked)
    assert [each.id for each in dead.sent] == ["m1"]


@pytest.mark.parametrize("group", [None, "g"])
async def test_what_a_handler_changed_before_it_failed_is_not_what_came(group):
    """Fault 12: the next attempt in this process, and the dead letter, had the changes of the one before."""
    raw = b'{"n": 1.10, "items": []}'
    source, dead = Scripted(Message.received(raw, group_id=group)), Outbox("dead")
    seen: list[Any] = []

    async def handle(message: Message) -> None:
        seen.append(list(message.body["items"]))
        message.body["items"].append("gift")
        raise ValueError

    async with running(Consumer(source, handle, dead_letters=dead, retry=Backoff(base=0, max_attempts=3))):
        await until(lambda: source.acked)
    assert seen == [[]] * 3
    assert [each.encode() for each in dead.sent] == [raw]


@pytest.mark.parametrize("group", [None, "g"])
async def test_what_a_handler_changed_in_a_pack_is_not_what_came(group):
    """Fault 12, in a pack: sent again on its own, or dead-lettered, it is the entry as it was."""
    several = [Message({"n": number, "items": []}, id=f"m{number}", group_id=group) for number in range(3)]
    source, dead = Scripted(packed(several)), Outbox("dead")
    seen: list[Any] = []

    async def handle(message: Message) -> None:
        seen.append(list(message.body["items"]))
        message.body["items"].append("gift")
        if message.body["n"] < 2:
            raise Reject

    async with running(Consumer(source, handle, dead_letters=dead, retry=NOW)):
        await until(lambda: source.acked)
    assert seen == [[]] * 3
    assert [(each.id, each.body) for each in dead.sent] == [
        ("m0", {"n": 0, "items": []}),
        ("m1", {"n": 1, "items": []}),
    ]


async def test_two_packs_of_one_id_are_two_packs():
    """Ids are a stranger's: one pack took over how far the other had come, and what it held up to there was lost."""
    groups = {
        group: packed([Message(f"{group}{number}", group_id=group) for number in range(4)]).replace(id="same")
        for group in "ab"
    }
    source, done = Scripted(groups["a"]), list[str]()

    async def handle(message: Message) -> None:
        if message.body == "a2" and "b0" not in done:
            source.put(groups["b"])
            raise ValueError
        done.append(message.body)

    async with running(Consumer(source, handle, retry=Backoff(base=5))):
        await until(lambda: len(source.acked_ids) == 2, within=100)
    assert sorted(done) == [f"{group}{number}" for group in "ab" for number in range(4)]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_what_ends_the_process_ends_it_with_a_line(error, caplog):
    """Fault 41b: the message is given back, the log names the handler."""
    source = Scripted(*messages(1))

    async def handle(_: Message) -> None:
        raise error

    with pytest.raises(type(error)):
        asyncio.run(Consumer(source, handle).run())
    assert "process_ended_by_handler" in caplog.text
    assert source.acked == []
    assert source.closed


@pytest.mark.parametrize(
    "result", [(Message(each) for each in count()), "text", [Message(1), 2], 7, {"a": 1}, {Message(1): 2}, print]
)
async def test_a_result_that_is_no_messages_is_dead_lettered_at_once(result):
    """Fault 28: an infinite iterable filled the memory; a fault of the program was tried again as if it would pass."""
    source, dead = Scripted(*messages(1)), Outbox("dead")

    async def handle(_):
        return result

    async with running(Consumer(source, handle, dead_letters=dead, output=Outbox())):
        await until(lambda: source.acked)
    assert dead.sent[0].headers["dead-letter-reason"].startswith("InvalidResult")
    assert source.nacked == []


@pytest.mark.parametrize("delay", ["5", float("nan"), float("inf"), 10**400, True])
async def test_a_retry_with_a_wrong_delay_is_a_failure_of_its_message(delay):
    """Fault 41b: it ended the consumer, or put the message off for ever."""
    source, dead = Scripted(*messages(2)), Outbox("dead")

    async def handle(message: Message) -> None:
        if message.id == "m0":
            raise Retry("later", delay=delay)

    once = Backoff(max_attempts=1)
    async with running(Consumer(source, handle, dead_letters=dead, retry=once)) as consumer:
        await until(lambda: len(source.acked_ids) == 2)
        assert consumer.stats.handled == 1
    assert [each.id for each in dead.sent] == ["m0"]
    assert "must be" in dead.sent[0].headers["dead-letter-reason"]


def test_a_retrys_delay_is_any_duration():
    assert Retry(delay=timedelta(minutes=2)).delay == 120.0
    assert Retry(delay=-0.5).delay == 0.0
    assert Retry().delay is None


async def test_a_reason_that_is_not_unicode_stays_with_the_dead_letter():
    """Fault 36: a lone surrogate in an error's text, as of a file name, and the whole reason was left out."""
    source, dead = Scripted(*messages(1)), Outbox("dead")

    async def handle(_: Message) -> None:
        raise Reject("no file \udcff.txt")

    async with running(Consumer(source, handle, dead_letters=dead)):
        await until(lambda: source.acked)
    assert dead.sent[0].headers["dead-letter-reason"] == "Reject: no file \\udcff.txt"


async def returns_text(message: Message) -> str:
    return "text"


async def returns_one(message: Message) -> Message:
    return message


async def returns_several(message: Message) -> list[Message[int]]:
    return [message]


async def yields(message: Message):
    yield message


class Class:
    async def handle(self, message: Message) -> None: ...


WRONG = [
    (returns_text, "str"),
    (returns_one, "output"),
    (returns_several, "output"),
    (yields, "yields"),
    (Class, "class|argument"),
    (idempotent(MemoryStore()), "wraps handlers"),
    (None, "handler must be"),
    ("handle", "handler must be"),
]


@pytest.mark.parametrize(("handler", "text"), WRONG)
def test_a_handler_that_cannot_work_is_refused_when_the_consumer_is_made(handler, text):
    """Fault 28: it was found at the first message, after the side effects."""
    with pytest.raises((TypeError, ValueError), match=text):
        Consumer(Scripted(), handler)


def test_a_handler_that_returns_messages_has_somewhere_to_send_them():
    Consumer(Scripted(), returns_one, output=Outbox())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"source": "orders"}, "source must be .* got 'orders'"),
        ({"output": "orders"}, "output must be a sender or None, got 'orders'"),
        ({"dead_letter": "orders"}, "dead_letters must be"),
        ({"replies": "orders"}, "replies must be"),
        ({"retry": 3}, "retry must be a Backoff or None, got 3"),
        ({"concurrency": "4"}, "concurrency must be an integer, got '4'"),
        ({"concurrency": True}, "concurrency must be an integer, got True"),
        ({"concurrency": 0}, "concurrency must be >= 1, got 0"),
        ({"local_retries": 1.5}, "local_retries must be an integer, got 1.5"),
        ({"max_processing": "5"}, "max_processing must be seconds or a timedelta, got '5'"),
        ({"max_processing": float("nan")}, "max_processing must be > 0, got nan"),
        ({"grace": -1}, "grace must be >= 0, got -1"),
        ({"on_expired": "shrug"}, "on_expired must be one of 'drop', .* got 'shrug'"),
    ],
)
def test_a_wrong_option_is_named_with_its_value(options, text):
    """Fault 34."""

    async def handle(_: Message) -> None: ...

    given = {"source": Scripted(), **options}
    with pytest.raises((TypeError, ValueError), match=text):
        Consumer(handler=handle, **given)


async def test_a_topic_is_no_source_and_the_error_says_what_is():
    """Fault 34."""

    async def handle(_: Message) -> None: ...

    async with MemoryTransport() as memory:
        for channel, text in (
            (memory.topic("t"), r"subscription\(name\)"),
            (memory.bus(), r"subscription\(name\)"),
            (memory.stream("s"), r"group\(name\)"),
        ):
            with pytest.raises(TypeError, match=text):
                Consumer(channel, handle)  # type: ignore[arg-type]


async def test_what_was_closed_while_a_handler_was_at_work_is_no_fault_of_the_message():
    """Faults 33 and 41: closed in the wrong order, a store or transport sent what was in hand to the dead letters."""
    source, dead, store = Scripted(Message(1, id="a")), Outbox("dead"), MemoryStore()
    await store.aclose()

    async def handle(_: Message) -> None:
        await store.put("k", b"1")

    async with running(Consumer(source, handle, dead_letters=dead)) as consumer:
        await until(lambda: consumer.stats.retried)
    assert dead.sent == []
