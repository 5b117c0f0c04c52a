"""Workers in processes of their own, for tests that stop and kill them: each notes what it handled."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

from tests.support.environment import ENVIRONMENT
from tests.support.processes import dies_with_us

SCRIPT = """
import asyncio, os, sys, time
from eip import Consumer, run
from eip.stores import SqliteStore
from eip.streams import GroupOptions
from eip.transports.aws import AwsTransport, ReadRate

url, region, account, stream, leases, notes = sys.argv[1:]

async def main():
    file = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    async def handle(message):
        os.write(file, b"%d %s %d\\n" % (time.monotonic_ns(), message.group_id.encode(), message.body))

    options = GroupOptions(failover=4.0, checkpoint_interval=0.4)
    rate = ReadRate(calls=20, bytes=1 << 30, idle=0.2)
    async with AwsTransport(region, url, account=account) as aws:
        group = aws.stream(stream, reads=rate).group(
            "g", start="trim_horizon", leases=SqliteStore(leases, "leases"), options=options
        )
        consumer = Consumer(group, handle)
        print("ready", flush=True)
        await run(consumer)
        print("handled", consumer.stats.handled, "lost", consumer.stats.lost, flush=True)

asyncio.run(main())
"""


class Fleet:
    """Worker processes of one group, and what they noted."""

    def __init__(self, server, account: str, stream: str, folder: Path) -> None:
        self._server, self._account, self._stream, self._folder = server, account, stream, folder
        self._processes: dict[str, asyncio.subprocess.Process] = {}

    async def start(self, name: str) -> None:
        with (self._folder / f"{name}.log").open("wb") as log:
            self._processes[name] = await asyncio.create_subprocess_exec(
                *(*dies_with_us(), sys.executable, "-c", SCRIPT),
                *(self._server.url, self._server.region, self._account, self._stream),
                *(str(self._folder / "leases.db"), str(self._notes(name))),
                env={**os.environ, **ENVIRONMENT},
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
            )

    async def end(self, name: str, by: signal.Signals) -> None:
        process = self._processes.pop(name)
        process.send_signal(by)
        await process.wait()

    async def aclose(self) -> None:
        for name in list(self._processes):
            await self.end(name, signal.SIGKILL)

    def noted(self, name: str) -> list[tuple[int, str, int]]:
        """When, key and number of each record that a worker handled."""
        if not self._notes(name).exists():
            return []
        lines = self._notes(name).read_text().splitlines(keepends=True)
        lines = [line for line in lines if line.endswith("\n")]  # the last one may be half written
        return [(int(at), key, int(number)) for at, key, number in (line.split() for line in lines)]

    @property
    def names(self) -> list[str]:
        return [path.name.removesuffix(".notes") for path in self._folder.glob("*.notes")]

    def handled(self, name: str) -> set[int]:
        return {number for _, _, number in self.noted(name)}

    @property
    def all(self) -> set[int]:
        return set().union(*map(self.handled, self.names))

    async def until(self, condition, *, within: float) -> None:
        deadline = time.monotonic() + within
        while not condition():
            assert time.monotonic() < deadline, {name: len(self.noted(name)) for name in self.names}
            await asyncio.sleep(0.2)

    def check(self, count: int, *, killed: set[str]) -> int:
        """Everything was handled, each key in order, twice only what a killed worker had done; returns how many."""
        notes = sorted(note for name in self.names for note in self.noted(name))
        times = Counter(number for _, _, number in notes)
        assert set(times) == set(range(count))
        twice = {number for number, many in times.items() if many > 1}
        assert twice <= set().union(*map(self.handled, killed))
        first: dict[str, list[int]] = defaultdict(list)
        seen: set[int] = set()
        for _, key, number in notes:
            if number not in seen:
                seen.add(number)
                first[key].append(number)
        for key, numbers in first.items():
            assert numbers == sorted(numbers), key
        return sum(times.values()) - count

    def _notes(self, name: str) -> Path:
        return self._folder / f"{name}.notes"
