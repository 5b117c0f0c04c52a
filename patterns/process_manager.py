"""Process Manager (Hohpe & Woolf, chapter 7): takes work through its steps, and undoes them where one fails for good.

Each instance is a record in a store, written before a step begins and after it has ended, so a crash at any moment
costs at most a repetition of the step under way. Any number of processes may share the store: each step is claimed by
one of them for as long as it may take.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

from eip import clock
from eip._ids import new_id
from eip._logging import get_logger
from eip.clock import Duration, seconds
from eip.envelope import dump_message
from eip.errors import ConfigurationError, Reject
from eip.message import Message
from eip.patterns._process_run import ProcessRun
from eip.patterns._records import Records, Versioned, after_conflict
from eip.patterns._scheduler import ScheduledService
from eip.patterns.diagram import Diagram
from eip.patterns.process import Context, Instance, Process
from eip.runtime.handlers import Handler, Result
from eip.stores.base import Store

__all__ = ["Context", "Instance", "Process", "ProcessManager"]

_log = get_logger("eip.process_manager")

_UNKNOWN_RETRY_S: Final = 30.0
"""Seconds after which an instance of an unknown definition is looked at again."""


class ProcessManager(ScheduledService):
    """Runs processes: a service (`run`, `stop`) with handlers that start processes and bring them messages.

        manager = ProcessManager(SqliteStore("trips.sqlite"), [trip_v1, trip_v2])
        await run(manager, Consumer(orders, manager.starting("trip")), Consumer(payments, manager.receive))

    Steps are at-least-once: one that was under way in a crash is made again. Of several definitions of one name, new
    instances take the highest version. A compensation that fails for good leaves its instance ``"failed"``, for someone
    to look at; it is never removed, and `retry` goes on with it.

    Args:
        store: of this manager and its peers alone.
        processes: the definitions, those of instances that still run included.
        concurrency: instances worked on at once.
        retention: seconds (or timedelta) that an instance that has ended is known.
        grace: seconds (or timedelta) for what is in hand when it is stopped; after that it is cancelled.
    """

    def __init__(
        self,
        store: Store,
        processes: Iterable[Process],
        *,
        concurrency: int = 100,
        retention: Duration = 7 * 24 * 3600.0,
        grace: Duration = 20.0,
    ) -> None:
        super().__init__(store, self._work, name="process_manager", concurrency=concurrency, grace=grace)
        self._retention = seconds(retention)
        self._instances = Records(store, Instance)
        self._known = {(each.name, each.version): each for each in processes}
        if any(not each.steps for each in self._known.values()):
            raise ConfigurationError("a process has at least one step")

    def diagram(self) -> Diagram:
        """The definitions."""
        return Diagram(name="process_manager", steps=tuple(each.diagram() for each in self._known.values()))

    async def start(self, process: str, state: Any, *, id: str | None = None) -> str:  # noqa: A002 - it is one
        """Begin a process of that name; its id. Where there is an instance of that ``id`` already, nothing happens.

        Raises `ConfigurationError` for a process that is not known, and a state that is not of its type.
        """
        versions = [version for name, version in self._known if name == process]
        if not versions:
            raise ConfigurationError(f"there is no process {process!r}")
        definition, identity, now = self._known[process, max(versions)], id or new_id(), clock.now()
        instance = Instance(
            id=identity,
            process=process,
            version=definition.version,
            state=definition.dump(state),
            step=definition.steps[0].name,
            started_at=now,
            deadline=None if definition.deadline is None else now + definition.deadline,
            due=now,
        )
        if await self._write(Versioned(instance)):
            self._scheduler.wake(clock.now())
        return identity

    def starting(self, process: str) -> Handler:
        """A handler that begins a process for each message: its id is the message's, its state the body."""

        async def start(message: Message[Any]) -> Result:
            await self.start(process, message.body, id=message.id)
            return None

        return start

    async def receive(self, message: Message[Any]) -> Result:
        """Keep a message for the process that its correlation id names; a handler for the channel of replies.

        Raises `Reject` where there is no such process. One that has ended ignores it.
        """
        key = message.correlation_id or ""
        conflicts = 0
        while True:
            held = await self._instances.read(key) if key else None
            if held is None:
                raise Reject("no process waits for this message")
            instance = held.value
            if instance.ended:
                _log.info("message_ignored", process_id=key, message_id=message.id, status=instance.status)
                return None
            await self._store.put_part(key, message.id, dump_message(message))
            if instance.status != "waiting":
                return None  # it looks for messages before it waits, and once more when that is written
            instance.due = clock.now()
            if await self._write(held):
                self._scheduler.wake(clock.now())
                return None
            conflicts = await after_conflict(conflicts, f"process {key}")

    async def get(self, id: str) -> Instance | None:  # noqa: A002 - it is one
        """The instance as it is now, or None."""
        held = await self._instances.read(id)
        return None if held is None else held.value

    async def state(self, id: str) -> Any:  # noqa: A002 - it is one
        """The state of an instance, in the type of its process; raises `LookupError` where that is not known."""
        instance = await self.get(id)
        if instance is None:
            raise LookupError(id)
        return self._known[instance.process, instance.version].load(instance.state)

    async def ended(self, id: str) -> Instance:  # noqa: A002 - it is one
        """Wait until the instance has ended; raises `LookupError` where there is none."""
        while True:
            instance = await self.get(id)
            if instance is None:
                raise LookupError(id)
            if instance.ended:
                return instance
            await asyncio.sleep(0.25)

    async def retry(self, id: str) -> bool:  # noqa: A002 - it is one
        """Go on with the compensation of an instance that failed; False where it did not fail."""
        held = await self._instances.read(id)
        if held is None or held.value.status != "failed":
            return False
        instance = held.value
        instance.status, instance.attempt, instance.due = "compensating", 0, clock.now()
        written = await self._write(held)
        self._scheduler.wake(clock.now())
        return written

    # An instance, as far as it goes.

    async def _work(self, key: str) -> None:
        held = await self._instances.read(key)
        if held is None or held.value.due is None or held.value.due > clock.now():
            return
        instance = held.value
        definition = self._known.get((instance.process, instance.version))
        if definition is None or not definition.fits(instance):
            _log.error("process_unknown", process=instance.process, version=instance.version, process_id=key)
            instance.due = clock.now() + _UNKNOWN_RETRY_S
            await self._write(held)
            return
        await ProcessRun(
            self._store, definition, instance, lambda: self._write(held), lambda: self._scheduler.stopping
        ).go()

    async def _write(self, held: Versioned[Instance]) -> bool:
        """Write an instance; one that has ended is forgotten after a while, a failed one never."""
        instance = held.value
        forgotten = instance.ended and instance.status != "failed"
        expires_at = clock.now() + self._retention if forgotten else None
        return await self._instances.write(instance.id, held, due=instance.due, expires_at=expires_at)
