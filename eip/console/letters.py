"""Dead letters: looked at without being taken, grouped by what failed and where, and shown page by page."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from eip import clock
from eip._checks import check_integer
from eip.channels import Queue
from eip.console._identity import cut, group_of, key_of, kind_of, reason_of, size_of, source_of
from eip.console.redaction import Redaction
from eip.console.subject import DeadLetterQueue, Subject
from eip.errors import Conflict
from eip.message import Message

__all__ = ["DeadLetters", "Group", "Letter", "Look"]

_MAX_RECEIVED: Final = 500
"""Messages of one look where each look is a receive: a call for ten, and for that moment nobody else gets them."""
_MAX_LOOKS: Final = 4
"""Full ones that are remembered."""
_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A dead letter in a list; all texts are bounded."""

    key: str
    """Names it: ids of other programs' messages may repeat."""
    id: str
    type: str
    group: str
    source: str
    """The queue that it failed on; empty: it does not say, and there are several."""
    reason: str
    attempts: str
    created_at: float
    size: int
    correlation_id: str
    message_group: str


@dataclass(slots=True, kw_only=True)
class Group:
    """Dead letters that failed alike: for the same kind of reason, on the same queue, of the same type."""

    key: str
    reason: str
    source: str
    handlers: tuple[str, ...]
    type: str
    count: int = 0
    oldest_at: float = field(default=float("inf"))
    latest_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The dead letters that a look at a queue found."""

    at: float
    letters: tuple[Letter, ...] = ()
    groups: tuple[Group, ...] = ()
    """The largest first."""
    is_complete: bool = True
    """Whether it found all that were there."""
    is_receive: bool = False
    """Whether it counted as a receive of each message."""
    kept: dict[str, Message[Any]] = field(default_factory=dict, repr=False)
    """The whole messages, by key."""
    size: int = 0
    """Bytes of their bodies."""


class DeadLetters:
    """Looks at the queues of dead letters, and remembers the last look at each.

    Args:
        subject: whose.
        redaction: masks what reasons tell.
        max_letters: letters of one look at a queue, at most 500 where a look is a receive.
        max_bytes: bodies that one look reads, and keeps.
    """

    def __init__(
        self, subject: Subject, redaction: Redaction, *, max_letters: int = 10_000, max_bytes: int = 32 * _MIB
    ) -> None:
        self._subject, self._redaction = subject, redaction
        self._max_letters = check_integer("max_letters", max_letters, least=1)
        self._max_bytes = check_integer("max_bytes", max_bytes, least=1)
        self._looks: OrderedDict[str, Look] = OrderedDict()
        self._turns: dict[str, asyncio.Lock] = {}
        self.busy: set[str] = set()
        """Queues on which something is moved now: a look that is a receive would take messages from under it."""

    def queues(self) -> list[DeadLetterQueue]:
        """All queues of dead letters that are known."""
        return self._subject.dead_letter_queues()

    def queue(self, name: str) -> tuple[DeadLetterQueue, Queue]:
        """A queue of dead letters by its name; raises `LookupError` for any other name."""
        found = next((each for each in self.queues() if each.name == name), None)
        if found is None:
            raise LookupError(name)
        return found, self._subject.transport.queue(name)

    def last_look(self, name: str) -> Look | None:
        """The last look at that queue; None: there was none yet."""
        return self._looks.get(name)

    def turn(self, name: str) -> asyncio.Lock:
        """Held while somebody looks at that queue, which may take messages for a moment, or moves some."""
        return self._turns.setdefault(name, asyncio.Lock())

    async def look(self, name: str) -> Look:
        """Look at the queue now.

        Raises:
            LookupError: it is not a dead-letter queue.
            Conflict: messages of it are moved now, and a look would be a receive.
            TransportError: it cannot be looked at.
        """
        info, queue = self.queue(name)
        if queue.peek_is_receive and name in self.busy:
            raise Conflict(f"messages of {name} are being moved; a look would take some from under that")
        limit = min(self._max_letters, _MAX_RECEIVED) if queue.peek_is_receive else self._max_letters
        async with self.turn(name):
            found = await queue.peek(limit + 1, max_bytes=self._max_bytes)
        look = self._made(info, found, limit, is_receive=queue.peek_is_receive)
        self._remember(name, look)
        return look

    def _remember(self, name: str, look: Look) -> None:
        """Keep the look, and those before it as far as memory allows."""
        self._looks.pop(name, None)
        self._looks[name] = look
        while sum(each.size for each in self._looks.values()) > _MAX_LOOKS * self._max_bytes and len(self._looks) > 1:
            self._looks.popitem(last=False)

    def forget(self, name: str) -> None:
        """The letter is not in the queue any more."""
        self._looks.pop(name, None)

    async def find(self, name: str, key: str) -> Message[Any]:
        """A letter as a whole; looks at the queue where that costs nothing.

        On a service where each look is a receive, only those of the last look are known.

        Raises:
            LookupError: it is not there.
        """
        _, queue = self.queue(name)
        look = self._looks.get(name)
        if look is not None and key in look.kept:
            return look.kept[key]
        if look is None or not queue.peek_is_receive:
            look = await self.look(name)
        if key not in look.kept:
            raise LookupError(key)
        return look.kept[key]

    def letters(self, name: str, *, group: str | None = None, text: str = "") -> Sequence[Letter]:
        """The letters of the last look that belong to a group, and of which a text is part of id, type or reason."""
        look, wanted = self._looks.get(name), text.casefold()
        if look is None:
            return ()
        return [
            each
            for each in look.letters
            if group in (None, each.group)
            and (not wanted or any(wanted in part.casefold() for part in _searched(each)))
        ]

    def _made(self, info: DeadLetterQueue, found: Sequence[Message[Any]], limit: int, *, is_receive: bool) -> Look:
        seen = found[:limit]
        size = sum(size_of(each) for each in seen)
        letters = tuple(self._letter(each, info) for each in seen)
        return Look(
            at=clock.now(),
            letters=letters,
            groups=tuple(sorted(self._groups(letters), key=lambda each: -each.count)),
            is_complete=len(found) <= limit and size < self._max_bytes,
            is_receive=is_receive,
            kept=dict(zip((each.key for each in letters), seen, strict=True)),
            size=size,
        )

    def _letter(self, message: Message[Any], info: DeadLetterQueue) -> Letter:
        headers = message.headers
        return Letter(
            key=key_of(message),
            id=cut(message.id),
            type=cut(message.type or ""),
            group=group_of(message, info),
            source=cut(source_of(message, info)),
            reason=cut(self._redaction.text(reason_of(message))),
            attempts=cut(headers.get("dead-letter-count", "")),
            created_at=message.created_at,
            size=size_of(message),
            correlation_id=cut(message.correlation_id or ""),
            message_group=cut(message.group_id or ""),
        )

    def _groups(self, letters: Iterable[Letter]) -> Iterator[Group]:
        handlers: dict[str, list[str]] = {}
        for reader in self._subject.all_readers():
            handlers.setdefault(reader.source, []).append(reader.handler)
        groups: dict[str, Group] = {}
        for each in letters:
            group = groups.get(each.group)
            if group is None:
                named = tuple(dict.fromkeys(handlers.get(each.source, ())))
                group = groups[each.group] = Group(
                    key=each.group, reason=kind_of(each.reason), source=each.source, handlers=named, type=each.type
                )
            group.count += 1
            group.oldest_at = min(group.oldest_at, each.created_at)
            group.latest_at = max(group.latest_at, each.created_at)
        yield from groups.values()


def _searched(letter: Letter) -> tuple[str, ...]:
    return (letter.id, letter.type, letter.reason, letter.correlation_id, letter.message_group)
