"""The agency at work: a generator of realistic changes of its database."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from typing import Final

import asyncpg
import structlog

from eip import Backoff
from examples.job_events.database import Database, Edit

__all__ = ["Agency", "Generator"]

_log = structlog.get_logger("examples.job_events")

_TITLES: Final = ("Nurse", "Electrician", "Data engineer", "Cook", "Teacher", "Bus driver", "Accountant", "Carpenter")
_EMPLOYERS: Final = (
    "Charité",
    "Stadtwerke",
    "Bakery Lenz",
    "Norde & Co",
    "Riverside School",
    "Hotel Adria",
    "Kombinat",
)
_CITIES: Final = ("Berlin", "Leipzig", "Wien", "Zürich", "Hamburg", "Basel", "Graz")
_NOTES: Final = ("called back", "two candidates", "interview on Friday", "asks for references", "wait until May")


class Agency:
    """Decides what happens next; the numbers of filled jobs are given to new ones.

    Args:
        dice: decides.
        jobs: how many numbers there are.
        taken: the numbers in use.
    """

    def __init__(self, dice: random.Random, jobs: int, taken: set[int]) -> None:
        self._dice, self._taken = dice, sorted(taken)
        self._free = [each for each in range(1, jobs + 1) if each not in taken]
        dice.shuffle(self._free)

    def next(self) -> list[Edit]:
        """The edits of the next transaction: mostly one, at times several, at times one that changes many rows."""
        dice = self._dice
        happens = dice.random()
        if self._free and (
            not self._taken or happens < 0.15 + 0.5 * len(self._free) / (len(self._free) + len(self._taken))
        ):
            return [self._open()]
        if happens < 0.75:
            return [Edit.set(dice.choice(self._taken), "sal_minor", dice.randrange(24_000, 120_000, 500) * 100)]
        if happens < 0.85:
            return [Edit.set(dice.choice(self._taken), "rec_note", dice.choice(_NOTES))]
        if happens < 0.96:
            return [self._fill()]
        if happens < 0.99:
            return [self._fill() for _ in range(min(len(self._taken), dice.randint(2, 5)))]
        return [Edit.raise_all(dice.choice(_EMPLOYERS), dice.choice((-1, 2, 3)))]

    def _open(self) -> Edit:
        dice, number = self._dice, self._free.pop()
        self._taken.append(number)
        salary = None if dice.random() < 0.01 else dice.randrange(24_000, 120_000, 500) * 100
        return Edit.insert(
            number, dice.choice(_TITLES), dice.choice(_EMPLOYERS), dice.choice(_CITIES), salary, "EUR", None
        )

    def _fill(self) -> Edit:
        place = self._dice.randrange(len(self._taken))
        self._taken[place], self._taken[-1] = self._taken[-1], self._taken[place]
        number = self._taken.pop()
        self._free.insert(0, number)
        return Edit.delete(number)


class Generator:
    """A service, see `eip.runtime.service.Service`: lets the agency work on its database.

    Args:
        database: opened and closed here.
        rate: transactions per second; 0: as many as go.
        jobs: at most so many at a time.
        limit: transactions, after which it rests.
        seed: of what happens.
    """

    def __init__(
        self,
        database: Database,
        *,
        rate: float = 50.0,
        jobs: int = 500,
        limit: int | None = None,
        seed: int | None = None,
    ) -> None:
        self._database, self._rate, self._jobs, self._limit = database, rate, jobs, limit
        self._dice = random.Random(seed)
        self._stopping = asyncio.Event()
        self.done = asyncio.Event()
        """Set once the limit is reached."""
        self.transactions = 0
        """Committed since the start."""

    async def run(self) -> None:
        """Work until `stop`; while the database fails it tries again."""
        failed, retry = 0, Backoff(base=0.5, cap=10.0)
        while not self._stopping.is_set() and not self.done.is_set():
            try:
                async with self._database:
                    await self._work(Agency(self._dice, self._jobs, await self._database.numbers()))
                failed = 0
            except (asyncpg.PostgresError, asyncpg.InterfaceError, sqlite3.Error, OSError) as error:
                failed += 1
                _log.warning("agency_failed", error=str(error))
                await self._pause(retry.delay(failed))
        await self._stopping.wait()

    async def stop(self) -> None:
        """Let `run` return."""
        self._stopping.set()

    async def _work(self, agency: Agency) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        count = 0
        while not self._stopping.is_set():
            if self._limit is not None and self.transactions >= self._limit:
                self.done.set()
                return
            await self._database.commit(*agency.next())
            self.transactions += 1
            count += 1
            ahead = begun + count / self._rate - loop.time() if self._rate else 0.0
            await self._pause(max(ahead, 0.0))

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return
