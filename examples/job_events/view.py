"""A view of the running application in the terminal: rates, lag, what each service counts, dead letters."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from eip import Consumer
from eip.errors import EipError
from examples.job_events.agency import Generator
from examples.job_events.analytics import Analytics
from examples.job_events.channels import ANALYTICS, DEAD_LETTERS, INVALID, INVENTORY, Channels
from examples.job_events.inventory import Inventory
from examples.job_events.model import JobEvent
from examples.job_events.publisher import Publisher

__all__ = ["Parts", "View"]

_BARS: Final = " ▁▂▃▄▅▆▇█"
_STYLES: Final = {"JobCreated": "green", "JobSalaryUpdated": "yellow", "JobDeleted": "red"}


@dataclass(kw_only=True)
class Parts:
    """What runs in this process."""

    channels: Channels | None = None
    generator: Generator | None = None
    publisher: Publisher | None = None
    analytics: Analytics | None = None
    inventory: Inventory | None = None


@dataclass
class _Rate:
    """A count, and how it grew each second."""

    counted: Callable[[], int]
    past: deque[float] = field(default_factory=lambda: deque(maxlen=20))
    last: int = 0

    def sample(self, seconds: float) -> None:
        count = self.counted()
        self.past.append((count - self.last) / seconds)
        self.last = count

    @property
    def now(self) -> float:
        return self.past[-1] if self.past else 0.0

    @property
    def curve(self) -> str:
        most = max(self.past, default=0.0) or 1.0
        return "".join(_BARS[round(each / most * (len(_BARS) - 1))] for each in self.past)


class View:
    """A service, see `eip.runtime.service.Service`: draws what `Parts` do.

    Args:
        parts: what there is.
        title: over it.
        console: where it is drawn; on a terminal it is drawn again in place, elsewhere a line is printed.
        every: seconds between two samples.
    """

    def __init__(self, parts: Parts, *, title: str, console: Console, every: float = 1.0) -> None:
        self._parts, self._title, self._console, self._every = parts, title, console, every
        self._stopping = asyncio.Event()
        self._depths: dict[str, int | None] = {}
        self._behind = ""
        self.picture: RenderableType = ""
        """The last one drawn while all was running."""
        self._rates: dict[str, _Rate] = {}
        if parts.generator is not None:
            generator = parts.generator
            self._rates["agency"] = _Rate(lambda: generator.transactions)
        if parts.publisher is not None:
            publisher = parts.publisher
            self._rates["publisher"] = _Rate(lambda: publisher.published)
        for name, service in (("analytics", parts.analytics), ("inventory", parts.inventory)):
            if service is not None:
                self._rates[name] = _Rate(_handled(service.consumer))

    async def run(self) -> None:
        """Draw until `stop`, and once more."""
        loop = asyncio.get_running_loop()
        with Live(console=self._console, auto_refresh=False, transient=False) as live:
            before = loop.time()
            while not self._stopping.is_set():
                try:
                    async with asyncio.timeout(self._every):
                        await self._stopping.wait()
                except TimeoutError:
                    pass
                now = loop.time()
                await self._sample(now - before)
                before = now
                drawn = self.render()
                if not self._stopping.is_set():
                    self.picture = drawn
                if self._console.is_terminal:
                    live.update(drawn, refresh=True)
                else:
                    self._console.print(self.line(), soft_wrap=True)

    async def stop(self) -> None:
        """Let `run` draw once more and return."""
        self._stopping.set()

    async def _sample(self, seconds: float) -> None:
        for rate in self._rates.values():
            rate.sample(max(seconds, 1e-3))
        if self._parts.publisher is not None:
            self._behind = await self._parts.publisher.behind()
        channels = self._parts.channels
        if channels is None:
            return
        try:
            for name in (ANALYTICS, INVENTORY, INVALID, *DEAD_LETTERS.values()):
                self._depths[name] = await channels.depth(name)
        except EipError:
            self._depths.clear()  # not known just now

    def line(self) -> str:
        """The state in a line, for logs."""
        rates = ", ".join(f"{name} {rate.last:,} ({rate.now:,.0f}/s)" for name, rate in self._rates.items())
        dead = sum(self._depths.get(name) or 0 for name in DEAD_LETTERS.values())
        behind = f", behind {self._behind}" if self._behind else ""
        return f"{rates}{behind}, dead letters {dead}"

    def render(self) -> RenderableType:
        """The state as a picture."""
        tables = Table.grid(padding=(0, 4))
        tables.add_row(self._services(), Group(self._queues(), "", self._dead_letters()))
        parts: list[RenderableType] = [tables]
        if self._parts.publisher is not None:
            parts += ["", self._latest(self._parts.publisher.recent)]
        return Panel(Group(*parts), title=self._title, title_align="left")

    def _services(self) -> Table:
        table = Table(
            "", "count", "per second", "", "lag", title="Services", title_justify="left", title_style="bold", box=None
        )
        for column in table.columns[1:3]:
            column.justify = "right"
        for name, rate in self._rates.items():
            table.add_row(name, f"{rate.last:,}", f"{rate.now:,.0f}", Text(rate.curve, "cyan"), self._lag(name))
        for name, value in self._counts().items():
            table.add_row(Text(f"  {name}", "dim"), f"{value:,}")
        return table

    def _lag(self, name: str) -> str:
        service = {"analytics": self._parts.analytics, "inventory": self._parts.inventory}.get(name)
        if name == "publisher":
            return self._behind
        return "" if service is None else f"{service.lag:.2f} s"

    def _counts(self) -> Mapping[str, int]:
        counts: dict[str, int] = {}
        if self._parts.publisher is not None:
            counts["changes read"] = self._parts.publisher.changes
            counts["put aside"] = self._parts.publisher.put_aside
            counts["publishing failed"] = self._parts.publisher.failures
        if self._parts.analytics is not None:
            counts["objects written"] = self._parts.analytics.lake.objects
            counts["lines known"] = self._parts.analytics.lake.duplicates
            counts["analytics retried"] = self._parts.analytics.consumer.stats.retried
        if self._parts.inventory is not None:
            counts["events known"] = self._parts.inventory.stale
            counts["inventory retried"] = self._parts.inventory.consumer.stats.retried
        return counts

    def _queues(self) -> Table:
        table = Table("", "messages", title="Queues", title_justify="left", title_style="bold", box=None)
        table.columns[1].justify = "right"
        for name in (ANALYTICS, INVENTORY, INVALID):
            table.add_row(name, self._depth(name))
        return table

    def _dead_letters(self) -> Table:
        table = Table("", "messages", title="Dead letters", title_justify="left", title_style="bold", box=None)
        table.columns[1].justify = "right"
        for label, name in DEAD_LETTERS.items():
            table.add_row(label, Text(self._depth(name), "bold red" if self._depths.get(name) else ""))
        return table

    def _depth(self, name: str) -> str:
        depth = self._depths.get(name)
        return "?" if depth is None else f"{depth:,}"

    @staticmethod
    def _latest(events: deque[JobEvent]) -> Table:
        table = Table(
            "", "", "", title="Latest events", title_justify="left", title_style="bold", box=None, show_header=False
        )
        for event in reversed(events):
            table.add_row(f"{event.occurred_at:%H:%M:%S}", Text(event.type, _STYLES[event.type]), event.subject)
        return table


def _handled(consumer: Consumer) -> Callable[[], int]:
    return lambda: consumer.stats.handled
