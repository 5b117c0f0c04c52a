"""How Python's garbage collector works while services run."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from eip._checks import check_integer, check_type

__all__ = ["GarbageCollection"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GarbageCollection:
    """Settings of the garbage collector for `eip.run`.

    The collector looks at all objects again whenever their number has grown by a quarter, so a process that holds many
    (100,000 messages in flight) spends up to a third of its time there. Reference counting frees what is in no cycle
    all the same, and messages, deliveries and requests are in none.

    A higher threshold keeps more of what is in cycles for longer: exceptions with their frames, ORM sessions, trees
    with parent links of the application. Measure memory (RSS) in a test under load before it is used.

    Args:
        freeze: once all services are ready, collect once, and leave out what exists by then (modules, classes, clients)
            of all later collections (`gc.freeze`). In a process that forks workers, freeze before the fork instead.
        threshold: objects made, less those freed, after which the youngest are looked at; None: as it is (700 to 2,000
            by the version of Python). `gc.set_threshold`.

    Raises:
        TypeError: an argument of the wrong type.
        ConfigurationError: a threshold below 1.
    """

    freeze: bool = True
    threshold: int | None = None

    def __post_init__(self) -> None:
        check_type("freeze", self.freeze, bool, "a bool")
        if self.threshold is not None:
            check_integer("threshold", self.threshold, least=1)

    @contextmanager
    def applied(self, services: Iterable[object]) -> Iterator[None]:
        """Apply the settings while the block runs, in a running event loop.

        Args:
            services: what exists once all of these are ready is frozen; those without a ``ready`` count as such.
        """
        before = gc.get_threshold()
        if self.threshold is not None:
            gc.set_threshold(self.threshold, *before[1:])
        freezing = asyncio.create_task(_freeze(services), name="gc.freeze") if self.freeze else None
        try:
            yield
        finally:
            gc.set_threshold(*before)
            if freezing is not None:
                freezing.cancel()
                gc.unfreeze()


async def _freeze(services: Iterable[object]) -> None:
    with suppress(asyncio.CancelledError):
        for service in services:
            ready: Any = getattr(service, "ready", None)
            if isinstance(ready, asyncio.Event):
                await ready.wait()
        gc.collect()
        gc.freeze()
