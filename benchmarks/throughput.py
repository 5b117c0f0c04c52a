"""How many messages a CPU second? Transports and patterns side by side, 1 KB events, a stub that answers at once.

    python -m benchmarks.throughput [--quick] [--docs] [--activemq URL]

Sending: aioboto3 as most programs use it (one call per message), aioboto3 in batches by hand, and this library: each
caller awaiting its own message, whole batches, packs, compressed packs; to a queue (SQS), a topic (SNS) and an event
bus (EventBridge). Consuming, each body decoded: aioboto3 by hand, and a `Consumer` of plain messages and of packs. The
embedded transport, too; a broker where its URL is given. All use orjson and encode within the measurement.

The stub runs in a process of its own; CPU is this process's. Figures are medians of runs that take turns, so that a
busy machine hits all alike, after a run of each that is not counted; read the ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, Self

import aioboto3
import orjson
from botocore.config import Config

from benchmarks import sqs_stub
from benchmarks._events import events
from benchmarks._report import bars, plot, progress, save, spread, table
from eip import Consumer, Message, Queue, Sender, Source
from eip.packs import Encoding
from eip.patterns.packer import Packer
from eip.telemetry.meter import UsageMeter
from eip.transports.memory import MemoryTransport

CALLERS = 50
_names = itertools.count()


class Ran(NamedTuple):
    """One run."""

    messages: int
    seconds: float
    cpu: float
    billed: float
    """Requests, per million messages."""


Run = Callable[[], Awaitable[Ran]]


class Clock:
    """Measures the block it is given."""

    async def __aenter__(self) -> Self:
        gc.collect()
        self.ended = 0.0
        """By `time.perf_counter`, where the work was done before the block was left."""
        self._cpu, self._wall = time.process_time(), time.perf_counter()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.seconds = (self.ended or time.perf_counter()) - self._wall
        self.cpu = time.process_time() - self._cpu

    def ran(self, messages: int, requests: float) -> Ran:
        """The run's figures."""
        return Ran(messages, self.seconds, self.cpu, requests * 1e6 / messages)


async def each_by_its_caller(send: Callable[[Any], Awaitable[Any]], items: Sequence[Any]) -> None:
    """Fifty callers, each sending one and waiting for it."""
    rest = iter(items)

    async def caller() -> None:
        for item in rest:
            await send(item)

    await asyncio.gather(*(caller() for _ in range(CALLERS)))


# aioboto3 by hand.


@asynccontextmanager
async def sdk(url: str, service: str) -> AsyncIterator[Any]:
    """The SDK's own client, as documented."""
    session = aioboto3.Session(aws_access_key_id="stub", aws_secret_access_key="stub", region_name=sqs_stub.REGION)
    async with session.client(service, endpoint_url=url, config=Config(max_pool_connections=64)) as client:
        yield client


def text(message: Message[Any]) -> str:
    """The body; 1 KB, as there is no envelope."""
    return orjson.dumps(message.body).decode()


async def sdk_sends(url: str, messages: Sequence[Message[Any]], *, batch: int) -> Ran:
    """send_message for each, or send_message_batch of so many."""
    async with sdk(url, "sqs") as sqs:
        queue = (await sqs.create_queue(QueueName=f"q{next(_names)}"))["QueueUrl"]

        async def send(some: Sequence[Message[Any]]) -> None:
            if batch == 1:
                await sqs.send_message(QueueUrl=queue, MessageBody=text(some[0]))
                return
            entries = [{"Id": str(place), "MessageBody": text(each)} for place, each in enumerate(some)]
            assert not (await sqs.send_message_batch(QueueUrl=queue, Entries=entries)).get("Failed")

        async with Clock() as clock:
            await each_by_its_caller(
                send, [messages[start : start + batch] for start in range(0, len(messages), batch)]
            )
        return clock.ran(len(messages), len(messages) / batch)


