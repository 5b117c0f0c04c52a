"""A simulated herd: unicorns that move about, and answer after a while, too late, or not at all.

They are clients of unicorn management like any unicorn's app, in the same process or over HTTP:

    python -m examples.rfq.herd http://127.0.0.1:8080 --unicorns 12
"""

from __future__ import annotations

import argparse
import asyncio
import random
import ssl
import sys
from contextlib import AbstractAsyncContextManager, aclosing
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol

from eip import Backoff, clock, run
from eip._logging import get_logger
from eip._repeated import RepeatedLines
from eip.errors import EipError
from examples.rfq.model import UnicornAnswer
from examples.rfq.push import Event, Events
from examples.rfq.questions import AnsweredAlready, NotAsked, TooLate
from examples.rfq.vicinity import Position

__all__ = ["App", "Entrance", "Herd", "Unicorn"]

_lines = RepeatedLines(get_logger("examples.rfq.herd"))

_NAMES: Final = (
    "Shadowfax",
    "Rocinante",
    "Bucephalus",
    "Binky",
    "Pegasus",
    "Stormcloud",
    "Twinkle",
    "Amalthea",
    "Ixion",
    "Luna",
)
_MOVES_EVERY_S: Final = 5.0
"""Seconds."""
_RETRY_BACKOFF: Final = Backoff(base=2.0, cap=30.0)
"""How long a unicorn that lost its session waits before it signs in again."""


class App(Protocol):
    """What a unicorn's app can do: `sessions.Session`, or the same over HTTP."""

    def changes(self) -> Events:
        """Its place and its questions, and each change of them."""
        ...

    async def move(self, position: Position) -> None:
        """Go there."""
        ...

    async def answer(self, answer: UnicornAnswer) -> None:
        """Quote or decline; raises `TooLate`, `NotAsked` or `AnsweredAlready`."""
        ...


class Entrance(Protocol):
    """Where unicorns sign in: `unicorns.Unicorns`, or the same over HTTP."""

    def signed_in(self, unicorn: str, name: str, position: Position) -> AbstractAsyncContextManager[App]:
        """A session for the length of a block."""
        ...


class Unicorn:
    """One unicorn with its ways."""

    def __init__(self, number: int, entrance: Entrance, dice: random.Random, *, herd: str, patience: float) -> None:
        self.id = f"{herd}-{number}"
        self.name = f"{_NAMES[number % len(_NAMES)]} {number // len(_NAMES) + 1}"
        self.position = Position(x=dice.random(), y=dice.random())
        self.reliability = dice.uniform(0.7, 1.0)
        """How likely it answers."""
        self.listening = False
        """Whether questions asked in its zone reach it."""
        self._entrance, self._dice, self._patience = entrance, dice, patience

    async def run(self) -> None:
        """Wander about until cancelled; where its session ends, it signs in again."""
        failed = 0
        while True:
            try:
                await self._attend()
            except* (EipError, OSError) as errors:
                _lines.warning("unicorn_not_signed_in", varying={"unicorn": self.id}, error=repr(errors.exceptions[0]))
            failed = 0 if self.listening else failed + 1
            self.listening = False
            await asyncio.sleep(_RETRY_BACKOFF.delay(failed + 1))

    async def _attend(self) -> None:
        asked = set[str]()
        async with (
            self._entrance.signed_in(self.id, self.name, self.position) as app,
            asyncio.TaskGroup() as tasks,
            aclosing(app.changes()) as changes,
        ):
            wandering = tasks.create_task(self._wander(app))
            answering = set[asyncio.Task[None]]()
            async for change in changes:
                if change is not None and self._asks(change, asked):
                    considering = tasks.create_task(self._consider(app, change.data))
                    answering.add(considering)
                    considering.add_done_callback(answering.discard)
            for task in (wandering, *answering):
                task.cancel()

    def _asks(self, change: Event, asked: set[str]) -> bool:
        """Whether it is a question that was not asked before."""
        if change.kind == "place":
            self.listening = change.data["listening"]
        if change.kind != "rfq":
            return False
        rfq, known = change.data["rfq"], change.data["rfq"] in asked
        if change.data["state"] == "open":
            asked.add(rfq)
            return not known
        asked.discard(rfq)
        return False

    async def _wander(self, app: App) -> None:
        while True:
            await asyncio.sleep(self._dice.uniform(0.5, 1.5) * _MOVES_EVERY_S)
            self.position = Position(x=self._step(self.position.x), y=self._step(self.position.y))
            await app.move(self.position)

    def _step(self, value: float) -> float:
        return min(max(value + self._dice.gauss(0, 0.03), 0.0), 0.999)

    async def _consider(self, app: App, question: dict[str, Any]) -> None:
        """Answer after a random time, decline, dawdle until it is too late, or forget about it."""
        deadline = datetime.fromisoformat(question["eta"]).timestamp()
        await asyncio.sleep(self._dice.uniform(0.05, 0.7) * min(deadline - clock.now(), self._patience))
        mood = self._dice.random()
        if mood > self.reliability:
            return
        if 0.05 < mood < 0.09:
            await asyncio.sleep(max(0.0, deadline - clock.now()) + self._dice.uniform(0.5, 3.0))
        try:
            await app.answer(self._refusal(question) if mood < 0.05 else self._offer(question))
        except (TooLate, NotAsked, AnsweredAlready):
            return
        except EipError as error:
            _lines.warning("not_answered", varying={"unicorn": self.id}, error=repr(error))

    def _offer(self, question: dict[str, Any]) -> UnicornAnswer:
        start, end = Position(**question["start"]), Position(**question["destination"])
        way = self.position.distance(start)
        price = (2.0 + 30.0 * start.distance(end) + 8.0 * way) * self._dice.uniform(0.85, 1.25)
        return UnicornAnswer(rfq=question["rfq"], price=round(price, 2), minutes=round(1 + 40 * way, 1))

    @staticmethod
    def _refusal(question: dict[str, Any]) -> UnicornAnswer:
        return UnicornAnswer(rfq=question["rfq"], declined="too tired")


