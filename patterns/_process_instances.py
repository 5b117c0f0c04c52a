"""The instances of processes in their store: read, written on condition, changed by others, woken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from eip import clock
from eip.envelope import dump_message
from eip.message import Message
from eip.patterns._process_instance import Instance
from eip.patterns._records import Records, Versioned, after_conflict, readable_messages
from eip.stores.base import LAST_TIME, Store

__all__ = ["Instances", "bring_forward"]

_MAX_LISTED: Final = 100_000
"""Instances that one listing looks at."""


class Instances:
    """Instances by their id, and the messages that came for them.

    Args:
        store: where they are.
        retention: seconds that one that has ended is known.
        wake: has what is due now done.
    """

    def __init__(self, store: Store, retention: float, wake: Callable[[], None]) -> None:
        self._store, self._retention, self._wake = store, retention, wake
        self._records = Records(store, Instance)

    async def read(self, key: str) -> Versioned[Instance] | None:
        """The instance as it is now, or None."""
        return await self._records.read(key)

    async def keys(self) -> Sequence[str]:
        """The ids of all instances."""
        return await self._store.due(LAST_TIME, limit=_MAX_LISTED)

    async def write(self, held: Versioned[Instance]) -> bool:
        """Write an instance; one that has ended is forgotten after a while, but not a failed one.

        One that its parent may still compensate is not forgotten either.
        """
        instance = held.value
        forgotten = instance.ended and instance.status != "failed" and (instance.parent is None or instance.released)
        expires_at = clock.now() + self._retention if forgotten else None
        # What is not due is written down as due at the end of time, so that `Store.due` lists all instances.
        due = LAST_TIME if instance.due is None else instance.due
        return await self._records.write(instance.id, held, due=due, expires_at=expires_at)

    async def write_result(self, held: Versioned[Instance], claim: str | None) -> bool:
        """Write what an attempt came to; False where another process has taken the instance over.

        Somebody may have asked for the instance's cancellation while the attempt ran: the result counts nevertheless,
        or what was done could not be compensated.

        Args:
            held: as read, with the changes.
            claim: what the attempt was claimed with; None: it was no attempt.
        """
        while not await self.write(held):
            latest = await self.read(held.value.id)
            if latest is None or claim is None or latest.value.claim != claim:
                return False
            held.version, held.value.cancelled = latest.version, latest.value.cancelled
        return True

    async def create(self, instance: Instance) -> bool:
        """Write a new instance; False where there is one of that id."""
        made = await self.write(Versioned(instance))
        if made:
            self._wake()
        return made

    async def change(self, key: str, change: Callable[[Instance], bool]) -> Instance | None:
        """Change an instance from outside, whatever others do to it at the time.

        Args:
            key: its id.
            change: changes what it is given, and returns whether there was anything to change.

        Returns:
            The instance as it is then; None where there is none.
        """
        conflicts = 0
        while True:
            held = await self.read(key)
            if held is None or not change(held.value):
                return None if held is None else held.value
            if await self.write(held):
                self._wake()
                return held.value
            conflicts = await after_conflict(conflicts, f"process {key}")

    async def cancel(self, key: str, reason: str) -> Instance | None:
        """Have an instance go back; a step that is under way ends first."""

        def ask(instance: Instance) -> bool:
            goes_back = instance.status == "compensating" and instance.back_to is None
            if instance.ended or goes_back or instance.cancelled is not None:
                return False
            instance.cancelled = reason
            return bring_forward(instance) or True

        return await self.change(key, ask)

    async def look_again(self, key: str) -> None:
        """Have an instance see what became of its children."""
        await self.change(key, lambda instance: not instance.ended and bring_forward(instance))

    async def release(self, parent: Instance) -> None:
        """Let the children of an instance that has ended be forgotten, and theirs."""

        def release(child: Instance) -> bool:
            if child.parent != parent.id or child.released or not child.ended:
                return False
            child.released, child.due = True, clock.now()
            return True

        for step, count in parent.children.items():
            for number in range(count):
                await self.change(parent.child(step, number), release)

    # Messages.

    async def keep(self, key: str, message: Message[Any]) -> None:
        """Keep a message for an instance."""
        await self._store.put_part(key, message.id, dump_message(message))

    async def messages(self, instance: Instance) -> list[Message[Any]]:
        """The messages that came for it and none of its steps has taken."""
        parts = await self._store.parts(instance.id)
        waiting = (raw for name, raw in parts.items() if name not in instance.taken)
        return readable_messages(waiting, f"process {instance.id}")[0]

    async def drop_messages(self, key: str) -> None:
        """Remove all messages for an instance."""
        await self._store.delete_parts(key)


def bring_forward(instance: Instance) -> bool:
    """Have an instance looked at now, unless an attempt is under way; whether that changes it."""
    if instance.claim is not None or (instance.due is not None and instance.due <= clock.now()):
        return False
    instance.due = clock.now()
    return True
