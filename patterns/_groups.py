"""The state of an aggregator's group, and how it is kept in a store: one write of bounded size per input.

A group's record holds the ids of its latest inputs only; older ones are in chunks that are written once, each a record
of its own. The inputs themselves are parts of the group's record, or are folded into its state and stored nowhere.
A process remembers what it wrote last, so that it reads a group again only where another process has changed it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

import orjson
from pydantic import TypeAdapter

from eip import clock
from eip.envelope import dump_message, load_message
from eip.errors import StoreError
from eip.message import Message
from eip.patterns._aggregate_records import GroupState
from eip.patterns._records import Records, Versioned, readable_messages
from eip.stores.base import Store

__all__ = ["Groups", "HeldGroup"]

_ids: Final = TypeAdapter(list[str])

_CHUNK: Final = 64
"""Ids in the record itself; with the next input they move to a chunk."""
_MAX_REMEMBERED: Final = 20_000
"""Inputs of the groups that are remembered, all together."""
_MAX_MESSAGES: Final = 5_000
"""The same, where the messages themselves are remembered."""
_DAY_S: Final = 86_400.0
_CLEANING_S: Final = 60.0
"""Seconds after which anybody sees to the chunks of a released group: who released it may have died before."""


@dataclass(slots=True)
class HeldGroup(Versioned[GroupState]):
    """A group as it was read, or is to be made."""

    in_chunks: dict[str, None] = field(default_factory=dict)
    """The ids in its chunks, in the order of arrival."""
    chunks_read: int = 0
    messages: list[Message[Any]] | None = None
    """Its inputs in the order of arrival, where they are at hand."""
    unreadable: list[bytes] = field(default_factory=list)
    """Inputs that the store has, and that cannot be read any more."""

    def knows(self, message_id: str) -> bool:
        """Whether that input is in the group."""
        return message_id in self.in_chunks or message_id in self.value.inputs

    @property
    def ids(self) -> Iterable[str]:
        """Of its inputs, in the order of arrival."""
        return chain(self.in_chunks, self.value.inputs)


class Groups:
    """The groups of a store.

    Args:
        store: of one aggregator alone.
        retention: seconds that a released group is known.
        keep_messages: whether messages are remembered, because they are looked at with each input.
    """

    def __init__(self, store: Store, *, retention: float, keep_messages: bool) -> None:
        self._store, self._retention, self._keep_messages = store, retention, keep_messages
        self._records = Records(store, GroupState)
        self._remembered: OrderedDict[str, HeldGroup] = OrderedDict()
        self._inputs_remembered = 0
        self._max_remembered = _MAX_MESSAGES if keep_messages else _MAX_REMEMBERED

    def new(self, group: GroupState) -> HeldGroup:
        """A group that is not in the store yet."""
        return HeldGroup(group, messages=[] if self._keep_messages else None)

    def take(self, key: str, now: float) -> HeldGroup | None:
        """The group as this process wrote it last, if it took inputs then; another may have changed it since.

        It is the caller's to change, and is remembered again once it is written.
        """
        held = self._remembered.pop(key, None)
        if held is None:
            return None
        self._inputs_remembered -= held.value.count
        return held if held.value.gathers(now) else None

    async def read(self, key: str, known: HeldGroup | None = None) -> HeldGroup | None:
        """The group as it is in the store, or None; ``known``, an earlier state of it, spares reading its chunks."""
        found = await self._records.read(key)
        if found is None:
            return None
        held = HeldGroup(found.value, found.version)
        if known is not None and known.value.opened_at == found.value.opened_at:
            held.in_chunks, held.chunks_read = known.in_chunks, known.chunks_read
        missing = range(held.chunks_read, found.value.chunks)
        for ids in await asyncio.gather(*(self._chunk(key, found.value, number) for number in missing)):
            held.in_chunks.update(dict.fromkeys(ids))
        held.chunks_read = max(held.chunks_read, found.value.chunks)
        return held

    async def write(self, key: str, held: HeldGroup) -> bool:
        """Write the group if it is still as it was read; False where another process was first."""
        group = held.value
        expires_at = clock.now() + self._retention if group.state == "released" else None
        written = await self._records.write(key, held, due=group.due, expires_at=expires_at)
        if written and group.state == "gathering":
            self._remember(key, held)
        return written

    async def store_input(self, key: str, group: GroupState, message: Message[Any], now: float) -> Message[Any]:
        """Store an input, before it is added; returns it as it is read again."""
        raw = dump_message(message)
        await self._store.put_part(key, message.id, raw, expires_at=self._horizon(group, now))
        return load_message(raw) if self._keep_messages else message

    async def add(self, key: str, held: HeldGroup, message: Message[Any]) -> None:
        """Add an input to the group, which is to be written then."""
        group = held.value
        if len(group.inputs) >= _CHUNK:
            await self._move_to_chunk(key, held)
        group.inputs.append(message.id)
        if held.messages is not None:
            held.messages.append(message)

    async def inputs(self, key: str, held: HeldGroup) -> list[Message[Any]]:
        """The inputs of the group in the order of arrival."""
        if held.messages is None:
            parts = await self._store.parts(key)
            found = (parts[each] for each in held.ids if each in parts)
            held.messages, held.unreadable = readable_messages(found, f"group {key}")
        return held.messages

    async def released(self, key: str, held: HeldGroup) -> bool:
        """Note that the group was released, and remove its inputs; False where another process took it over.

        The inputs go last, since whoever takes the release over needs them; where some could not be read, they stay
        until the group is forgotten.
        """
        group = held.value
        group.state, group.folded = "released", None
        group.retry_at = clock.now() + _CLEANING_S if group.chunks else None
        if not await self.write(key, held):
            return False
        if not held.unreadable:
            await self._store.delete_parts(key)
        if group.chunks:
            await self.let_chunks_expire(key, held)
        return True

    async def let_chunks_expire(self, key: str, held: HeldGroup) -> None:
        """Keep the chunks of a released group for as long as it is known, so that duplicates are known as well."""
        group = held.value
        expires_at = clock.now() + self._retention + _CLEANING_S  # not before the record
        await asyncio.gather(
            *(self._let_expire(group.identity(key, number), expires_at) for number in range(group.chunks))
        )
        group.retry_at = None
        await self.write(key, held)

    async def _let_expire(self, chunk: str, expires_at: float) -> None:
        found = await self._store.get(chunk)
        if found is not None:
            await self._store.put(chunk, found.value, expires_at=expires_at)

    async def _move_to_chunk(self, key: str, held: HeldGroup) -> None:
        """Whoever adds to this version of the group moves the same ids to the same chunk."""
        group = held.value
        expires_at = self._horizon(group, clock.now())
        await self._store.put(group.identity(key, group.chunks), orjson.dumps(group.inputs), expires_at=expires_at)
        held.in_chunks.update(dict.fromkeys(group.inputs))
        group.chunks += 1
        held.chunks_read = max(held.chunks_read, group.chunks)
        group.in_chunks += len(group.inputs)
        group.inputs = []

    async def _chunk(self, key: str, group: GroupState, number: int) -> list[str]:
        found = await self._store.get(group.identity(key, number))
        if found is None:
            raise StoreError(f"a part of the inputs' ids of group {key!r} is gone")
        try:
            return _ids.validate_json(found.value)
        except ValueError:
            raise StoreError(f"a part of the inputs' ids of group {key!r} is not ours", transient=False) from None

    def _remember(self, key: str, held: HeldGroup) -> None:
        self._remembered[key] = held
        self._inputs_remembered += held.value.count
        while self._inputs_remembered > self._max_remembered and len(self._remembered) > 1:
            _, forgotten = self._remembered.popitem(last=False)
            self._inputs_remembered -= forgotten.value.count

    def _horizon(self, group: GroupState, now: float) -> float | None:
        """When what never made it into its group may go; a group without a deadline keeps its inputs."""
        if group.deadline is None:
            return None
        return max(group.deadline, now) + self._retention + _DAY_S
