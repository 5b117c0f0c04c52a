"""Warns where a group handles less at once than its stream has shards."""

from __future__ import annotations

from collections.abc import Sequence

from eip.streams._context import WorkerContext, log
from eip.streams.balance import Seen

__all__ = ["CoverageWarning"]


class CoverageWarning:
    """Compares workers x parallelization with the shards, once for each number of them.

    A worker has all its shards in one event loop: what is computed for one keeps the others waiting. It knows its own
    parallelization only and takes the others' for the same.

    Args:
        context: of the worker.
        parallelization: what its consumer handles at once.
    """

    def __init__(self, context: WorkerContext, parallelization: int) -> None:
        self._context, self._parallelization = context, parallelization
        self._known: tuple[int, int] | None = None

    def look(self, seen: Sequence[Seen]) -> None:
        """Log a warning where the shards are more, unless it was logged for so many shards and workers."""
        workers = len({each.owner for each in seen if each.owner is not None} | {self._context.id})
        found = workers, len(seen)
        if found == self._known:
            return
        self._known = found
        if workers * self._parallelization < len(seen):
            log.warning(
                "fewer_handlers_than_shards",
                stream=self._context.log.name,
                group=self._context.group,
                shards=len(seen),
                workers=workers,
                parallelization=self._parallelization,
                advice="add workers, or raise parallelization (BatchConsumer) or concurrency (Consumer)",
            )
