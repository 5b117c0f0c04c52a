"""A short run of each pattern, on whatever the lab is of; each asserts what the pattern promises."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable
from typing import Any

from eip import Message, ReturnAddresses
from eip.errors import Reject
from eip.matching import FilterPolicy
from eip.patterns.aggregator import Aggregator
from eip.patterns.circuit_breaker import CircuitBreaker
from eip.patterns.claim_check import ClaimCheckSender, claim_checked
from eip.patterns.cloud_events import CloudEvents, cloud_events
from eip.patterns.content_based_router import ContentBasedRouter
from eip.patterns.content_enricher import content_enricher
from eip.patterns.dynamic_router import Announcement, DynamicRouter
from eip.patterns.expiration import expiration
from eip.patterns.fifo import SequencingSender
from eip.patterns.idempotent_receiver import idempotent
from eip.patterns.inbox import Inbox
from eip.patterns.message_filter import message_filter
from eip.patterns.message_history import history_of, message_history
from eip.patterns.message_scheduler import MessageScheduler
from eip.patterns.message_store import MessageStore
from eip.patterns.normalizer import Normalizer
from eip.patterns.outbox import OutboxRelay
from eip.patterns.packer import Packer
from eip.patterns.pipeline import around, pipeline
from eip.patterns.process_manager import Process, ProcessManager
from eip.patterns.recipient_list import RecipientList
from eip.patterns.redrive import redrive
from eip.patterns.request_reply import RequestReply
from eip.patterns.resequencer import Resequencer
from eip.patterns.scatter_gather import ScatterGather
from eip.patterns.splitter import splitter
from eip.patterns.throttle import throttle
from eip.patterns.translator import translator
from eip.patterns.wire_tap import wire_tap
from eip.stores import MemoryStore
from eip.stores.inbox import SqliteInbox
from eip.stores.objects import MemoryObjects
from eip.stores.outbox import SqliteOutbox
from tests.matrix.lab import Lab

__all__ = ["SCENARIOS"]

Scenario = Callable[[Lab], Awaitable[None]]
SCENARIOS: dict[str, Scenario] = {}


def scenario(name: str) -> Callable[[Scenario], Scenario]:
    """Name a scenario as the README's table does."""

    def add(function: Scenario) -> Scenario:
        SCENARIOS[name] = function
        return function

    return add


def numbers(messages: list[Message[Any]]) -> list[int]:
    return [each.body["n"] for each in messages]


def some(count: int, **envelope: Any) -> list[Message[Any]]:
    return [Lab.message({"n": number}, **envelope) for number in range(count)]


async def same(message: Message[Any]) -> Message[Any]:
    return message.derive(message.body)


@scenario("Scatter-Gather")
async def scatter_gather(lab: Lab) -> None:
    topic, subscriptions = await lab.topic("rides", "a", "b", "c")
    replies = await lab.queue("replies")
    allowed = ReturnAddresses(lab.transport, prefix="replies")

    def responder(name: str):
        async def quote(message: Message[Any]) -> Message[Any]:
            return message.reply({"from": name}, source=name, type="Quote")

        return quote

    herd = [
        lab.consumer(each, responder(name), replies=allowed) for each, name in zip(subscriptions, "abc", strict=True)
    ]
    async with lab.running(*herd), ScatterGather(topic, replies) as gather:
        for each in herd:
            await each.started.wait()
        result = await gather.request(lab.message({"to": "x"}), expected=3, deadline=lab.patience)
    assert result.completed_by == "expected"
    assert sorted(each.body["from"] for each in result.replies) == ["a", "b", "c"]


@scenario("Request-Reply")
async def request_reply(lab: Lab) -> None:
    sender, source = await lab.inlet("requests")
    replies = await lab.queue("replies")
    allowed = ReturnAddresses(lab.transport, prefix="replies")

    async def answer(message: Message[Any]) -> Message[Any]:
        return message.reply({"n": message.body["n"] + 1}, source="lab", type="Answer")

    async with lab.running(lab.consumer(source, answer, replies=allowed)), RequestReply(sender, replies) as ask:
        reply = await ask.request(lab.message({"n": 41}), timeout=lab.patience)
    assert reply.body == {"n": 42}