class Herd:
    """Several unicorns, as a service.

    Args:
        entrance: where they sign in.
        size: how many there are.
        seed: of their luck and their ways; None: another one each time.
        patience: seconds that an answer takes at most.
        name: what its unicorns' ids begin with; each herd on the same channels needs another.
    """

    def __init__(
        self,
        entrance: Entrance,
        *,
        size: int = 60,
        seed: int | None = None,
        patience: float = 20.0,
        name: str = "unicorn",
    ) -> None:
        dice = random.Random(seed)
        self.unicorns = [
            Unicorn(number, entrance, random.Random(dice.random()), herd=name, patience=patience)
            for number in range(size)
        ]
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Let them run until `stop`."""
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(unicorn.run()) for unicorn in self.unicorns]
            await self._stopping.wait()
            for task in running:
                task.cancel()

    @property
    def ids(self) -> list[str]:
        """The ids of its unicorns."""
        return [unicorn.id for unicorn in self.unicorns]

    async def missing(self) -> list[str]:
        """What it is not ready without, for people to read; empty: ready."""
        deaf = sum(not unicorn.listening for unicorn in self.unicorns)
        return [f"{deaf} of {len(self.unicorns)} unicorns, which do not listen yet"] if deaf else []

    async def stop(self) -> None:
        """Call them home."""
        self._stopping.set()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.rfq.herd", description="A simulated herd, over HTTP.")
    parser.add_argument("url", help="of the service that manages unicorns, e.g. http://127.0.0.1:8080")
    parser.add_argument("--unicorns", type=int, default=12, help="how many (default: 12)")
    parser.add_argument("--herd", default="unicorn", metavar="NAME", help="what their names in the log begin with")
    parser.add_argument("--patience", type=float, default=20.0, metavar="S", help="how long an answer takes at most")
    parser.add_argument("--seed", type=int, help="of the simulation; default: another one each time")
    parser.add_argument(
        "--tokens", type=Path, metavar="FILE", help="a token for each, one a line; default: none needed"
    )
    parser.add_argument("--ca", type=Path, metavar="PEM", help="the authorities of an https URL; default: the system's")
    options = parser.parse_args()
    options.given = options.tokens.read_text(encoding="utf-8").split() if options.tokens else None
    if options.unicorns < 1 or (options.given is not None and len(options.given) < options.unicorns):
        parser.error("--unicorns is at least 1, and at most as many as there are --tokens")
    return options


def main() -> int:
    """Run it until SIGTERM or Ctrl-C; the process's exit code."""
    from examples.rfq.unicorn_client import RemoteEntrance  # noqa: PLC0415 - only here websockets are needed

    options = _arguments()
    tls = ssl.create_default_context(cafile=options.ca) if options.url.startswith("https:") else None
    entrance = RemoteEntrance(options.url, tokens=options.given, tls=tls)
    herd = Herd(entrance, size=options.unicorns, seed=options.seed, patience=options.patience, name=options.herd)
    asyncio.run(run(herd))
    return 0


if __name__ == "__main__":
    sys.exit(main())