async def sdk_publishes(url: str, messages: Sequence[Message[Any]]) -> Ran:
    """publish for each."""
    async with sdk(url, "sns") as sns:
        topic = (await sns.create_topic(Name=f"t{next(_names)}"))["TopicArn"]
        async with Clock() as clock:
            await each_by_its_caller(lambda each: sns.publish(TopicArn=topic, Message=text(each)), messages)
        return clock.ran(len(messages), len(messages))


async def sdk_puts(url: str, messages: Sequence[Message[Any]]) -> Ran:
    """put_events for each."""
    async with sdk(url, "events") as client:

        async def put(each: Message[Any]) -> None:
            await client.put_events(Entries=[{"Source": "shop", "DetailType": "OrderPaid", "Detail": text(each)}])

        async with Clock() as clock:
            await each_by_its_caller(put, messages)
        return clock.ran(len(messages), len(messages))


async def sdk_consumes(url: str, messages: Sequence[Message[Any]], *, batched: bool) -> Ran:
    """receive_message of ten, then delete_message for each, or delete_message_batch; ten pollers."""
    name = f"q{next(_names)}"
    async with sqs_stub.transport(url) as aws:
        await sqs_stub.make_queue(aws, name)
        await aws.queue(name).send(*messages)
    left, calls = len(messages), 0
    async with sdk(url, "sqs") as sqs:
        queue = (await sqs.create_queue(QueueName=name))["QueueUrl"]

        async def poll() -> None:
            nonlocal left, calls
            while left > 0:
                answer = await sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)
                got = answer.get("Messages", [])
                left -= len(got)
                calls += 1
                assert all(orjson.loads(each["Body"])["order"] for each in got)
                if batched and got:
                    entries = [
                        {"Id": str(place), "ReceiptHandle": each["ReceiptHandle"]} for place, each in enumerate(got)
                    ]
                    await sqs.delete_message_batch(QueueUrl=queue, Entries=entries)
                    calls += 1
                elif got:
                    for each in got:
                        await sqs.delete_message(QueueUrl=queue, ReceiptHandle=each["ReceiptHandle"])
                    calls += len(got)

        async with Clock() as clock:
            await asyncio.gather(*(poll() for _ in range(10)))
    return clock.ran(len(messages), calls)


# This library.


async def ours_sends(url: str, messages: Sequence[Message[Any]], how: str, *, to: str = "queue") -> Ran:
    """``each``: fifty callers; ``batches``: a hundred a call; ``packed``, ``packed + zstd``: by a Packer."""
    meter, name = UsageMeter(), f"c{next(_names)}"
    async with sqs_stub.transport(url, meter=meter) as aws:
        sender: Sender
        if to == "topic":
            await sqs_stub.make_topic(aws, name)
            sender = aws.topic(name)
        elif to == "bus":
            sender = aws.bus("default")
        else:
            await sqs_stub.make_queue(aws, name)
            sender = aws.queue(name)
            await aws.queue(name).url()
        before = meter.total().units
        async with Clock() as clock:
            await sending(sender, messages, how)
        return clock.ran(len(messages), meter.total().units - before)


async def sending(sender: Sender, messages: Sequence[Message[Any]], how: str) -> None:
    """Send in one of the ways."""
    if how == "each":
        await each_by_its_caller(sender.send, messages)
    elif how == "batches":
        for start in range(0, len(messages), 1000):
            await sender.send(*messages[start : start + 1000])
    else:
        encoding: Encoding = "zstd" if how.endswith("zstd") else "identity"
        async with Packer(sender, encoding=encoding) as packer:
            chunks = [messages[start : start + 20] for start in range(0, len(messages), 20)]
            await each_by_its_caller(lambda chunk: packer.send(*chunk), chunks)


