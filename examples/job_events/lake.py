"""Lines in objects, each line in exactly one object, however often it is added and whoever dies while adding it.

Objects alone cannot promise that: of two batches that share a line, which object has it? Here a store decides:

1. the batch is noted, with its lines and a new id, to be due a minute later;
2. each line is claimed for the batch, unless another batch has claimed it: a conditional write that one batch wins;
3. the lines that the batch has won are written as its object, under a name made of the batch's id;
4. the note is removed.

Every step can be done again by anybody, with the same result, since a claim once made stays. So a batch whose process
died after step 1 is finished by whoever finds its note due, and one that died before it was never acknowledged.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from pydantic import TypeAdapter

from eip import clock
from eip.errors import StoreError
from eip.stores import ABSENT, Store
from eip.stores.objects import ObjectStore

__all__ = ["Lake", "Line"]

_BATCH: Final = "batch:"
_LINE: Final = "line:"
_DAY: Final = 86_400.0


class Line(NamedTuple):
    """A line of text and the partition that it belongs to."""

    id: str
    partition: str
    text: str


_LINES: Final = TypeAdapter(list[Line])


class Lake:
    """JSON lines in an object store: ``prefix/partition/batch.jsonl``.

    Args:
        objects: where the lines go.
        store: which batch has which line; shared by all processes that write to the lake.
        prefix: of the objects' names.
        takeover: seconds after which a batch that was begun and not finished is finished by whoever looks.
        window: seconds that a line is known; longer than a queue keeps a message, that is 14 days.
    """

    def __init__(
        self,
        objects: ObjectStore,
        store: Store,
        *,
        prefix: str = "events",
        takeover: float = 60.0,
        window: float = 15 * _DAY,
    ) -> None:
        self._objects, self._store, self._prefix = objects, store, prefix
        self.takeover, self._window = takeover, window
        self.objects = self.lines = self.duplicates = 0
        """Counts since the start: objects and lines written, and lines that were there already."""

    async def add(self, batch: str, lines: Iterable[Line]) -> None:
        """Write the lines, save those that are in the lake; ``batch`` is a name that was never used before."""
        unique = list({line.id: line for line in lines}.values())
        await self._store.put(_BATCH + batch, _LINES.dump_json(unique), due=clock.now() + self.takeover)
        await self._finish(batch, unique)

    async def take_over(self) -> int:
        """Finish the batches that were begun and left; how many."""
        due = await self._store.due(clock.now())
        for key in due:
            note = await self._store.get(key)
            if note is not None:
                await self._finish(key.removeprefix(_BATCH), _LINES.validate_json(note.value))
        return len(due)

    async def _finish(self, batch: str, lines: Sequence[Line]) -> None:
        owners = await asyncio.gather(*(self._claim(line.id, batch) for line in lines))
        won = [line for line, owner in zip(lines, owners, strict=True) if owner == batch]
        partitions: dict[str, list[str]] = defaultdict(list)
        for line in won:
            partitions[line.partition].append(line.text)
        for partition, texts in partitions.items():
            data = "".join(f"{text}\n" for text in texts).encode()
            await self._objects.put(f"{self._prefix}/{partition}/{batch}.jsonl", data)
        await self._store.delete(_BATCH + batch)
        self.objects += len(partitions)
        self.lines += len(won)
        self.duplicates += len(lines) - len(won)

    async def _claim(self, line: str, batch: str) -> str:
        """The batch that has the line: this one, unless another was first."""
        claim = _LINE + line
        expires_at = clock.now() + self._window
        if await self._store.put(claim, batch.encode(), version=ABSENT, expires_at=expires_at) is not None:
            return batch
        known = await self._store.get(claim)
        if known is None:
            raise StoreError("a claim expired while it was looked at")
        return known.value.decode()
