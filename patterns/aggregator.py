"""Aggregator (Hohpe & Woolf, chapter 7): gathers messages that belong together and sends one in their place.

What is gathered is in a store: an input is acknowledged only once it is there, deadlines survive a restart, and of
several processes on one store exactly one releases a group at a time. Delivery of the aggregate is at-least-once: it
has the same id however often it is sent.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal
from weakref import WeakValueDictionary

from eip import clock
from eip._ids import new_id
from eip._logging import get_logger
from eip.channels import Sender
from eip.clock import Duration, seconds
from eip.envelope import dump_message, load_message
from eip.errors import ConfigurationError, Reject, error_text
from eip.message import Message
from eip.patterns._aggregate_records import Aggregate, AggregateCompletedBy, GroupState
from eip.patterns._late import check_late, turn_away
from eip.patterns._records import Records, Versioned, after_conflict
from eip.patterns._scheduler import ScheduledService
from eip.retry import Backoff
from eip.runtime.handlers import Result
from eip.stores.base import Store

__all__ = ["Aggregate", "AggregateCompletedBy", "Aggregator"]

_log = get_logger("eip.aggregator")

_MAX_INPUTS: Final = 10_000
"""Inputs of one group, where no size is given: it is complete then, so that memory stays bounded."""
_CLAIM_S: Final = 60.0
"""Seconds after which another process takes over the release of a group."""
_RETRY_BACKOFF: Final = Backoff(base=0.05, cap=5.0)


def _group_key(message: Message[Any]) -> str | None:
    if message.sequence is not None:
        return message.sequence.id
    return message.correlation_id


class Aggregator(ScheduledService):
    """A handler that stores its inputs, and a service (`run`, `stop`) that watches the deadlines.

        quotes = Aggregator(store, output=aws.queue("best-quotes"), size=3, deadline=timedelta(minutes=5))
        await run(Consumer(aws.queue("quotes"), quotes), quotes)

    A group is complete at the first of its conditions, and its aggregate says which. A second input with the same id is
    ignored; one that comes when its group is complete is late. Without ``run`` deadlines have no effect until another
    process of the same store runs one.

    Args:
        store: of this aggregator alone.
        output: where aggregates are sent.
        key: the group of a message; default: its sequence's id, otherwise its correlation id. None: rejected.
        size: complete with so many inputs.
        sequence: complete when all parts of the sequence are there.
        until: complete once it says so of the inputs so far.
        inactivity: complete so long after the latest input.
        deadline: complete so long after the first input, or at the time (seconds since the epoch) that a function of
            the first input gives.
        combine: the aggregate's message or body; default: the list of the inputs' bodies.
        on_late: what becomes of a late input: ``"drop"``, ``"dead_letter"``, or it is sent to another channel.
        retention: seconds (or timedelta) that a released group is known, so that late inputs and duplicates are not
            taken for a new group.
        grace: seconds (or timedelta) for what is in hand when it is stopped; after that it is cancelled.
    """

    def __init__(
        self,
        store: Store,
        *,
        output: Sender,
        key: Callable[[Message[Any]], str | None] = _group_key,
        size: int | None = None,
        sequence: bool = False,
        until: Callable[[Sequence[Message[Any]]], bool] | None = None,
        inactivity: Duration | None = None,
        deadline: Duration | Callable[[Message[Any]], float] | None = None,
        combine: Callable[[Aggregate], Any] | None = None,
        on_late: Literal["drop", "dead_letter"] | Sender = "drop",
        retention: Duration = 3600.0,
        grace: Duration = 20.0,
    ) -> None:
        if size is None and not sequence and until is None and inactivity is None and deadline is None:
            raise ConfigurationError(
                "size, sequence, until, inactivity or deadline must be given: when is a group complete?"
            )
        if size is not None and not 1 <= size <= _MAX_INPUTS:
            raise ConfigurationError(f"size must be 1 to {_MAX_INPUTS:,}, got {size}")
        check_late("on_late", on_late)
        super().__init__(store, self._expire, name="aggregator", grace=grace)
        self._output, self._key, self._groups = output, key, Records(store, GroupState)
        self._size, self._sequence, self._until = size, sequence, until
        self._inactivity = None if inactivity is None else seconds(inactivity)
        self._deadline = deadline if callable(deadline) or deadline is None else seconds(deadline)
        self._combine, self._on_late, self._retention = combine or _bodies, on_late, seconds(retention)
        self._owner = new_id()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.released: Counter[AggregateCompletedBy] = Counter()
        """How many groups this process released, by what completed them."""
        self.duplicates = 0
        """Inputs that were there already."""
        self.late = 0
        """Inputs that came when their group was complete."""

    async def __call__(self, message: Message[Any]) -> Result:
        """Store the input; where it completes its group, send the aggregate. Raises `Reject` without correlation."""
        key = self._key(message)
        if key is None:
            raise Reject("the message belongs to no group: it has neither a sequence nor a correlation id")
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:  # spares handlers of this process the conflicts; other processes are told by the store
            in_time = await self._add(key, message)
        if not in_time:
            await self._turn_away(key, message)
        return None

    async def _expire(self, key: str) -> None:
        """Release a group that is due: its time is over, or its last release failed."""
        held = await self._groups.read(key)
        if held is None:
            return
        group, now = held.value, clock.now()
        if group.due is None or group.due > now:
            return
        if group.state == "open":
            overdue = group.deadline is not None and group.deadline <= now
            group.completed_by = "deadline" if overdue else "inactivity"
        if await self._claim(key, held):
            try:
                await self._release(key, held)
            except Exception as error:  # noqa: BLE001 - it is due again, at a time that is in the store
                _log.warning("release_failed", group=key, failures=group.failures, error=error_text(error))

    # A group's life: open, claimed by one process, released.

    async def _add(self, key: str, message: Message[Any]) -> bool:
        """Store the input, unless it was before; False where it is late."""
        stored, conflicts = False, 0
        while True:
            found, now = await self._groups.read(key), clock.now()
            held = found or Versioned(self._new_group(message, now))
            group = held.value
            known = message.id in group.inputs
            if group.state != "open" or (group.due is not None and group.due <= now):
                if known:
                    self.duplicates += 1
                return known
            if not known and not stored:
                await self._store.put_part(key, message.id, dump_message(message), expires_at=self._horizon(group, now))
                stored = True
            if not known:
                self._note(group, message, now)
            group.completed_by = await self._completed(key, group)  # also for a duplicate: its sender may have died
            if group.completed_by is not None:
                if await self._claim(key, held):
                    await self._release(key, held)
                    return True
            elif known:
                self.duplicates += 1
                return True
            elif await self._write(key, held):
                return True
            conflicts = await after_conflict(conflicts, f"group {key}")

    def _new_group(self, message: Message[Any], now: float) -> GroupState:
        deadline = self._deadline(message) if callable(self._deadline) else self._deadline
        if deadline is not None and not callable(self._deadline):
            deadline += now
        return GroupState(opened_at=now, deadline=deadline)

    def _note(self, group: GroupState, message: Message[Any], now: float) -> None:
        group.inputs.append(message.id)
        if self._inactivity is not None:
            group.idle_at = now + self._inactivity
        if message.sequence is not None and message.sequence.size is not None:
            group.size = message.sequence.size

    async def _completed(self, key: str, group: GroupState) -> AggregateCompletedBy | None:
        """The condition that holds now, if any."""
        if len(group.inputs) >= (self._size or _MAX_INPUTS):
            return "size"
        if self._sequence and group.size is not None and len(group.inputs) >= group.size:
            positions = {each.sequence.position for each in await self._inputs(key, group) if each.sequence is not None}
            if positions >= set(range(group.size)):
                return "sequence"
        if self._until is not None and self._until(await self._inputs(key, group)):
            return "predicate"
        return None

    async def _inputs(self, key: str, group: GroupState) -> list[Message[Any]]:
        parts = await self._store.parts(key)
        return [load_message(parts[each]) for each in group.inputs if each in parts]

    async def _write(self, key: str, held: Versioned[GroupState]) -> bool:
        group = held.value
        expires_at = clock.now() + self._retention if group.state == "released" else None
        written = await self._groups.write(key, held, due=group.due, expires_at=expires_at)
        if written and group.due is not None:
            self._scheduler.wake(group.due)
        return written

    async def _claim(self, key: str, held: Versioned[GroupState]) -> bool:
        """Close the group to inputs, and let this process alone release it for a while.

        The condition on the version decides: of several processes that find the group complete, or due, one writes the
        claim. Inputs of the others see the group claimed and are late. A claim ends by time, not when its process
        ends, as nobody can tell a process that died from one that is slow; the aggregate's id is the same each time.
        """
        group = held.value
        group.state, group.owner, group.retry_at = "claimed", self._owner, clock.now() + _CLAIM_S
        return await self._write(key, held)

    async def _release(self, key: str, held: Versioned[GroupState]) -> None:
        """Send the aggregate, then note that; raises what the sending raises, and the group is tried again later.

        Sent before noted: a process that dies in between sends it twice, never not at all. The parts go last, since
        whoever takes the claim over needs them.
        """
        group = held.value
        try:
            await self._output.send(await self._aggregate(key, group))
        except BaseException:
            group.failures += 1
            group.retry_at = clock.now() + _RETRY_BACKOFF.delay(group.failures)
            await self._write(key, held)
            raise
        by = group.completed_by
        group.state, group.retry_at = "released", None
        if await self._write(key, held) and by is not None:
            self.released[by] += 1
            await self._store.delete_parts(key)

    async def _aggregate(self, key: str, group: GroupState) -> Message[Any]:
        inputs = await self._inputs(key, group)
        if all(each.sequence is not None for each in inputs):
            inputs.sort(key=lambda each: each.sequence.position if each.sequence is not None else 0)
        by = group.completed_by or "deadline"
        aggregate = Aggregate(key=key, messages=inputs, completed_by=by, opened_at=group.opened_at)
        combined = self._combine(aggregate)
        message = combined if isinstance(combined, Message) else Message(combined, correlation_id=key)
        identity = hashlib.sha256(f"{key}\0{group.opened_at!r}".encode()).hexdigest()[:32]
        headers = {**message.headers, "completed-by": by, "inputs": str(len(inputs))}
        return message.replace(
            id=identity, correlation_id=message.correlation_id or key, group_id=message.group_id or key, headers=headers
        )

    def _horizon(self, group: GroupState, now: float) -> float | None:
        """When an input that never made it into its group may go; a group without a deadline keeps its inputs."""
        if group.deadline is None:
            return None
        return max(group.deadline, now) + self._retention + 24 * 3600

    async def _turn_away(self, key: str, message: Message[Any]) -> None:
        self.late += 1
        await turn_away(message, self._on_late, f"too late: its group {key} is complete")


def _bodies(aggregate: Aggregate) -> list[Any]:
    return [each.body for each in aggregate.messages]
