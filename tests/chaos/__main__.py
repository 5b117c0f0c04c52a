"""Runs the chaos and draws the table: ``python -m tests.chaos --help``. The exit code is 1 where something was lost."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import structlog
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from eip import Message, Sender, Topology
from eip.errors import EipError, PartialSendError
from eip.stores.postgres_outbox import PostgresOutbox
from eip.topology import QueueSpec, StreamSpec, SubscriptionSpec, TopicSpec
from eip.transports.activemq import ActiveMQTransport
from eip.transports.aws import AwsTransport
from tests.chaos.worker import LEASE
from tests.support.activemq import HOME as ACTIVEMQ_HOME
from tests.support.activemq import ActiveMQBroker
from tests.support.aws import MotoServer
from tests.support.environment import ACCOUNT, ENVIRONMENT, REGION
from tests.support.kinesis import PACKAGE as KINESIS_PACKAGE
from tests.support.kinesis import KinesisServer
from tests.support.postgres import PostgresServer, binaries
from tests.support.processes import Service, dies_with_us

GROUPS = 20
MOST_RECEIVES = 1000
"""A kill is no reason to give a message up."""
SETTLE = 60.0
"""Seconds without news after the last kill, after which what has not come counts as lost."""


class Missing(Exception):
    """A service that is not installed here."""


@dataclass
class Outcome:
    """What came of a path."""

    path: str
    ordered: bool
    messages: int = 0
    kills: int = 0
    lost: int = 0
    repeated: int = 0
    out_of_order: int = 0
    seconds: float = 0.0
    skipped: str = ""

    @property
    def good(self) -> bool:
        """Whether all that is promised was kept: repeated messages are allowed."""
        return self.lost == 0 and self.out_of_order == 0


@dataclass
class Lab:
    """A path that is set up: where to send, and what can be killed."""

    notes: Path
    send: Callable[[list[Message[int]]], Awaitable[object]]
    workers: list[Worker]
    server: Service | None = None
    """Killed too, and started again; None: it keeps its messages in memory only."""


@dataclass
class Worker:
    """A process of `tests.chaos.worker`, started again after each kill."""

    arguments: tuple[str, ...]
    log: Path
    environment: dict[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*dies_with_us(), sys.executable, "-m", "tests.chaos.worker", *self.arguments],
                env={**os.environ, **ENVIRONMENT, **self.environment},
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        """Kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def _workers(folder: Path, role: str, url: str, channel: str, **environment: str) -> list[Worker]:
    arguments = (role, url, channel, str(folder / "notes"))
    return [Worker(arguments, folder / f"{role}-{number}.log", environment) for number in range(2)]


async def _send(channel: Sender, messages: list[Message[int]]) -> None:
    """Until all are accepted, in order: the sender is not what is tested here."""
    while messages:
        try:
            await channel.send(*messages)
        except PartialSendError as error:
            messages = [each.message for each in error.failed]
        except EipError:
            await asyncio.sleep(0.2)
        else:
            return


@asynccontextmanager
async def _served(server: Service) -> AsyncIterator[None]:
    await asyncio.to_thread(server.start)
    try:
        yield
    finally:
        server.kill()


@asynccontextmanager
async def _on_aws(folder: Path, channel: str, topology: Topology) -> AsyncIterator[tuple[AwsTransport, list[Worker]]]:
    moto = MotoServer(folder)
    async with _served(moto), AwsTransport(REGION, moto.url, account=ACCOUNT) as aws:
        await topology.apply(aws)
        yield aws, _workers(folder, "sqs", moto.url, channel)


def _queue(name: str) -> QueueSpec:
    return QueueSpec(name, visibility=LEASE, max_receive_count=MOST_RECEIVES)


@asynccontextmanager
async def sqs_standard(folder: Path) -> AsyncIterator[Lab]:
    """A standard queue, two consumers."""
    async with _on_aws(folder, "chaos", Topology(_queue("chaos"))) as (aws, workers):
        yield Lab(folder / "notes", lambda messages: _send(aws.queue("chaos"), messages), workers)


@asynccontextmanager
async def sqs_fifo(folder: Path) -> AsyncIterator[Lab]:
    """A FIFO queue, two consumers."""
    async with _on_aws(folder, "chaos.fifo", Topology(_queue("chaos.fifo"))) as (aws, workers):
        yield Lab(folder / "notes", lambda messages: _send(aws.queue("chaos.fifo"), messages), workers)


