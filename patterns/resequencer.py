"""Resequencer (Hohpe & Woolf, chapter 7): lets the messages of each sequence through in their order.

Those that come too early are in a store: an input is acknowledged only once it was released or stored, so that a crash
loses none, and processes that share a store release each sequence one at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import takewhile
from typing import Any, Final, Literal
from weakref import WeakValueDictionary

from eip import clock
from eip._checks import check_duration, check_integer, check_type
from eip._logging import get_logger
from eip._repeated import RepeatedLines
from eip.channels import Sender, send_dead_letter
from eip.clock import Duration, seconds
from eip.errors import InvalidMessage, PartialSendError, Reject, Retry, error_text
from eip.message import Message, SequenceInfo
from eip.patterns._background import retry_delay
from eip.patterns._late import check_late, turn_away
from eip.patterns._records import after_conflict
from eip.patterns._scheduler import ScheduledService
from eip.patterns._sequences import HeldSequence, Sequences, SequenceState, sequence_id
from eip.patterns.diagram import Channel, Diagram
from eip.runtime.handlers import Result
from eip.stores.base import Store

__all__ = ["Resequencer"]

_log = get_logger("eip.resequencer")
_lines = RepeatedLines(_log)

_MAX_BATCH: Final = 100
"""Stored messages that are read and sent at once."""


class Resequencer(ScheduledService):
    """A handler that sends the parts of sequences on in order, and a service (`run`, `stop`) that watches for gaps.

        ordered = Resequencer(store, output=aws.queue("lines-in-order"), gap_timeout=timedelta(minutes=10))
        await run(Consumer(aws.queue("lines"), ordered), ordered)

    A message's place is its ``sequence``; a message without one is rejected. Delivery to ``output`` is at-least-once:
    after a failure the last ones may be sent again, with the same ids. A released message without a group gets its
    sequence's id as group id, so that FIFO channels keep the order.

    A part that came before is ignored. Where a part is missing, those behind it wait, for ever or for ``gap_timeout``;
    then the missing ones are given up, the next message has them in its header ``sequence-gap`` (``"3-5"``: positions 3
    to 5), and what still comes of them is late. Without ``run``, no gap ends. A stored message that ``output`` refuses
    for good holds its sequence up, which is logged.

    Args:
        store: of this resequencer alone.
        output: where messages are sent.
        gap_timeout: seconds (or timedelta) from when a gap shows until it is given up; default: never.
        max_waiting: messages of one sequence that may wait; those beyond stay in their channel and are tried again.
        on_late: what becomes of a late part: ``"drop"``, ``"dead_letter"``, or it is sent to another channel.
        retention: seconds (or timedelta) that a complete sequence is known, so that duplicates are recognised; one of
            unknown size is known for 14 days after its latest message.
        dead_letters: takes stored parts that cannot be read any more, or that ``output`` can never carry; default: they
            stay in the store, until another message comes in their place.
        grace: seconds (or timedelta) for what is in hand when it is stopped; after that it is cancelled.
    """

    def __init__(
        self,
        store: Store,
        *,
        output: Sender,
        gap_timeout: Duration | None = None,
        max_waiting: int = 1000,
        on_late: Literal["drop", "dead_letter"] | Sender = "dead_letter",
        retention: Duration = 3600.0,
        dead_letters: Sender | None = None,
        grace: Duration = 20.0,
    ) -> None:
        super().__init__(store, self._on_due, name="resequencer", grace=grace)
        self._gap_timeout = None if gap_timeout is None else check_duration("gap_timeout", gap_timeout, positive=True)
        check_late("on_late", on_late)
        self._output, self._on_late = output, on_late
        self._dead_letters = check_type("dead_letters", dead_letters, Sender, "a sender", optional=True)
        self._max_waiting = check_integer("max_waiting", max_waiting, least=1)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._sequences = Sequences(store, retention=seconds(retention), on_due=self._scheduler.wake)
        self.released = 0
        """Messages that this process sent on."""
        self.duplicates = 0
        """Parts that had come before."""
        self.late = 0
        """Parts that came when they had been given up."""
        self.gaps = 0
        """Positions that this process gave up."""
        self.lost = 0
        """Stored parts that this process could not read, or that the output can never carry."""

    def diagram(self) -> Diagram:
        """Its channels."""
        late = [Channel(self._on_late.name, "late")] if isinstance(self._on_late, Sender) else []
        return Diagram(name="resequencer", channels=(Channel(self._output.name), *late))

    async def __call__(self, message: Message[Any]) -> Result:
        """Send the message on, and those that waited for it, or store it.

        Raises `Reject` for one outside of any sequence, and `Retry` where too many wait already.
        """
        place = message.sequence
        if place is None:
            raise Reject("the message belongs to no sequence: it needs a sequence position")
        if place.position < 0 or (place.size is not None and place.position >= place.size):
            raise Reject(f"position {place.position} lies outside of its sequence")
        async with self._lock(place.id):
            in_time = await self._take(message, place)
        if not in_time:
            await self._turn_away(message)
        return None

    async def _take(self, message: Message[Any], place: SequenceInfo) -> bool:
        """Release the message, store it, or see that it came before; False where it is late."""
        position, stored, conflicts = place.position, False, 0
        while True:
            held = await self._sequences.read(place.id) or HeldSequence(SequenceState())
            sequence = held.value
            if place.size is not None:
                sequence.size = place.size
            if sequence.was_skipped(position):
                return False
            if position < sequence.next or position in sequence.pending:
                self.duplicates += 1
                return True
            # The claim is written before anything is sent, so of two processes one sends; the other finds the position
            # done, or the claim over, when it reads again.
            if position == sequence.next and not self._sequences.taken(held):
                self._sequences.claim(held)
                if await self._sequences.write(place.id, held):
                    await self._release(place.id, held, head=message)
                    return True
            else:
                if len(sequence.pending) >= self._max_waiting:
                    raise Retry(f"{self._max_waiting:,} parts of the sequence wait for position {sequence.next}")
                # First the part, then the record that names it: a crash in between leaves a part that nobody names and
                # that expires, never a record that waits for a part which is not there.
                if not stored:
                    await self._sequences.keep(place.id, position, message)
                    stored = True
                sequence.pending.append(position)
                sequence.note_gap(self._gap_end())
                if await self._sequences.write(place.id, held):
                    return True
            conflicts = await after_conflict(conflicts, f"sequence {place.id}")

    async def _turn_away(self, message: Message[Any]) -> None:
        self.late += 1
        await turn_away(message, self._on_late, "too late: its position in the sequence was given up")

    # Releasing: by one process at a time, who claims the sequence.

    async def _release(self, key: str, held: HeldSequence, *, head: Message[Any] | None = None) -> None:
        """Send the head, then what waited for it; raises only what concerns the head."""
        if head is not None:
            try:
                await self._send(key, held.value, [head])
            except BaseException:
                await self._sequences.update(key, held, SequenceState.disclaim)
                raise
            await self._advance(key, held, held.value.next)
        try:
            await self._release_kept(key, held)
        except Exception as error:  # noqa: BLE001 - what is stored is due again soon, and the head was sent
            _lines.warning("release_failed", varying={"sequence": key}, error=error_text(error))

    async def _release_kept(self, key: str, held: HeldSequence) -> None:
        """Send what waited, as far as there is no gap; raises what failed, and it is due again."""
        limit = _MAX_BATCH
        try:
            while ready := held.value.ready(limit):
                limit = await self._release_batch(key, held, ready)
        except Exception as error:
            until = clock.now() + retry_delay(error, held.value.failures + 1)
            await self._sequences.update(key, held, lambda sequence: sequence.put_off(until))
            raise

    async def _release_batch(self, key: str, held: HeldSequence, ready: list[int]) -> int:
        """Send the stored parts up to the first that is lost, or take that for missing; how many to send next."""
        messages, lost = await self._sequences.kept(key, ready)
        whole = list(takewhile(messages.__contains__, ready))
        if not whole:
            await self._lose(key, held, lost, "a resequencer stored it, and cannot read it any more")
            return _MAX_BATCH
        # Sent, then noted, then dropped: a crash at any point sends some again, with the same ids, and loses none.
        try:
            await self._send(key, held.value, [messages[each] for each in whole])
        except (InvalidMessage, PartialSendError) as error:
            if not _refuses(error):
                raise
            if len(whole) > 1:
                return 1  # one by one it shows which it is
            await self._lose(key, held, messages, error_text(error))
        else:
            await self._advance(key, held, whole[-1])
            await self._sequences.drop(key, whole)
        return _MAX_BATCH if len(ready) > 1 else 1

    async def _lose(
        self, key: str, held: HeldSequence, lost: Mapping[int, Message[Any] | bytes | None], reason: str
    ) -> None:
        """Take stored parts for missing that will never be released; those behind them have a gap before them."""
        for position, part in lost.items():
            _lines.error("part_lost", varying={"sequence": key, "position": position}, reason=reason)
            if self._dead_letters is not None and part is not None:
                message = Message(part, id=f"{key}/{position}", group_id=key) if isinstance(part, bytes) else part
                await send_dead_letter(self._dead_letters, message, reason, source=self.name, count=1)
        await self._sequences.update(key, held, lambda sequence: sequence.lose(lost, self._gap_end()))
        self.lost += len(lost)
        if self._dead_letters is not None:
            await self._sequences.drop(key, lost)

    async def _send(self, key: str, sequence: SequenceState, messages: list[Message[Any]]) -> None:
        await self._output.send(*(_prepared(each, key, sequence) for each in messages))
        self.released += len(messages)

    async def _advance(self, key: str, held: HeldSequence, released: int) -> None:
        """Note what was released; the sequence stays claimed while there is more to release."""

        def advance(sequence: SequenceState) -> None:
            sequence.advance(released + 1, self._gap_end())
            if sequence.next in sequence.pending:
                self._sequences.claim(held)
            else:
                sequence.disclaim()

        await self._sequences.update(key, held, advance)

    async def _on_due(self, due: str) -> None:
        """Give a gap up whose time is over, or finish a release that failed."""
        key = sequence_id(due)
        async with self._lock(key):
            held = await self._sequences.read(key)
            if held is None or held.value.due is None or held.value.due > clock.now():
                return
            sequence = held.value
            gap = sequence.skip() if sequence.next not in sequence.pending else None
            self._sequences.claim(held)
            if not await self._sequences.write(key, held):
                return
            if gap is not None:
                self.gaps += gap[1] - gap[0] + 1
                _log.warning("gap_given_up", sequence=key, first=gap[0], last=gap[1])
            await self._release_kept(key, held)

    def _lock(self, key: str) -> asyncio.Lock:
        """Spares the handlers of this process conflicts; other processes conflict in the store."""
        return self._locks.setdefault(key, asyncio.Lock())

    def _gap_end(self) -> float | None:
        return None if self._gap_timeout is None else clock.now() + self._gap_timeout


def _refuses(error: InvalidMessage | PartialSendError) -> bool:
    """Whether one of the messages is at fault, so that no other attempt will send it."""
    return isinstance(error, InvalidMessage) or any(isinstance(each.error, InvalidMessage) for each in error.failed)


def _prepared(message: Message[Any], key: str, sequence: SequenceState) -> Message[Any]:
    """The message as it is sent on: in the group of its sequence, saying what was given up before it."""
    position = message.sequence.position if message.sequence is not None else 0
    gap = sequence.gap_before(position)
    headers = message.headers if gap is None else {**message.headers, "sequence-gap": f"{gap[0]}-{gap[1]}"}
    return message.replace(group_id=message.group_id or key, headers=headers)
