"""Process Manager (Hohpe & Woolf, chapter 7): takes work through its steps, and undoes them where one fails for good.

Each instance is a record in a store, written before a step begins and after it has ended, so a crash at any moment
costs at most a repetition of the step under way. Any number of processes may share the store: each step is claimed by
one of them for as long as it may take. Parallel branches, the items of a map and sub-processes are instances of their
own, which any of those processes may take on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from heapq import nlargest
from typing import Any, Final

from eip import clock
from eip._checks import check_duration, check_integer
from eip._ids import new_id
from eip._logging import get_logger
from eip.channels import Sender
from eip.clock import Duration
from eip.errors import ConfigurationError, Reject
from eip.message import Message
from eip.patterns._process_elements import Children, walk
from eip.patterns._process_instances import Instances
from eip.patterns._process_run import ProcessRun
from eip.patterns._records import after_conflict, unless_unreadable
from eip.patterns._scheduler import ScheduledService
from eip.patterns.diagram import Diagram
from eip.patterns.process import Context, Instance, Process, ProcessEnded, Status, Steps, Visit
from eip.runtime.handlers import Handler, Result
from eip.stores.base import Store

__all__ = ["Context", "Instance", "Process", "ProcessEnded", "ProcessManager", "Status", "Steps", "Visit"]

_log = get_logger("eip.process_manager")

_UNKNOWN_RETRY_S: Final = 30.0
"""Seconds after which an instance of an unknown definition is looked at again."""
_READS: Final = 50
"""Instances that a listing reads at once."""


class ProcessManager(ScheduledService):
    """Runs processes: a service (`run`, `stop`) with handlers that start processes and bring them messages.

        manager = ProcessManager(SqliteStore("trips.sqlite"), [trip_v1, trip_v2])
        await run(manager, Consumer(orders, manager.starting("trip")), Consumer(payments, manager.receive))

    Steps are at-least-once: one that was under way in a crash is made again. Of several definitions of one name, new
    instances take the highest version; an instance keeps the version it began with. A compensation that fails for good
    leaves its instance ``"failed"``, for someone to look at; it is never removed, and `retry` goes on with it.

    Args:
        store: of this manager and its peers alone.
        processes: the definitions, those of instances that still run included. Those that they run as sub-processes
            need not be named.
        output: receives a `ProcessEnded` whenever a process has ended, at least once and under the same message id;
            the ends of branches, items and sub-processes are not reported.
        concurrency: instances worked on at once.
        retention: seconds (or timedelta) that an instance that has ended is known.
        grace: seconds (or timedelta) for what is in hand when it is stopped; after that it is cancelled.
    """

    def __init__(
        self,
        store: Store,
        processes: Iterable[Process[Any]],
        *,
        output: Sender | None = None,
        concurrency: int = 100,
        retention: Duration = 7 * 24 * 3600.0,
        grace: Duration = 20.0,
    ) -> None:
        super().__init__(store, self._work, name="process_manager", concurrency=concurrency, grace=grace)
        self._instances = Instances(
            store, check_duration("retention", retention), lambda: self._scheduler.wake(clock.now())
        )
        self._known: dict[tuple[str, int], Process[Any]] = {}
        self._output = output
        for each in processes:
            self._learn(each)

    def _learn(self, process: Process[Any]) -> None:
        """Know a process and those that it runs."""
        key = (process.name, process.version)
        if self._known.setdefault(key, process) is not process:
            raise ConfigurationError(
                f"process {process.name} {process.version} is defined twice: share the one, or raise the version"
            )
        assert process.first
        for each in walk(process.elements):
            if isinstance(each, Children) and isinstance(each.process, Process):
                self._learn(each.process)

    def diagram(self) -> Diagram:
        """The definitions."""
        return Diagram(name="process_manager", steps=tuple(each.diagram() for each in self._known.values()))

    async def start(self, process: str, state: Any, *, id: str | None = None, version: int | None = None) -> str:  # noqa: A002 - it is one
        """Begin a process. Where there is an instance of that id already, nothing happens.

        Args:
            process: its name.
            state: what it begins with.
            id: of the instance; default: a new one.
            version: of the definition; default: the highest.

        Returns:
            The id.

        Raises:
            ConfigurationError: the process is not known, or the state is not of its type.
        """
        versions = [known for name, known in self._known if name == process and version in {None, known}]
        if not versions:
            raise ConfigurationError(f"there is no process {process!r}" + ("" if version is None else f" {version}"))
        definition, now = self._known[process, max(versions)], clock.now()
        instance = Instance(
            id=id or new_id(),
            process=process,
            version=definition.version,
            state=definition.dump(state),
            step=definition.first,
            started_at=now,
            deadline=None if definition.deadline is None else now + definition.deadline,
            due=now,
        )
        await self._instances.create(instance)
        return instance.id

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
            await self._instances.keep(key, message)
            if instance.status != "waiting":
                return None  # it looks for messages before it waits, and once more when that is written
            instance.due = clock.now()
            if await self._instances.write(held):
                self._scheduler.wake(clock.now())
                return None
            conflicts = await after_conflict(conflicts, f"process {key}")

    async def get(self, id: str) -> Instance | None:  # noqa: A002 - it is one
        """The instance as it is now, or None."""
        held = await self._instances.read(id)
        return None if held is None else held.value

    async def state(self, id: str) -> Any:  # noqa: A002 - it is one
        """The state of an instance, in the type of its process; raises `LookupError` where that is not known."""
        instance = await self._existing(id)
        return self.definition(instance).load(instance.state)

    def definition(self, instance: Instance) -> Process[Any]:
        """The process that an instance runs, in its version; raises `LookupError` where that is not known."""
        return self._known[instance.process, instance.version]

    async def ended(self, id: str) -> Instance:  # noqa: A002 - it is one
        """Wait until the instance has ended; raises `LookupError` where there is none."""
        while True:
            instance = await self._existing(id)
            if instance.ended:
                return instance
            await asyncio.sleep(0.25)

    async def instances(
        self,
        process: str | None = None,
        *,
        version: int | None = None,
        status: Status | None = None,
        filter: Callable[[Instance], bool] = lambda _: True,  # noqa: A002 - the library's term
        children: bool = False,
        limit: int = 100,
    ) -> list[Instance]:
        """Instances, the latest first. Reads the records of all, so it is for people who look, not for programs.

        Args:
            process: only those of this name.
            version: only those of this version.
            status: only those in this status.
            filter: only those for which it returns true.
            children: also branches, items and sub-processes; default: what was started by `start`.
            limit: how many at most.
        """
        check_integer("limit", limit, least=1)

        def wanted(each: Instance) -> bool:
            return (
                process in (None, each.process)
                and version in (None, each.version)
                and status in (None, each.status)
                and (children or each.parent is None)
                and filter(each)
            )

        found: list[Instance] = []
        async for page in self._pages():
            found = nlargest(
                limit, [*found, *(each for each in page if wanted(each))], key=lambda each: each.started_at
            )
        return found

    async def family(self, id: str) -> list[Instance]:  # noqa: A002 - it is one
        """An instance, followed by its branches, items and sub-processes, and by theirs.

        Raises `LookupError` where there is none.
        """
        found = [await self._existing(id)]
        for each in found:  # which grows
            keys = [each.child(step, number) for step, count in each.children.items() for number in range(count)]
            found += [child for key in keys if (child := await self.get(key)) is not None]
        return found

    async def cancel(self, id: str, reason: str = "cancelled") -> bool:  # noqa: A002 - it is one
        """Have an instance go back: a step that is under way ends first, then what was done is compensated.

        It ends as ``"cancelled"``. One that has made its last step already is completed nevertheless.

        Args:
            id: of the instance.
            reason: the instance's error from then on.

        Returns:
            False where it has ended already, or goes back because of a failure of the whole process.

        Raises:
            LookupError: there is no such instance.
        """
        found = await self._instances.cancel(id, reason)
        if found is None:
            raise LookupError(id)
        return found.cancelled is not None and not found.ended

    async def retry(self, id: str) -> bool:  # noqa: A002 - it is one
        """Go on with the compensation of an instance that failed; False where it did not fail."""

        def go_on(instance: Instance) -> bool:
            if instance.status != "failed":
                return False
            instance.status, instance.attempt, instance.due = "compensating", 0, clock.now()
            return True

        before = await self.get(id)
        if before is None or before.status != "failed":
            return False
        for step in before.done[-1:]:
            for number in range(before.children.get(step, 0)):
                await self.retry(before.child(step, number))
        after = await self._instances.change(id, go_on)
        return after is not None and after.status == "compensating"

    async def _existing(self, key: str) -> Instance:
        instance = await self.get(key)
        if instance is None:
            raise LookupError(key)
        return instance

    async def _pages(self) -> AsyncIterator[list[Instance]]:
        keys = await self._instances.keys()
        for start in range(0, len(keys), _READS):
            page = await asyncio.gather(*(unless_unreadable(self.get(key)) for key in keys[start : start + _READS]))
            yield [each for each in page if each is not None]

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
            await self._instances.write(held)
            return
        await ProcessRun(self._instances, definition, held, self._output).go(lambda: self._scheduler.stopping)