@asynccontextmanager
async def sns_fifo(folder: Path) -> AsyncIterator[Lab]:
    """A FIFO topic with a FIFO queue behind it, two consumers."""
    subscription = SubscriptionSpec("chaos.fifo", "all", queue=_queue("chaos-all.fifo"))
    topology = Topology(TopicSpec("chaos.fifo"), subscription)
    async with _on_aws(folder, "chaos-all.fifo", topology) as (aws, workers):
        yield Lab(folder / "notes", lambda messages: _send(aws.topic("chaos.fifo"), messages), workers)


@asynccontextmanager
async def activemq_groups(folder: Path) -> AsyncIterator[Lab]:
    """A queue with message groups, two consumers, and the broker killed as well."""
    if shutil.which("java") is None or not (ACTIVEMQ_HOME / "bin" / "activemq.jar").exists():
        raise Missing("activemq is not installed")
    broker = ActiveMQBroker(folder, sync=True)
    async with _served(broker), ActiveMQTransport(broker.url) as activemq:
        queue = activemq.queue("chaos")
        workers = _workers(folder, "activemq", broker.url, "chaos")
        yield Lab(folder / "notes", lambda messages: _send(queue, messages), workers, broker)


@asynccontextmanager
async def kinesis(folder: Path) -> AsyncIterator[Lab]:
    """A stream of four shards, two workers."""
    if not (KINESIS_PACKAGE.exists() and shutil.which("node")):
        raise Missing("kinesis-local is not installed")
    server = KinesisServer(folder)
    async with _served(server), AwsTransport(REGION, server.url, account=ACCOUNT) as aws:
        await Topology(StreamSpec("chaos", shards=4)).apply(aws)
        workers = _workers(folder, "kinesis", server.url, "chaos")
        yield Lab(folder / "notes", lambda messages: _send(aws.stream("chaos"), messages), workers)


@asynccontextmanager
async def outbox(folder: Path) -> AsyncIterator[Lab]:
    """An outbox in PostgreSQL, two relays to a FIFO queue, a consumer; relays, consumer and database are killed."""
    found = binaries()
    if found is None:
        raise Missing("postgresql is not installed")
    with tempfile.TemporaryDirectory(prefix="eip-chaos-", ignore_cleanup_errors=True) as data:
        database = PostgresServer(Path(data), found)
        database.initialise()
        topology = Topology(_queue("chaos.fifo"))
        async with _served(database), _on_aws(folder, "chaos.fifo", topology) as (_, workers):
            _, url, channel, notes = workers[0].arguments
            relays = [
                Worker(("relay", url, channel, notes), folder / f"relay-{number}.log", {"CHAOS_DSN": database.dsn})
                for number in range(2)
            ]
            made = PostgresOutbox(database.dsn)
            await made.create()
            try:
                yield Lab(
                    folder / "notes", lambda each: _write(database.dsn, made, each), [*relays, workers[0]], database
                )
            finally:
                await made.aclose()


async def _write(dsn: str, outbox: PostgresOutbox, messages: list[Message[int]]) -> None:
    """In one transaction; a commit that was not confirmed may have happened, so it is looked for before another try."""
    while True:
        try:
            connection = await asyncpg.connect(dsn, timeout=5)
            try:
                await connection.execute("CREATE TABLE IF NOT EXISTS written (id TEXT PRIMARY KEY)")
                if not await connection.fetchval("SELECT 1 FROM written WHERE id = $1", messages[0].id):
                    async with connection.transaction():
                        await connection.execute("INSERT INTO written VALUES ($1)", messages[0].id)
                        await outbox.add(connection, "out", *messages)
                return
            finally:
                connection.terminate()
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError):
            await asyncio.sleep(0.2)


PATHS: dict[str, tuple[Callable[[Path], Any], bool]] = {
    "SQS standard": (sqs_standard, False),
    "SQS FIFO": (sqs_fifo, True),
    "SNS FIFO": (sns_fifo, True),
    "ActiveMQ groups": (activemq_groups, True),
    "Kinesis": (kinesis, True),
    "Outbox": (outbox, True),
}


async def chaos(path: str, seconds: float, dice: random.Random, tell: Callable[[Outcome, float], None]) -> Outcome:
    """Send, kill and start again for so long, then wait for the rest."""
    make, ordered = PATHS[path]
    outcome, begun = Outcome(path, ordered), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="eip-chaos-", ignore_cleanup_errors=True) as name:
        async with AsyncExitStack() as stack:
            try:
                lab = await stack.enter_async_context(make(Path(name)))
            except Missing as missing:
                outcome.skipped = str(missing)
                return outcome
            for worker in lab.workers:
                worker.start()
                stack.callback(worker.kill)
            sending = asyncio.create_task(_flow(lab, seconds))
            stack.callback(sending.cancel)
            await _kill(lab, outcome, seconds, dice, lambda part: tell(outcome, part))
            sent = await sending
            await _settled(lab, sent)
            _judge(outcome, sent, _noted(lab))
            if not outcome.good:
                _keep(Path(name), path)
    outcome.seconds = time.monotonic() - begun
    return outcome