async def consuming(source: Source, count: int, concurrency: int, clock: Clock) -> None:
    """Handle so many messages; waits for their acks, and for a long poll that nobody needs: that is not throughput."""
    left = count
    done = asyncio.Event()

    async def handle(message: Message[Any]) -> None:
        nonlocal left
        assert message.body["order"]
        left -= 1
        if not left:
            done.set()

    consumer = Consumer(source, handle, concurrency=concurrency)
    running = asyncio.create_task(consumer.run())
    await done.wait()
    clock.ended = time.perf_counter()
    await consumer.stop()
    await running


async def ours_consumes(url: str, messages: Sequence[Message[Any]], how: str) -> Ran:
    """A consumer of what was sent in one of the ways."""
    meter, name = UsageMeter(), f"q{next(_names)}"
    async with sqs_stub.transport(url, meter=meter) as aws:
        await sqs_stub.make_queue(aws, name)
        queue = aws.queue(name)
        await sending(queue, messages, how)
        await queue.attributes()
        before = meter.total().units
        async with Clock() as clock:
            await consuming(queue, len(messages), 100, clock)
        return clock.ran(len(messages), meter.total().units - before)


async def embedded(messages: Sequence[Message[Any]], how: str) -> Ran:
    """Sent, handled and acknowledged on the embedded transport."""
    async with MemoryTransport() as memory:
        return await through(memory.queue("q"), messages, how)


async def broker(url: str, messages: Sequence[Message[Any]], how: str) -> Ran:
    """The same on a running broker."""
    from eip.transports.activemq import ActiveMQTransport  # noqa: PLC0415 - an extra

    async with ActiveMQTransport(url) as activemq:
        return await through(activemq.queue(f"throughput-{next(_names)}-{time.time_ns()}"), messages, how)


async def through(queue: Queue, messages: Sequence[Message[Any]], how: str) -> Ran:
    """Sent, handled and acknowledged on a queue."""
    async with Clock() as clock, asyncio.TaskGroup() as tasks:
        tasks.create_task(sending(queue, messages, how))
        await consuming(queue, len(messages), 100, clock)
    return clock.ran(len(messages), 0)


def contests(
    url: str, few: Sequence[Message[Any]], many: Sequence[Message[Any]], activemq: str | None
) -> dict[str, dict[str, Run]]:
    """By contest, its entrants; the first is what the others are compared with."""
    found: dict[str, dict[str, Run]] = {
        "sending to SQS": {
            "aioboto3, one by one": lambda: sdk_sends(url, few, batch=1),
            "aioboto3, ten by hand": lambda: sdk_sends(url, few, batch=10),
            "eip, each by its caller": lambda: ours_sends(url, few, "each"),
            "eip, batches": lambda: ours_sends(url, few, "batches"),
            "eip, packed": lambda: ours_sends(url, many, "packed"),
            "eip, packed + zstd": lambda: ours_sends(url, many, "packed + zstd"),
        },
        "publishing to SNS": {
            "aioboto3, one by one": lambda: sdk_publishes(url, few),
            "eip, each by its caller": lambda: ours_sends(url, few, "each", to="topic"),
            "eip, packed": lambda: ours_sends(url, many, "packed", to="topic"),
            "eip, packed + zstd": lambda: ours_sends(url, many, "packed + zstd", to="topic"),
        },
        "putting to EventBridge": {
            "aioboto3, one by one": lambda: sdk_puts(url, few),
            "eip, each by its caller": lambda: ours_sends(url, few, "each", to="bus"),
            "eip, packed": lambda: ours_sends(url, many, "packed", to="bus"),
            "eip, packed + zstd": lambda: ours_sends(url, many, "packed + zstd", to="bus"),
        },
        "consuming from SQS": {
            "aioboto3, delete one by one": lambda: sdk_consumes(url, few, batched=False),
            "aioboto3, delete ten": lambda: sdk_consumes(url, few, batched=True),
            "eip, plain": lambda: ours_consumes(url, few, "batches"),
            "eip, packed": lambda: ours_consumes(url, many, "packed"),
            "eip, packed + zstd": lambda: ours_consumes(url, many, "packed + zstd"),
        },
        "the embedded transport, sent to acknowledged": {
            "eip, each by its caller": lambda: embedded(many, "each"),
            "eip, packed": lambda: embedded(many, "packed"),
        },
    }
    if activemq is not None:
        found["ActiveMQ, sent to acknowledged"] = {
            "eip, each by its caller": lambda: broker(activemq, few, "each"),
            "eip, packed": lambda: broker(activemq, many, "packed"),
        }
    return found


