"""What a batch handler may be: a function of models, texts or messages, a plain function, handlers by type."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
from pydantic import BaseModel

from eip import Backoff, Handlers, Message, running
from eip.errors import ConfigurationError, Reject
from eip.packs import entry_of, pack
from eip.runtime._watchdog import abandoned
from eip.streams import BatchConsumer
from tests.runtime.scripted import Outbox
from tests.streams.scripted import SHARD, ScriptedLog, until

QUICK = Backoff(base=1, cap=1, max_attempts=3)


class Click(BaseModel):
    page: str


seen: list[Any] = []


async def take_texts(texts: Sequence[str]) -> None:
    seen.append(texts)


async def take_bytes(raws: list[bytes]) -> None:
    seen.append(raws)


async def take_models(clicks: list[Click]) -> None:
    seen.append(clicks)


async def take_messages_of_models(messages: Sequence[Message[Click]]) -> None:
    seen.append([each.body for each in messages])


def take_models_in_a_thread(clicks: tuple[Click, ...]) -> None:
    seen.append(clicks)


@pytest.mark.parametrize(
    ("handler", "expected", "odd"),
    [
        (take_texts, ['{"page":"/"}', "Message at 12:00"], [b"\xff"]),
        (take_bytes, [b'{"page":"/"}', b"Message at 12:00", b"\xff"], []),
        (take_models, [Click(page="/")], [b"Message at 12:00", b"\xff"]),
        (take_messages_of_models, [Click(page="/")], [b"Message at 12:00", b"\xff"]),
        (take_models_in_a_thread, [Click(page="/")], [b"Message at 12:00", b"\xff"]),
    ],
)
async def test_elements_are_what_the_annotation_asks_for_and_what_cannot_be_is_that_record_s_failure(
    handler, expected, odd
):
    """Fault 6: and its neighbours are handled in one call."""
    seen.clear()
    log, dead = ScriptedLog(), Outbox("dead")
    log.put(b'{"page":"/"}', b"Message at 12:00", b"\xff")
    group = log.group(dead_letters=dead)
    async with running(BatchConsumer(group, handler)):
        await until(lambda: group.shards[0].checkpoint.sequence == "3")
    assert seen == [expected]
    assert [each.encode() for each in dead.sent] == odd
    for each in dead.sent:
        assert each.headers["dead-letter-reason"].startswith("DecodeError")
        assert each.headers["shard"] == SHARD


async def test_a_malformed_entry_of_a_pack_does_not_count_as_handled():
    """Fault 1: its neighbours are handled, it is put aside alone, also where the handler looks at no body."""
    log, dead = ScriptedLog(), Outbox("dead")
    handled: list[Any] = []
    packed = pack([entry_of(Message(1, id="a")), b'{"no":"message"}', entry_of(Message(2, id="b"))], Message(None))
    log.put(packed.encode(), b"3")

    async def handle(messages: list[Message]) -> None:
        handled.append([each.id for each in messages])

    group = log.group(dead_letters=dead)
    consumer = BatchConsumer(group, handle)
    async with running(consumer):
        await until(lambda: group.shards[0].checkpoint.sequence == "2")
    assert handled == [["a", "b", f"{SHARD}:2"]]
    (letter,) = dead.sent
    assert letter.encode() == b'{"no":"message"}'
    assert letter.headers["sequence-number"] == "1"
    assert consumer.stats.dead_lettered == 1


async def test_without_a_destination_the_pack_stays_where_an_entry_is_malformed():
    log = ScriptedLog()
    handled: list[Any] = []
    log.put(b"0", pack([entry_of(Message(1, id="a")), b"7"], Message(None)).encode(), b"3")

    async def handle(messages: list[Message]) -> None:
        handled.extend(each.body for each in messages)

    group = log.group()
    async with running(BatchConsumer(group, handle, retry=Backoff(base=300, cap=300))):
        await until(lambda: len(handled) == 3)
        await asyncio.sleep(100)
        assert group.shards[0].checkpoint.sequence == "1"
    assert handled == [0, 1, 3]


async def test_a_whole_pack_that_fails_is_put_aside_once():
    log, dead = ScriptedLog(), Outbox("dead")
    packed = pack([entry_of(Message(1, id="a")), b"7"], Message(None)).encode()
    log.put(packed, b"3")

    async def handle(messages: list[Message]) -> None:
        if messages[0].id == "a":
            raise Reject("no")

    group = log.group(dead_letters=dead)
    async with running(BatchConsumer(group, handle)):
        await until(lambda: group.shards[0].checkpoint.sequence == "2")
    assert [each.encode() for each in dead.sent] == [packed]


def put_orders(log: ScriptedLog, count: int) -> None:
    from eip.transports.aws.kinesis.records import dump_record

    kinds = ("Click", "other")
    log.put(*(dump_record(Message({"page": str(n)}, type=kinds[n % 2])) for n in range(count)), key="k")


async def test_handlers_by_type_take_the_messages_of_a_batch_one_by_one():
    log, out, order = ScriptedLog(), Outbox("out"), []
    handlers = Handlers()

    @handlers.add
    async def click(clicked: Click) -> Message:
        order.append(clicked.page)
        return Message(clicked.page)

    @handlers.on("other")
    def other(message: Message) -> None:
        order.append(message.body["page"])

    put_orders(log, 4)
    group = log.group()
    async with running(BatchConsumer(group, handlers, output=out)):
        await until(lambda: group.shards[0].checkpoint.sequence == "4")
    assert order == ["0", "1", "2", "3"]
    assert [each.body for each in out.sent] == ["0", "2"]


async def test_a_message_that_handlers_fail_at_is_tried_alone_and_those_before_it_once():
    log, out, dead, calls = ScriptedLog(), Outbox("out"), Outbox("dead"), []
    handlers = Handlers()

    @handlers.default
    async def take(message: Message) -> Message:
        calls.append(message.body["page"])
        if message.body["page"] == "2":
            raise ValueError("no")
        return Message(message.body["page"])

    put_orders(log, 5)
    group = log.group(dead_letters=dead)
    consumer = BatchConsumer(group, handlers, output=out, retry=QUICK)
    async with running(consumer):
        await until(lambda: group.shards[0].checkpoint.sequence == "5")
    assert calls == ["0", "1", "2", "2", "2", "3", "4"]
    assert [each.body for each in out.sent] == ["0", "1", "3", "4"]
    assert [each.body["page"] for each in dead.sent] == ["2"]
    assert dead.sent[0].headers["dead-letter-reason"] == "ValueError: no"
    assert (consumer.stats.handled, consumer.stats.retried) == (4, 3)


async def test_a_type_without_a_handler_is_put_aside_at_once():
    log, dead = ScriptedLog(), Outbox("dead")
    handlers = Handlers()

    @handlers.on("Click")
    async def click(message: Message) -> None: ...

    put_orders(log, 2)
    group = log.group(dead_letters=dead)
    async with running(BatchConsumer(group, handlers)):
        await until(lambda: dead.sent)
    assert dead.sent[0].headers["dead-letter-reason"].startswith("Reject: no handler for message type 'other'")


def test_a_plain_function_runs_in_a_thread_and_the_loop_goes_on():
    """Fault 25: it may block; its results are sent like any."""
    ticked, threads = threading.Event(), []

    def handle(messages: list[Message]) -> list[Message]:
        threads.append(threading.current_thread())
        assert ticked.wait(10)  # set by the loop, which is not blocked
        return [Message(each.body * 10) for each in messages]

    async def scenario() -> Outbox:
        log, out = ScriptedLog(), Outbox("out")
        log.put(b"1", b"2")
        async with BatchConsumer(log.group(), handle, output=out):
            await until(lambda: threads, within=10)
            ticked.set()
            await until(lambda: out.sent, within=10)
        return out

    assert [each.body for each in asyncio.run(scenario()).sent] == [10, 20]
    assert threads[0] is not threading.main_thread()


def of_one(message: Message[Click]) -> None: ...


def of_text(text: str) -> None: ...


async def returns_text(messages: list[Message]) -> str:
    return "x"


async def yields(messages):
    yield 1


@pytest.mark.parametrize("handler", [of_one, of_text, returns_text, yields, Click, 7, lambda: None])
async def test_what_cannot_handle_a_batch_is_refused_when_the_consumer_is_made(handler):
    """Fault 28."""
    with pytest.raises(ConfigurationError):
        BatchConsumer(ScriptedLog().group(), handler)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("batch_size", "7", TypeError),
        ("batch_size", 0, ConfigurationError),
        ("batch_window", float("nan"), ConfigurationError),
        ("grace", "1", TypeError),
        ("max_processing", -1, ConfigurationError),
        ("parallelization", 2.5, TypeError),
    ],
)
async def test_errors_name_the_argument_and_the_value(name, value, error):
    with pytest.raises(error, match=rf"{name} .*{value}"):
        BatchConsumer(ScriptedLog().group(), take_texts, **{name: value})


# Stopping.


@pytest.mark.parametrize("grace", [0.0, 7.0])
async def test_it_stops_although_a_handler_ignores_its_cancellation_and_names_it(grace, caplog):
    """Fault 41d: within the grace and two seconds; the shard is given up, what the handler did is not done."""
    log, out, release, started = ScriptedLog(), Outbox("out"), asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    log.put(b"1")

    async def deaf(messages: list[Message]) -> Message:
        started.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return Message("late")

    group = log.group()
    consumer = BatchConsumer(group, deaf, output=out)
    running_one = asyncio.create_task(consumer.run())
    await started.wait()
    before = loop.time()
    with caplog.at_level(logging.ERROR):
        await consumer.stop(grace=grace)
    assert grace <= loop.time() - before <= grace + 2.1
    await running_one
    assert "handler_does_not_end" in caplog.text
    assert "deaf" in caplog.text
    (call,) = [each for each in abandoned.values() if "deaf" in each.handler and not each.task.done()]
    assert call.message_id == f"{SHARD}:1:0"
    assert (await group.checkpoints())[SHARD].sequence is None
    release.set()
    await asyncio.wait([call.task])
    assert out.sent == []


def test_a_thread_that_does_not_end_holds_up_nothing(caplog):
    """Fault 41d: a plain function cannot be cancelled at all."""
    started, release = threading.Event(), threading.Event()

    def stuck(messages: list[Message]) -> None:
        started.set()
        release.wait(20)

    async def scenario() -> float:
        log, loop = ScriptedLog(), asyncio.get_running_loop()
        log.put(b"1")
        consumer = BatchConsumer(log.group(), stuck, grace=0)
        running_one = asyncio.create_task(consumer.run())
        try:
            await until(started.is_set, within=10)
            before = loop.time()
            with caplog.at_level(logging.ERROR):
                await consumer.stop()
            took = loop.time() - before
            await running_one
        finally:
            release.set()
        await asyncio.wait(
            [call.task for call in abandoned.values() if "stuck" in call.handler and not call.task.done()]
        )
        return took

    assert asyncio.run(scenario()) < 5
    assert "stuck" in caplog.text


async def test_a_lost_shard_s_handler_that_ignores_its_cancellation_holds_up_nothing(caplog):
    log, release, started = ScriptedLog(), asyncio.Event(), asyncio.Event()
    log.put(b"1")

    async def deaf_too(messages: list[Message]) -> None:
        started.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    group = log.group()
    async with running(BatchConsumer(group, deaf_too, grace=1)):
        await started.wait()
        table = await group.table()
        lease = await table.get(SHARD)
        assert lease is not None
        await table.write(lease, owner="another", epoch=lease.epoch + 1)
        await until(lambda: not group.shards)
    assert "deaf_too" in caplog.text
    release.set()
    await asyncio.wait([each.task for each in abandoned.values() if "deaf_too" in each.handler])


async def test_a_consumer_of_batches_is_a_service():
    log = ScriptedLog()
    done: list[Any] = []
    log.put(b"1")

    async def handle(messages: list[Message]) -> None:
        done.extend(messages)

    consumer = BatchConsumer(log.group(), handle)
    assert (consumer.health().ok, consumer.health().reason) == (False, "not running")
    async with consumer:
        assert consumer.ready.is_set()
        assert consumer.health().ok
        await until(lambda: done)
    assert not consumer.ready.is_set()


async def test_a_handler_that_cancels_its_task_and_returns_costs_nothing():
    """Fault 41a: a cancellation that is delivered after the handler does not end the lane."""
    log = ScriptedLog()
    done: list[Any] = []
    log.put(b"1", b"2", key="k")

    async def handle(messages: list[Message]) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        done.extend(each.body for each in messages)

    group = log.group()
    async with running(BatchConsumer(group, handle, batch_size=1)):
        await until(lambda: group.shards[0].checkpoint.sequence == "2")
    assert done == [1, 2]


async def test_a_timeout_that_a_handler_never_leaves_does_not_end_the_lane():
    """Fault 41a, a neighbour: the timeout cancelled the lane for ever; nor is the handler's context the next one's."""
    log, tenant = ScriptedLog(), ContextVar[str]("tenant")
    done, scopes = list[tuple[int, str]](), list[anyio.CancelScope]()
    log.put(b"1", b"2", b"3", key="k")

    async def handle(messages: list[Message]) -> None:
        if not scopes:
            scopes.append(anyio.move_on_after(0.1))
            scopes[0].__enter__()
        await asyncio.sleep(0.2)
        done.append((messages[0].body, tenant.get("nobody")))
        tenant.set("t")

    group = log.group()
    async with running(BatchConsumer(group, handle, batch_size=1)):
        await until(lambda: group.shards[0].checkpoint.sequence == "3")
    assert done == [(number, "nobody") for number in (1, 2, 3)]