async def _flow(lab: Lab, seconds: float) -> int:
    """Send numbers for so long, each group's in order; how many."""
    until, number = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        batch = [Message(each, group_id=f"g{each % GROUPS}") for each in range(number, number + GROUPS)]
        await lab.send(batch)
        number += len(batch)
        await asyncio.sleep(0.1)
    return number


async def _kill(lab: Lab, outcome: Outcome, seconds: float, dice: random.Random, tell: Callable[[float], None]) -> None:
    begun = time.monotonic()
    while (gone := time.monotonic() - begun) < seconds:
        tell(gone / seconds)
        await asyncio.sleep(dice.uniform(1.0, 4.0))
        outcome.kills += 1
        if lab.server is not None and outcome.kills % 5 == 0:
            await asyncio.to_thread(lab.server.restart, hard=True)
        else:
            worker = dice.choice(lab.workers)
            worker.kill()
            worker.start()


async def _settled(lab: Lab, sent: int) -> None:
    """Return once all have come, or nothing has for long."""
    seen, quiet_since = -1, time.monotonic()
    while len(came := set(_noted(lab))) < sent and time.monotonic() - quiet_since < SETTLE:
        if len(came) != seen:
            seen, quiet_since = len(came), time.monotonic()
        await asyncio.sleep(0.2)


def _noted(lab: Lab) -> list[tuple[str, int]]:
    """Group and number of each message that was handled, as often as it was."""
    if not lab.notes.exists():
        return []
    lines = (line.split() for line in lab.notes.read_text().splitlines())
    return [(group, int(number)) for group, number in lines]


def _judge(outcome: Outcome, sent: int, noted: list[tuple[str, int]]) -> None:
    counted = Counter(noted)
    outcome.messages = sent
    outcome.lost = sent - len(counted)
    outcome.repeated = len(noted) - len(counted)
    if outcome.ordered:
        latest: dict[str, int] = {}
        for group, number in dict.fromkeys(noted):  # what is repeated was in order when it came first
            outcome.out_of_order += number < latest.get(group, -1)
            latest[group] = max(number, latest.get(group, -1))


def _keep(folder: Path, path: str) -> None:
    """What a failure is to be understood from."""
    kept = Path("artifacts") / f"chaos-{path.lower().replace(' ', '-')}"
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(folder, kept, ignore=shutil.ignore_patterns("data", "kahadb", "*.sock"))


def _table(outcomes: list[Outcome]) -> Table:
    table = Table("path", "messages", "kills", "lost", "repeated", "out of order", "seconds", title="Chaos")
    for column in table.columns[1:]:
        column.justify = "right"
    for each in outcomes:
        if each.skipped:
            table.add_row(each.path, f"skipped: {each.skipped}")
            continue
        counts = (each.messages, each.kills, each.lost, each.repeated)
        order = f"{each.out_of_order:,}" if each.ordered else "-"
        table.add_row(each.path, *(f"{count:,}" for count in counts), order, f"{each.seconds:.0f}")
    return table


async def _run(options: argparse.Namespace, console: Console) -> list[Outcome]:
    outcomes: list[Outcome] = []
    with Progress(console=console) as progress:
        bars: dict[str, TaskID] = {path: progress.add_task(path, total=1.0) for path in options.paths}

        def tell(outcome: Outcome, part: float) -> None:
            progress.update(bars[outcome.path], completed=part, description=f"{outcome.path}: {outcome.kills} kills")

        for path in options.paths:
            outcomes.append(await chaos(path, options.seconds, random.Random(options.seed), tell))
            progress.update(bars[path], completed=1.0)
    return outcomes


def main() -> int:
    """Run it; the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of kills on each path (default: 20)")
    parser.add_argument("--seed", type=int, default=1, help="of the kills (default: 1)")
    parser.add_argument("--paths", nargs="+", choices=PATHS, default=list(PATHS), help="default: all", metavar="PATH")
    options = parser.parse_args()
    os.environ.update(ENVIRONMENT)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    console = Console()
    outcomes = asyncio.run(_run(options, console))
    console.print(_table(outcomes))
    return 0 if all(each.good for each in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
