"""Processes with an inbox and a relay, killed with kill -9.

    python -m tests.stores.inbox_kills DSN FOLDER CLIENT MESSAGES SEED KILLS

Messages come from a list until a worker notes in a file that they are acknowledged, as from a queue: several workers
may have the same one. Workers and relays are forked, so that a process costs no imports. With SEED 0 they kill
themselves at each place that matters, one after the other; otherwise they are killed at random, KILLS times.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from typing_extensions import override

from eip import Message
from eip.channels import Sender
from eip.patterns.inbox import Inbox
from eip.patterns.outbox import OutboxRelay
from eip.stores.postgres_inbox import PostgresInbox
from eip.stores.postgres_outbox import PostgresOutbox
from tests.support.clients import CLIENTS, execute, execute_now

PLACES = ("handler", "committed", "sent")


def note(path: Path, line: object) -> None:
    with path.open("a") as file:
        file.write(f"{line}\n")


def noted(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


class Log(Sender):
    """The channel that the relay sends to."""

    name = address = "log"

    def __init__(self, path: Path, die: Callable[[str, int], None]) -> None:
        self._path, self._die = path, die

    @override
    async def send(self, *messages: Message) -> None:
        for each in messages:
            note(self._path, each.body)
            self._die("sent", each.body)


class Processes:
    """What is forked, and where it dies."""

    def __init__(self, dsn: str, folder: Path, client: str, messages: int) -> None:
        self.dsn, self.client, self.messages = dsn, client, messages
        self.acked, self.sent = folder / "acked", folder / "sent"
        self.place = ""

    def die(self, place: str, number: int) -> None:
        if place == self.place and number % 5 == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    async def work(self) -> None:
        """Handle what is not acknowledged, in any order."""
        table, outbox = PostgresInbox(self.dsn), PostgresOutbox(self.dsn)
        inbox = Inbox(table, lambda: CLIENTS[self.client](self.dsn), outbox=outbox)
        is_async = self.client == "asyncpg" or "async" in self.client
        handle = self._asynchronous(inbox) if is_async else self._synchronous(inbox)
        left = sorted({*range(self.messages)} - {*noted(self.acked)})
        random.shuffle(left)
        slots = asyncio.Semaphore(4)

        async def once(number: int) -> None:
            async with slots:
                await handle(Message(number, id=str(number)))
                self.die("committed", number)
                note(self.acked, number)

        await asyncio.gather(*map(once, left))

    def _asynchronous(self, inbox: Inbox):
        @inbox.handler("kills", output="out")
        async def handle(message: Message, connection):
            await execute(connection, "INSERT INTO effects (n) VALUES (?)", message.body)
            self.die("handler", message.body)
            return Message(message.body, id=f"out-{message.body}")

        return handle

    def _synchronous(self, inbox: Inbox):
        @inbox.handler("kills", output="out")
        def handle(message: Message, connection):
            execute_now(connection, "INSERT INTO effects (n) VALUES (?)", message.body)
            self.die("handler", message.body)
            return Message(message.body, id=f"out-{message.body}")

        return handle

    async def relay(self) -> None:
        """Send until everything was."""
        outbox = PostgresOutbox(self.dsn)
        async with OutboxRelay(outbox, {"out": Log(self.sent, self.die)}, poll=0.02, lease=0.5):
            while len({*noted(self.acked)}) < self.messages or await outbox.unsent():
                await asyncio.sleep(0.02)
        await outbox.aclose()


def forked(work: Callable[[], object]) -> int:
    """The process that does the work; it ends with exit code 0, 1 where the work raises, or by its kill."""
    process = os.fork()
    if process:
        return process
    try:
        asyncio.run(work())  # type: ignore[arg-type]
    except BaseException as error:  # noqa: BLE001 - a child must not go on as its parent
        sys.stderr.write(f"{error!r}\n")
        os._exit(1)
    os._exit(0)


def ended(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def at_each_place(processes: Processes) -> None:
    for place in PLACES:
        processes.place = place
        assert ended(forked(processes.relay if place == "sent" else processes.work)) == -signal.SIGKILL, place
        if place == "committed":  # the relay has something to send, and ends only once all is acknowledged
            processes.place = ""
            assert ended(forked(processes.work)) == 0
    processes.place = ""
    assert ended(forked(processes.relay)) == 0


def at_random(processes: Processes, kills: int, dice: random.Random) -> None:
    """Three workers and two relays; one of them is killed and another forked, so many times."""
    works = [processes.work, processes.work, processes.work, processes.relay, processes.relay]
    running = [forked(each) for each in works]
    for _ in range(kills):
        time.sleep(dice.uniform(0.01, 0.15))
        victim = dice.randrange(len(works))
        os.kill(running[victim], signal.SIGKILL)
        ended(running[victim])
        running[victim] = forked(works[victim])
    for each in running:
        ended(each)
    assert ended(forked(processes.work)) == 0
    assert ended(forked(processes.relay)) == 0


def main() -> None:
    dsn, folder, client, messages, seed, kills = sys.argv[1:]
    processes = Processes(dsn, Path(folder), client, int(messages))
    if seed == "0":
        at_each_place(processes)
    else:
        at_random(processes, int(kills), random.Random(int(seed)))


if __name__ == "__main__":
    main()