async def contest(title: str, entrants: dict[str, Run], rounds: int) -> list[dict[str, Any]]:
    """The entrants take turns, the first time to warm up; medians."""
    runs: dict[str, list[Ran]] = {name: [] for name in entrants}
    for number in range(rounds + 1):
        progress(f"{title}, round {number} of {rounds}" if number else f"{title}, warm-up")
        for name, run in entrants.items():
            runs[name].append(await run())
    rows: list[dict[str, Any]] = []
    for name, (_, *ran) in runs.items():
        spent = [each.cpu / each.messages for each in ran]
        cpu = statistics.median(spent)
        rows.append(
            {
                "how": name,
                "messages/s": statistics.median(each.messages / each.seconds for each in ran),
                "messages per CPU s": 1 / cpu,
                "CPU, µs": cpu * 1e6,
                "spread": spread([each * 1e6 for each in spent]),
                "billed per million": ran[0].billed,
            }
        )
    for row in rows:
        row["× CPU"] = row["messages per CPU s"] / rows[0]["messages per CPU s"]
        row["÷ billed"] = (
            rows[0]["billed per million"] / row["billed per million"] if row["billed per million"] else 1.0
        )
    return rows


def draw(figure: Any, found: dict[str, list[dict[str, Any]]]) -> None:
    """A panel per contest."""
    shapes = {"height_ratios": [len(rows) for rows in found.values()]}
    panels = figure.subplots(len(found), 1, sharex=True, gridspec_kw=shapes)
    for axes, (title, rows) in zip(panels, found.items(), strict=True):
        bars(
            axes,
            [row["how"] for row in rows],
            [row["messages per CPU s"] for row in rows],
            unit="messages per CPU second",
        )
        axes.set_title(title, fontsize=9, loc="left")
        axes.label_outer()
    panels[0].set_xlim(left=500)


async def run(count: int, rounds: int, activemq: str | None) -> dict[str, list[dict[str, Any]]]:
    few, many = (events(each, type="OrderPaid", source="shop") for each in (count, 10 * count))
    with sqs_stub.running() as url:
        return {
            title: (await contest(title, entrants, rounds))
            for title, entrants in contests(url, few, many, activemq).items()
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer messages and rounds")
    parser.add_argument("--docs", action="store_true", help="renew the pages' plot")
    parser.add_argument("--activemq", metavar="URL", help="of a running broker, e.g. stomp://127.0.0.1:61613")
    options = parser.parse_args()
    count, rounds = (500, 3) if options.quick else (3000, 5)
    found = asyncio.run(run(count, rounds, options.activemq))
    for title, rows in found.items():
        print(table(title, list(rows[0]), [list(row.values()) for row in rows]))
    sent = {row["how"]: row for row in found["sending to SQS"]}
    aim = sent["eip, packed"]
    print(
        f"\nPacked sending: {aim['× CPU']:.0f} times the messages per CPU second of one-by-one aioboto3 (aim: 10), "
        f"{aim['÷ billed']:.0f} times fewer billed requests (aim: 50)."
    )
    plot("throughput", lambda figure: draw(figure, found), size=(8, 8.5), docs=options.docs)
    print(f"\nwritten to {save('throughput', found, 'aioboto3', 'aiobotocore', 'zstandard')}")


if __name__ == "__main__":
    main()
