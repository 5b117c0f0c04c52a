"""The children of an instance at one of its steps: branches, items, a sub-process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Literal

from eip import clock
from eip.errors import Reject
from eip.patterns._process_elements import Children, Definition
from eip.patterns._process_graph import Node
from eip.patterns._process_instance import Instance
from eip.patterns._process_instances import Instances, bring_forward

__all__ = ["Family"]

_READS: Final = 50
"""Children whose states are read at once."""


class Family:
    """The children that a step has, or is to have. Whatever is done here may be done again, by any process.

    Args:
        instances: where they are.
        definition: the parent's.
        instance: the parent; changed in place.
        node: the step.
        element: what the definition says of it.
    """

    def __init__(
        self, instances: Instances, definition: Definition, instance: Instance, node: Node, element: Children
    ) -> None:
        self._instances, self._definition, self._instance = instances, definition, instance
        self._node, self._element = node, element

    @property
    def count(self) -> int:
        """How many there are, or are about to be."""
        return self._instance.children.get(self._element.name, 0)

    def enlarge(self, total: int) -> bool:
        """Add as many children as may run beside the open ones; False where there are none to add.

        They are made by `reap` once the parent is written: a child that no record names would never be looked after.
        """
        count, element = self.count, self._element
        new = min(total - count, element.max_concurrency - len(self._instance.open))
        if new <= 0:
            return False
        self._instance.children[element.name] = count + new
        self._instance.open += range(count, count + new)
        return True

    async def reap(self, states: Sequence[Any]) -> str | None:
        """Make the open children that are missing, and note which have ended; the first failure, or None."""
        for number in list(self._instance.open):
            child = await self._read(number)
            if child is None:
                await self._instances.create(self._make(number, states[number]))
            elif child.ended:
                self._instance.open.remove(number)
                if child.status != "completed":
                    return f"{child.branch or child.process}: {child.error}"
        return None

    async def results(self, states: Sequence[Any]) -> list[Any]:
        """The states of all children at their end."""
        found: list[Any] = []
        for start in range(0, len(states), _READS):
            numbers = range(start, min(start + _READS, len(states)))
            for child in await asyncio.gather(*map(self._read, numbers)):
                if child is None:
                    raise Reject(f"a child of {self._element.name} is gone")
                found.append(self._process.load(child.state))
        return found

    async def undo(self) -> Literal["done", "pending", "failed"]:
        """Take the children back as far as they are: first end those that run, then the rest, the last one first."""
        instance, name = self._instance, self._element.name
        await self._end_open()
        if instance.open:
            return "pending"
        if instance.left is None:
            instance.left = self.count
        while instance.left > 0:
            state = await self._undo_one(instance.child(name, instance.left - 1))
            if state != "done":
                return state
            instance.left -= 1
        instance.left = None
        return "done"

    async def _end_open(self) -> None:
        for number in list(self._instance.open):
            if await self._has_ended(number):
                self._instance.open.remove(number)

    async def _has_ended(self, number: int) -> bool:
        """Whether a child does nothing more; has it cancelled."""
        try:
            child = await self._read(number)
        except Reject:
            return True  # somebody else's, who had the id before us
        if child is None:
            # One who read the parent before it turned back may make the child still: not where there is one.
            return await self._instances.create(self._never(number))
        if not child.ended:
            await self._instances.cancel(child.id, self._instance.error or "the parent is compensated")
        return child.ended

    async def _undo_one(self, key: str) -> Literal["done", "pending", "failed"]:
        def send_back(child: Instance) -> bool:
            if child.status != "completed" or child.parent != self._instance.id:
                return False
            child.status, child.attempt = "compensating", 0
            return bring_forward(child) or True

        child = await self._instances.change(key, send_back)
        if child is None or child.parent != self._instance.id or child.status in {"compensated", "cancelled"}:
            return "done"
        return "failed" if child.status == "failed" else "pending"

    async def _read(self, number: int) -> Instance | None:
        key = self._instance.child(self._element.name, number)
        held = await self._instances.read(key)
        if held is not None and held.value.parent != self._instance.id:
            raise Reject(f"id {key!r} is taken by another process")
        return None if held is None else held.value

    @property
    def _process(self) -> Definition:
        return self._element.process or self._definition

    def _make(self, number: int, state: Any) -> Instance:
        process, now = self._process, clock.now()
        ends = [self._instance.deadline, process.deadline and now + process.deadline]
        label = self._element.branches[number].label if self._element.branches else str(number)
        return Instance(
            id=self._instance.child(self._element.name, number),
            process=process.name,
            version=process.version,
            state=process.dump(state),
            step=self._node.ways[number] if self._node.ways else process.first,
            started_at=now,
            deadline=min((each for each in ends if each is not None), default=None),
            due=now,
            parent=self._instance.id,
            branch="" if self._element.kind == "process" else label,
        )

    def _never(self, number: int) -> Instance:
        """In the place of a child that was not made yet, and is not to be."""
        now = clock.now()
        return Instance(
            id=self._instance.child(self._element.name, number),
            process=self._process.name,
            version=self._process.version,
            status="cancelled",
            state="null",
            step=None,
            started_at=now,
            ended_at=now,
            parent=self._instance.id,
        )