@scenario("Message Scheduler")
async def message_scheduler(lab: Lab) -> None:
    sender, source = await lab.inlet("later")
    async with MessageScheduler(MemoryStore(), {"later": sender}) as scheduler:
        await scheduler.cancel(await scheduler.send(lab.message({"n": 0}), to="later", delay=60))
        await scheduler.send(lab.message({"n": 1}), to="later", delay=0)
        assert numbers(await lab.collected(source, 1)) == [1]


@scenario("Aggregator")
async def aggregator(lab: Lab) -> None:
    sender, source = await lab.inlet("parts")
    output = await lab.queue("wholes")
    gathers = Aggregator(MemoryStore(), output=output, size=3, combine=lambda found: {"n": len(found.messages)})
    async with lab.running(lab.consumer(source, gathers), gathers):
        await sender.send(*some(3, correlation_id="c"))
        (whole,) = await lab.collected(output, 1)
    assert (whole.correlation_id, whole.body) == ("c", {"n": 3})


@scenario("Splitter, Resequencer")
async def splitter_and_resequencer(lab: Lab) -> None:
    sender, source = await lab.inlet("orders")
    lines, ordered = await lab.queue("lines"), await lab.queue("ordered")
    resequencer = Resequencer(MemoryStore(), output=ordered)
    split = splitter(lambda message: [{"n": each} for each in message.body["lines"]])
    async with lab.running(lab.consumer(source, split, output=lines), lab.consumer(lines, resequencer), resequencer):
        await sender.send(lab.message({"lines": [0, 1, 2, 3]}))
        received = await lab.collected(ordered, 4)
    assert sorted(numbers(received)) == [0, 1, 2, 3]
    assert {each.sequence.size for each in received if each.sequence is not None} == {4}


@scenario("Content-Based Router, Recipient List, Dynamic Router")
async def routers(lab: Lab) -> None:
    sender, source = await lab.inlet("things")
    odd, even, both, dynamic = [await lab.queue(each) for each in ("odd", "even", "both", "dynamic")]
    router = ContentBasedRouter([(lambda message: message.body["n"] % 2 == 1, odd)], otherwise=even)
    listed = RecipientList(lambda message: [both] if message.body["n"] == 2 else [])
    chosen = DynamicRouter(ReturnAddresses(lab.transport, prefix="dynamic").resolve)
    control = await lab.queue("control")

    async def all_three(message: Message[Any]) -> None:
        for handler in (router, listed, chosen) if message.body["n"] == 3 else (router, listed):
            await handler(message)

    async with lab.running(lab.consumer(source, all_three), lab.consumer(control, chosen.control)):
        said = Announcement(recipient="three", address=dynamic.address, policy={"kind": ["third"]})
        await control.send(Message(said))
        while not chosen.recipients:
            await asyncio.sleep(0.05)
        await sender.send(*some(3), lab.message({"n": 3}, attributes={"kind": "third"}))
        assert sorted(numbers(await lab.collected(odd, 2))) == [1, 3]
        assert sorted(numbers(await lab.collected(even, 2))) == [0, 2]
        assert numbers(await lab.collected(both, 1)) == [2]
        assert numbers(await lab.collected(dynamic, 1)) == [3]


@scenario("Message Filter")
async def filters(lab: Lab) -> None:
    wanted = message_filter(FilterPolicy({"kind": ["wanted"]}))(same)
    messages = [*some(2, attributes={"kind": "other"}), lab.message({"n": 7}, attributes={"kind": "wanted"})]
    assert numbers(await lab.through(wanted, messages, 1)) == [7]


