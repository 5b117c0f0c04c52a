"""Aggregator (Hohpe & Woolf, chapter 7): gathers messages that belong together and sends one in their place.

What is gathered is in a store: an input is acknowledged only once it is there, deadlines survive a restart, and of
several processes on one store exactly one releases a group at a time. Delivery of the aggregate is at-least-once: it
has the same id however often it is sent.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal
from weakref import WeakValueDictionary

import orjson

from eip import clock
from eip._checks import check_duration, check_integer, check_type
from eip._ids import new_id
from eip._logging import get_logger
from eip._repeated import RepeatedLines
from eip.channels import Sender, send_dead_letter
from eip.clock import Duration
from eip.errors import ConfigurationError, InvalidResult, Reject, error_text
from eip.message import Message
from eip.patterns._aggregate_records import Aggregate, AggregateCompletedBy, GroupState
from eip.patterns._background import retry_delay
from eip.patterns._groups import Groups, HeldGroup
from eip.patterns._late import check_late, turn_away
from eip.patterns._records import after_conflict
from eip.patterns._scheduler import ScheduledService
from eip.runtime._recovery import is_permanent
from eip.runtime.handlers import Result
from eip.stores.base import ABSENT, Store

__all__ = ["Aggregate", "AggregateCompletedBy", "Aggregator"]

_log = get_logger("eip.aggregator")
_lines = RepeatedLines(_log)

_MAX_INPUTS: Final = 10_000
"""Inputs of one group, where no size is given: it is complete then, so that memory stays bounded."""
_CLAIM_S: Final = 60.0
"""Seconds after which another process takes over the release of a group."""


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
    process of the same store runs one. A release that fails is tried again, less and less often; `health` reports it.

    Args:
        store: of this aggregator alone.
        output: where aggregates are sent.
        key: the group of a message; default: its sequence's id, otherwise its correlation id. None: rejected.
        size: number of inputs that complete a group.
        sequence: complete when all parts of the sequence are there.
        until: complete once it is true of the inputs so far, or with ``fold`` of the state.
        fold: makes the next state of the state so far (None before the first input) and an input; called once for each
            input that counts, though again where another process was first. The state is kept in place of the inputs,
            so that an input costs the same however many there were; it must be JSON.
        inactivity: complete so long after the latest input.
        deadline: complete so long after the first input, or at the time (seconds since the epoch) that a function of
            the first input gives.
        combine: the aggregate's message or body; default: the list of the inputs' bodies, with ``fold`` the state.
        on_late: what becomes of a late input: ``"drop"``, ``"dead_letter"``, or it is sent to another channel.
        dead_letters: takes the inputs (with ``fold`` the state) of a group that cannot be released: ``combine`` raises,
            or ``output`` can never carry the aggregate; default: it is tried again, at last every five minutes.
        max_attempts: at such a release, of all processes together; an error that is permanent ends them at once.
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
        until: Callable[[Any], bool] | None = None,
        fold: Callable[[Any, Message[Any]], Any] | None = None,
        inactivity: Duration | None = None,
        deadline: Duration | Callable[[Message[Any]], float] | None = None,
        combine: Callable[[Aggregate], Any] | None = None,
        on_late: Literal["drop", "dead_letter"] | Sender = "drop",
        dead_letters: Sender | None = None,
        max_attempts: int = 10,
        retention: Duration = 3600.0,
        grace: Duration = 20.0,
    ) -> None:
        if size is None and not sequence and until is None and inactivity is None and deadline is None:
            raise ConfigurationError(
                "size, sequence, until, inactivity or deadline must be given: when is a group complete?"
            )
        if size is not None and not 1 <= size <= _MAX_INPUTS:
            raise ConfigurationError(f"size must be 1 to {_MAX_INPUTS:,}, got {size}")
        if sequence and fold is not None:
            raise ConfigurationError("sequence needs the inputs, which fold does not keep: give size or until instead")
        check_late("on_late", on_late)
        super().__init__(store, self._expire, name="aggregator", grace=grace)
        self._output, self._key, self._retention = output, key, check_duration("retention", retention)
        keep_messages = until is not None and fold is None
        self._groups = Groups(store, retention=self._retention, keep_messages=keep_messages)
        self._size, self._sequence, self._until, self._fold = size, sequence, until, fold
        self._inactivity = None if inactivity is None else check_duration("inactivity", inactivity, positive=True)
        if deadline is not None and not callable(deadline):
            deadline = check_duration("deadline", deadline, positive=True)
        self._deadline = deadline
        self._combine, self._on_late = combine or (_bodies if fold is None else _state), on_late
        self._dead_letters = check_type("dead_letters", dead_letters, Sender, "a sender", optional=True)
        self._max_attempts = check_integer("max_attempts", max_attempts, least=1)
        self._owner = new_id()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.released: Counter[AggregateCompletedBy] = Counter()
        """How many groups this process released, by what completed them."""
        self.duplicates = 0
        """Inputs that were there already."""
        self.late = 0
        """Inputs that came when their group was complete."""
        self.dead_lettered = 0
        """Groups whose inputs this process dead-lettered, because they could not be released."""

    async def __call__(self, message: Message[Any]) -> Result:
        """Store the input; where it completes its group, send the aggregate. Raises `Reject` without correlation."""
        key = self._key(message)
        if key is None:
            raise Reject("the message belongs to no group: it has neither a sequence nor a correlation id")
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:  # spares handlers of this process the conflicts; other processes conflict in the store
            in_time = await self._add(key, message)
        if not in_time:
            await self._turn_away(key, message)
        return None

    async def _expire(self, key: str) -> None:
        """Release a group that is due: its time is over, or its last release failed."""
        held, now = await self._groups.read(key), clock.now()
        if held is None or held.value.due is None or held.value.due > now:
            return
        group = held.value
        if group.state == "released":
            await self._groups.let_chunks_expire(key, held)
            return
        if group.state == "gathering":
            overdue = group.deadline is not None and group.deadline <= now
            group.completed_by = "deadline" if overdue else "inactivity"
        if await self._claim(key, held):
            await self._release(key, held)

    # A group's life: gathering, releasing by one process, released.

    async def _add(self, key: str, message: Message[Any]) -> bool:
        """Store the input, unless it was before; False where it is late."""
        held, conflicts = self._groups.take(key, clock.now()), 0
        stored: Message[Any] | None = None
        while True:
            now = clock.now()
            if held is None:
                held = await self._groups.read(key) or self._groups.new(self._new_group(message, now))
            group, known = held.value, held.knows(message.id)
            # The first input of a group is never late, even where its deadline is over: it is released with it.
            if not group.gathers(now) and held.version != ABSENT:
                self.duplicates += known
                return known
            if not known:
                if self._fold is None and stored is None:
                    stored = await self._groups.store_input(key, group, message, now)
                await self._note(key, held, stored or message, now)
            group.completed_by = await self._completed(key, held)  # also for a duplicate: its sender may have died
            if group.completed_by is not None:
                if await self._claim(key, held):
                    await self._release_or_leave(key, held)
                    return True
            elif known:
                self.duplicates += 1
                return True
            elif await self._write(key, held):
                return True
            conflicts = await after_conflict(conflicts, f"group {key}")
            held = await self._groups.read(key, held)

    def _new_group(self, message: Message[Any], now: float) -> GroupState:
        if not callable(self._deadline):
            return GroupState(opened_at=now, deadline=None if self._deadline is None else now + self._deadline)
        deadline: Any = self._deadline(message)
        if isinstance(deadline, bool) or not isinstance(deadline, (int, float)) or math.isnan(deadline):
            raise InvalidResult(f"deadline must return seconds since the epoch, got {deadline!r}")
        return GroupState(opened_at=now, deadline=deadline)

    async def _note(self, key: str, held: HeldGroup, message: Message[Any], now: float) -> None:
        await self._groups.add(key, held, message)
        group = held.value
        if self._fold is not None:
            group.folded = _as_json(self._fold(group.folded, message))
        if self._inactivity is not None:
            group.idle_at = now + self._inactivity
        if message.sequence is not None and message.sequence.size is not None:
            group.size = message.sequence.size

    async def _completed(self, key: str, held: HeldGroup) -> AggregateCompletedBy | None:
        """The condition that holds now, if any."""
        group = held.value
        if group.count >= (self._size or _MAX_INPUTS):
            return "size"
        if self._sequence and group.size is not None and group.count >= group.size:
            inputs = await self._groups.inputs(key, held)
            positions = {each.sequence.position for each in inputs if each.sequence is not None}
            if positions >= set(range(group.size)):
                return "sequence"
        if self._until is not None:
            seen = group.folded if self._fold is not None else await self._groups.inputs(key, held)
            if self._until(seen):
                return "predicate"
        return None

    async def _write(self, key: str, held: HeldGroup) -> bool:
        written = await self._groups.write(key, held)
        if written and held.value.due is not None:
            self._scheduler.wake(held.value.due)
        return written

    async def _claim(self, key: str, held: HeldGroup) -> bool:
        """Close the group to inputs, and let this process alone release it for a while.

        The condition on the version decides: of several processes that find the group complete, or due, one writes the
        claim. Inputs of the others see that it is being released and are late. A claim ends by time, not when its
        process ends, as nobody can tell a process that died from one that is slow; the aggregate's id is the same each
        time.
        """
        group = held.value
        group.state, group.owner, group.retry_at = "releasing", self._owner, clock.now() + _CLAIM_S
        return await self._write(key, held)

    async def _release_or_leave(self, key: str, held: HeldGroup) -> None:
        """Release a group whose last input is in hand; that it never can be is the group's failure, not the input's."""
        try:
            await self._release(key, held)
        except Exception as error:
            if not is_permanent(error):
                raise
            _lines.warning("release_failed", varying={"group": key}, error=error_text(error))

    async def _release(self, key: str, held: HeldGroup) -> None:
        """Send the aggregate, then note that; raises what failed, and the group is tried again later.

        Sent before noted: a process that dies in between sends it twice, never not at all.
        """
        group = held.value
        try:
            sent = await self._send(key, held)
        except BaseException as error:
            group.failures += 1
            group.retry_at = clock.now() + (retry_delay(error, group.failures) if isinstance(error, Exception) else 0.0)
            await self._write(key, held)
            raise
        by = group.completed_by
        if await self._groups.released(key, held) and by is not None:
            self.released[by] += sent
            self.dead_lettered += not sent

    async def _send(self, key: str, held: HeldGroup) -> bool:
        """Send the aggregate; False where it never can be, so that the inputs went to the dead letters."""
        group, message = held.value, None
        aggregate = await self._aggregate(key, held)
        gone = 0 if self._fold is not None else group.count - aggregate.count - len(held.unreadable)
        if gone > 0:
            _log.error("inputs_gone", group=key, gone=gone, left=aggregate.count)
        sent = False
        try:
            message = self._combined(group, aggregate)
            await self._output.send(message)
            sent = True
        except Exception as error:
            tried = message is None and group.failures + 1 >= self._max_attempts
            if self._dead_letters is None or not (tried or is_permanent(error)):
                raise
            _log.error("group_dead_lettered", group=key, failures=group.failures + 1, error=error_text(error))
            state = Message(group.folded, id=group.identity(key), correlation_id=key, group_id=key)
            inputs = aggregate.messages if self._fold is None else [state]
            await self._dead_letter(inputs, error_text(error), count=group.failures + 1)
        unreadable = [Message(raw, correlation_id=key, group_id=key) for raw in held.unreadable]
        await self._dead_letter(unreadable, "an aggregator kept it, and cannot read it any more", count=1)
        return sent

    async def _dead_letter(self, messages: Iterable[Message[Any]], reason: str, *, count: int) -> None:
        if self._dead_letters is not None:
            for each in messages:
                await send_dead_letter(self._dead_letters, each, reason, source=self.name, count=count)

    async def _aggregate(self, key: str, held: HeldGroup) -> Aggregate:
        group = held.value
        inputs = [] if self._fold is not None else list(await self._groups.inputs(key, held))
        if all(each.sequence is not None for each in inputs):
            inputs.sort(key=lambda each: each.sequence.position if each.sequence is not None else 0)
        return Aggregate(
            key=key,
            messages=inputs,
            completed_by=group.completed_by or "deadline",
            opened_at=group.opened_at,
            count=group.count if self._fold is not None else len(inputs),
            state=group.folded,
        )

    def _combined(self, group: GroupState, aggregate: Aggregate) -> Message[Any]:
        combined, key = self._combine(aggregate), aggregate.key
        message = combined if isinstance(combined, Message) else Message(combined, correlation_id=key)
        headers = {**message.headers, "completed-by": aggregate.completed_by, "inputs": str(aggregate.count)}
        return message.replace(
            id=group.identity(key),
            correlation_id=message.correlation_id or key,
            group_id=message.group_id or key,
            headers=headers,
        )

    async def _turn_away(self, key: str, message: Message[Any]) -> None:
        self.late += 1
        await turn_away(message, self._on_late, f"too late: its group {key} is complete")


def _bodies(aggregate: Aggregate) -> list[Any]:
    return [each.body for each in aggregate.messages]


def _state(aggregate: Aggregate) -> Any:
    return aggregate.state


def _as_json(state: Any) -> Any:
    """The state as it is read from the store, so that it does not depend on which process has it."""
    try:
        return orjson.loads(orjson.dumps(state))
    except (TypeError, ValueError) as error:
        raise InvalidResult(f"fold must return what JSON can hold, got {type(state).__name__}: {error}") from None
