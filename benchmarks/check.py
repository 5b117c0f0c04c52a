"""Has anything become slower? CPU of the hot paths as ratios to a floor of the same run, beside the recorded ratios.

    python -m benchmarks.check              # compare with benchmarks/recorded.json; exit code 1 where one is exceeded
    python -m benchmarks.check --record     # renew the record, on a quiet machine, and commit it with the reason

Machines differ, and so do their busy minutes; a ratio to the same Python work, measured in turns with it, differs less.
The floor makes objects, looks up dictionaries, calls functions and encodes JSON. Each figure is the least of several
turns: what disturbs only adds. What seems slower is measured again before it counts.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from benchmarks import sqs_stub
from benchmarks._report import environment, progress, table
from eip import Consumer, EventPattern, Message
from eip.channels import Sender
from eip.matching import RuleSet
from eip.message import AttributeValue
from eip.patterns.scatter_gather import ScatterGather
from eip.transports.memory import MemoryTransport

RECORD = Path(__file__).parent / "recorded.json"
TOLERANCE = 1.3
"""How much more than recorded fails: noise on shared machines is up to a quarter."""
SQS_TOLERANCE = 1.6
"""The same for SQS: a busy machine slows the kernel's work, of sockets and waiting, more than Python's."""
TURNS = 5
MORE_TURNS = 15
"""At most, for what seems slower."""
BODY = {"number": 7, "customer": "c-42", "items": [1, 2, 3]}

Case = Callable[[], Awaitable[float]]
"""Microseconds of CPU for one operation."""


class _Thing:
    __slots__ = ("a", "b", "c")

    def __init__(self, a: object, b: object, c: object) -> None:
        self.a, self.b, self.c = a, b, c


async def floor() -> float:
    """What any Python program does with a message, a few times over."""
    seen: dict[int, _Thing] = {}

    def work(number: int) -> None:
        for step in range(8):
            key = number * 8 + step & 1023
            seen[key] = _Thing(key, seen.get(key - 1), None)
        orjson.loads(orjson.dumps(BODY))

    return _spent(work, 10_000)


def _spent(call: Callable[[int], object], count: int) -> float:
    gc.collect()
    began = time.process_time()
    for number in range(count):
        call(number)
    return (time.process_time() - began) / count * 1e6


async def message() -> float:
    """Make a message with two attributes, seal it, read it as a driver does."""
    attributes: dict[str, AttributeValue] = {"kind": "order", "priority": 5}

    def make(_: int) -> None:
        sealed = Message(BODY, attributes=attributes).sealed()
        Message.received(sealed.encode(), id=sealed.id, created_at=sealed.created_at, attributes=attributes)

    return _spent(make, 10_000)


async def consume(*, groups: int = 0) -> float:
    """From send to ack on the embedded transport, ten handlers."""
    count, handled, done = 10_000, 0, asyncio.Event()

    async def handle(_: Message) -> None:
        nonlocal handled
        handled += 1
        if handled == count:
            done.set()

    async with MemoryTransport(capacity=count + 100) as transport:
        queue = transport.queue("orders.fifo" if groups else "orders")
        async with Consumer(queue, handle, concurrency=10):
            gc.collect()
            began = time.process_time()
            for start in range(0, count, 100):
                numbers = range(start, start + 100)
                await queue.send(*(Message(BODY, group_id=str(each % groups) if groups else None) for each in numbers))
                await asyncio.sleep(0)
            await done.wait()
            spent = time.process_time() - began
    return spent / count * 1e6


async def bus() -> float:
    """Put an event on the embedded bus, whose one rule matches it."""
    async with MemoryTransport(capacity=10_000) as transport:
        events = transport.bus("events")
        queue = events.subscription("rule", pattern=EventPattern({"source": ["shop"], "detail": {"number": [7]}}))
        messages = [Message(BODY, type="Order", source="shop") for _ in range(3_000)]
        gc.collect()
        began = time.process_time()
        for each in messages:
            await events.send(each)
        spent = time.process_time() - began
        assert len(queue) == len(messages)
    return spent / len(messages) * 1e6


async def rules() -> float:
    """Match an event with 3,000 rules of three kinds."""
    found = RuleSet()
    for number in range(1_000):
        found.add(f"exact {number}", {"detail": {"state": [f"s{number}"]}})
        found.add(f"range {number}", {"detail": {"n": [{"numeric": [">=", number, "<", number + 1]}]}})
        found.add(f"prefix {number}", {"detail": {"id": [{"prefix": f"i-{number}-"}]}})
    event = {"detail": {"state": "s7", "n": 7.5, "id": "i-7-x"}}
    assert len(found.match(event)) == 3
    return _spent(lambda _: found.match(event), 2_000)


class _Requests(Sender):
    name = address = "requests"

    def __init__(self) -> None:
        self.sent: list[Message[Any]] = []

    async def send(self, *messages: Message[Any]) -> None:
        self.sent.extend(messages)


async def scatter_gather() -> float:
    """A request with ten replies, 2,000 in flight, the whole path; garbage is not collected meanwhile."""
    count, requests = 2_000, _Requests()
    async with (
        MemoryTransport(capacity=count * 10) as transport,
        ScatterGather(requests, transport.queue("replies")) as gather,
    ):
        gc.collect()
        gc.disable()
        began = time.process_time()
        waiting = [asyncio.ensure_future(gather.request(each, expected=10, deadline=300)) for each in range(count)]
        while len(requests.sent) < count:
            await asyncio.sleep(0)
        for _ in range(10):
            await transport.queue("replies").send(*(each.reply(1) for each in requests.sent))
        await asyncio.gather(*waiting)
        spent = time.process_time() - began
        gc.enable()
    return spent / count * 1e6


async def sqs(url: str) -> float:
    """Send and consume a message of SQS, the stub of the service apart, 200 callers."""
    count, handled, done = 3_000, 0, asyncio.Event()

    async def handle(_: Message) -> None:
        nonlocal handled
        handled += 1
        if handled == count:
            done.set()

    async with sqs_stub.transport(url, long_poll=1) as aws:
        name = f"check-{time.monotonic_ns()}"
        await sqs_stub.make_queue(aws, name)
        queue = aws.queue(name)
        await queue.send(Message(BODY))
        numbers = iter(range(count - 1))

        async def produce() -> None:
            for _ in numbers:
                await queue.send(Message(BODY))

        gc.collect()
        began = time.process_time()
        await asyncio.gather(*(produce() for _ in range(200)))
        async with Consumer(queue, handle, concurrency=200):
            await done.wait()
            spent = time.process_time() - began
    return spent / count * 1e6


def measure(recorded: Mapping[str, float]) -> dict[str, float]:
    """Each case as a ratio to the floor."""
    with sqs_stub.running() as url:
        cases: dict[str, Case] = {
            "message: make, seal, read": message,
            "memory: send to ack": consume,
            "memory, FIFO: send to ack": lambda: consume(groups=50),
            "memory: bus, one rule": bus,
            "matching: 3,000 rules": rules,
            "scatter-gather: ten replies": scatter_gather,
            "SQS: send, consume, delete": lambda: sqs(url),
        }
        return in_turns(cases, floor, recorded)


def in_turns(cases: dict[str, Case], below: Case, recorded: Mapping[str, float]) -> dict[str, float]:
    """The least of each case as a ratio to the least of the floor; what seems slower gets more turns."""
    least, least_below = dict.fromkeys(cases, float("inf")), float("inf")
    chosen, ratios = cases, {}
    for turn in range(TURNS + MORE_TURNS):
        progress(f"turn {turn + 1} of {TURNS}" if turn < TURNS else f"again: {', '.join(chosen)}")
        least_below = min(least_below, asyncio.run(below()))  # type: ignore[arg-type]
        for name, case in chosen.items():
            least[name] = min(least[name], asyncio.run(case()))  # type: ignore[arg-type]
        ratios = {name: each / least_below for name, each in least.items()}
        if turn + 1 >= TURNS:
            chosen = {name: case for name, case in cases.items() if _is_slower(name, ratios[name], recorded)}
            if not chosen:
                break
    return ratios


def _is_slower(name: str, ratio: float, recorded: Mapping[str, float]) -> bool:
    tolerance = SQS_TOLERANCE if name.startswith("SQS") else TOLERANCE
    return ratio > tolerance * recorded.get(name, float("inf"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="renew benchmarks/recorded.json")
    options = parser.parse_args()
    recorded: dict[str, float] = {} if options.record else json.loads(RECORD.read_text())["ratios"]
    ratios = measure(recorded)
    if options.record:
        record: dict[str, Any] = {
            "environment": environment(),
            "ratios": {name: round(each, 2) for name, each in ratios.items()},
        }
        RECORD.write_text(json.dumps(record, indent=2) + "\n")
        recorded = record["ratios"]
    rows = [
        (
            name,
            ratio,
            recorded.get(name, ""),
            ratio / recorded[name] if name in recorded else "",
            _verdict(name, ratio, recorded),
        )
        for name, ratio in ratios.items()
    ]
    columns = ("path", "times the floor", "recorded", "now ÷ recorded", "")
    print(
        table(
            f"CPU beside the floor; fails from {TOLERANCE:g} times what is recorded, SQS {SQS_TOLERANCE:g}",
            columns,
            rows,
        )
    )
    return int(any(row[-1] == "SLOWER" for row in rows))


def _verdict(name: str, ratio: float, recorded: Mapping[str, float]) -> str:
    if name not in recorded:
        return "not recorded"
    return "SLOWER" if _is_slower(name, ratio, recorded) else ""


if __name__ == "__main__":
    sys.exit(main())