@scenario("Pipeline: Translator, Content Enricher, Normalizer, Message History, Expiration, Throttle, Circuit Breaker")
async def pipelines(lab: Lab) -> None:
    async def lookup(message: Message[Any]) -> dict[str, Any]:
        return {"found": message.body["n"] * 10}

    steps = pipeline(
        around(expiration(max_age=3600)),
        around(throttle(1000)),
        around(CircuitBreaker()),
        around(message_history("lab")),
        Normalizer().when(lambda message: "n" in message.body, lambda message: {"n": message.body["n"] + 1}),
        content_enricher(lookup),
        translator(lambda message: {"n": message.body["found"]}),
        same,
    )
    received = await lab.through(steps, some(3), 3)
    assert sorted(numbers(received)) == [10, 20, 30]
    assert {hop.name for each in received for hop in history_of(each)} == {"lab"}


@scenario("Wire Tap, Message Store")
async def taps(lab: Lab) -> None:
    store = MessageStore(MemoryObjects())
    tap = await lab.queue("tap")
    handler = wire_tap(tap)(wire_tap(store)(same))
    assert sorted(numbers(await lab.through(handler, some(3), 3))) == [0, 1, 2]
    assert sorted(numbers(await lab.collected(tap, 3))) == [0, 1, 2]
    kept = [each async for each in store.messages(0, 9e9)]
    assert sorted(numbers(kept)) == [0, 1, 2]


@scenario("Claim Check")
async def claim_checks(lab: Lab) -> None:
    objects = MemoryObjects()
    (inlet, source), output = await lab.inlet("claims"), await lab.queue("outputs")
    sender = ClaimCheckSender(inlet, objects, threshold=4096)

    async def size(message: Message[Any]) -> Message[Any]:
        return message.derive({"n": len(message.body["text"])})

    async with lab.running(lab.consumer(source, claim_checked(objects, delete=True)(size), output=output)):
        await sender.send(lab.message({"text": "x" * 5000}), lab.message({"text": "xy"}))
        assert sorted(numbers(await lab.collected(output, 2))) == [2, 5000]
        while objects.objects:
            await asyncio.sleep(0.05)


@scenario("Idempotent Receiver")
async def idempotent_receiver(lab: Lab) -> None:
    handled = []

    async def note(message: Message[Any]) -> Message[Any]:
        handled.append(message.body["n"])
        return message.derive(message.body)

    once = idempotent(MemoryStore(), key=lambda message: str(message.body["n"]))
    received = await lab.through(once(note), [*some(2), *some(2)], 4, concurrency=1)
    assert (sorted(handled), sorted(numbers(received))) == ([0, 1], [0, 0, 1, 1])


@scenario("Packing")
async def packing(lab: Lab) -> None:
    sender, source = await lab.inlet("packs")
    output = await lab.queue("outputs")
    seen: list[int] = []

    async def note(message: Message[Any]) -> None:
        seen.append(message.body["n"])
        if len(seen) == 100:
            await output.send(lab.message({"n": len(set(seen))}))

    async with lab.running(lab.consumer(source, note)), Packer(sender, max_bytes=16_384, linger=0.05) as packer:
        await packer.send(*some(100))
        assert numbers(await lab.collected(output, 1)) == [100]


@scenario("Process Manager")
async def process_manager(lab: Lab) -> None:
    jobs, done = await lab.queue("jobs"), await lab.queue("done")

    async def ask(state: dict[str, Any], context: Any) -> None:
        await jobs.send(lab.message({"n": state["n"]}, id=context.key, correlation_id=context.process_id))

    async def take(state: dict[str, Any], message: Message[Any]) -> dict[str, Any]:
        return {"n": message.body["n"]}

    async def work(message: Message[Any]) -> Message[Any]:
        return message.reply({"n": message.body["n"] * 2})

    process = Process("double").step(ask).receive(take, within=lab.patience)
    manager = ProcessManager(MemoryStore(), [process])
    async with lab.running(manager, lab.consumer(jobs, work, output=done), lab.consumer(done, manager.receive)):
        ended = await manager.ended(await manager.start("double", {"n": 21}, id="p"))
        assert ended.status == "completed"
        assert await manager.state("p") == {"n": 42}


@scenario("Transactional Outbox")
async def outbox(lab: Lab) -> None:
    queue = await lab.queue("orders")
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/shop.sqlite"
        written = SqliteOutbox(path)
        db = sqlite3.connect(path)
        with db:
            written.add(db, "orders", *some(3, group_id="g"))
        db.close()
        async with lab.running(OutboxRelay(written, {"orders": queue}, poll=0.1)):
            assert numbers(await lab.collected(queue, 3)) == [0, 1, 2]
        await written.aclose()


@scenario("Inbox")
async def inbox(lab: Lab) -> None:
    sender, source = await lab.inlet("orders")
    output = await lab.queue("outputs")
    with tempfile.TemporaryDirectory() as folder:
        table, outbox = SqliteInbox(f"{folder}/shop.sqlite"), SqliteOutbox(f"{folder}/shop.sqlite")
        box = Inbox(table, table.connect, outbox=outbox, key=lambda message: str(message.body["n"]))

        @box.handler("matrix", output="out")
        def handle(message: Message[Any], db: sqlite3.Connection) -> Message[Any]:
            db.execute("CREATE TABLE IF NOT EXISTS effects (n INTEGER PRIMARY KEY)")
            db.execute("INSERT INTO effects VALUES (?)", (message.body["n"],))
            return lab.message(message.body)

        relay = OutboxRelay(outbox, {"out": output}, poll=0.1)
        async with lab.running(lab.consumer(source, handle), relay):
            await sender.send(*some(2), *some(2))
            assert sorted(numbers(await lab.collected(output, 2))) == [0, 1]
            async with asyncio.timeout(lab.patience):
                while box.duplicates < 2:
                    await asyncio.sleep(0.05)
        await table.aclose()
        await outbox.aclose()


@scenario("FIFO by the sender")
async def fifo(lab: Lab) -> None:
    queue, ordered = await lab.queue("numbered"), await lab.queue("ordered")
    resequencer = Resequencer(MemoryStore(), output=ordered)
    sender = SequencingSender(queue, MemoryStore())
    async with lab.running(lab.consumer(queue, resequencer), resequencer):
        await sender.send(*some(8, group_id="g"))
        received = await lab.collected(ordered, 8)
    assert sorted(numbers(received)) == list(range(8))
    assert resequencer.duplicates == resequencer.gaps == 0


@scenario("Redrive")
async def redriven(lab: Lab) -> None:
    queue, dead, output = await lab.queue("work"), await lab.queue("dead"), await lab.queue("outputs")

    async def broken(message: Message[Any]) -> None:
        raise Reject("a bug of ours")

    async with lab.running(lab.consumer(queue, broken, dead_letters=dead)):
        await queue.send(*some(3))
        while not await _there(dead, 3):
            await asyncio.sleep(0.1)
    progress = await redrive(dead, queue, filter=lambda message: message.body["n"] != 1, idle=1)
    assert (progress.moved, progress.left) == (2, 1)
    async with lab.running(lab.consumer(queue, same, output=output)):
        assert sorted(numbers(await lab.collected(output, 2))) == [0, 2]


async def _there(queue: Any, count: int) -> bool:
    """Whether so many messages are in the queue; they stay."""
    seen = 0
    async with queue.receiver(capacity=10) as receiver:
        taken = list(await receiver.receive(10, wait=1))
        seen = len(taken)
        await receiver.nack(taken[::-1])
    return seen >= count


@scenario("CloudEvents")
async def cloud(lab: Lab) -> None:
    queue, output = await lab.queue("events"), await lab.queue("outputs")
    async with lab.running(lab.consumer(queue, cloud_events(strict=True)(same), output=output)):
        await CloudEvents(queue).send(*some(2))
        assert sorted(numbers(await lab.collected(output, 2))) == [0, 1]
