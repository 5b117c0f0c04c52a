"""Return addresses of their own (Hohpe & Woolf, "Return Address"): a reply queue for each key, e.g. each customer.

A queue is made when it is first asked for, and removed when the last request that names it is over. With a store, all
processes of a scatter-gather share the queues, and consume each of them. A queue's life is a record:

- *live* until the latest deadline of its requests, and ``idle`` seconds more;
- then *leaving*: the processes stop consuming it. A request that comes now makes it live again;
- then *gone*: it is removed. A request that comes now gets a queue of another name, since SQS refuses to make a queue
  again within 60 seconds.

Each step is one conditional write. So no queue is removed that a request in flight names, and what a process that ends
leaves behind is done by another, or by the next to start.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Protocol
from weakref import WeakValueDictionary

from pydantic import BaseModel
from typing_extensions import override

from eip import clock
from eip._checks import check_duration, check_type
from eip._ids import new_id
from eip._logging import get_logger
from eip._repeated import RepeatedLines
from eip.channels import TemporaryQueue, Transport
from eip.clock import Duration
from eip.errors import ConfigurationError, EipError, error_text
from eip.patterns._gathering import ReplyChannel, check_deadline
from eip.patterns._records import Records, Versioned, after_conflict
from eip.patterns._scheduler import ScheduledService
from eip.stores.base import Store
from eip.stores.memory import MemoryStore
from eip.topology import QueueSpec, Topology
from eip.topology.resources import DEAD_LETTER_RETENTION

__all__ = ["ReplyQueues"]

_lines = RepeatedLines(get_logger("eip.reply_queues"))

_FAR_S: Final = 10 * 365 * 24 * 3600.0
"""All queues are due within that time."""
_MAX_QUEUES: Final = 10_000
"""Queues that one process consumes."""
_LEAVING_POLLS: Final = 3
"""Looks of other processes that fit between the end of a queue's use and its removal."""
_KEY_LETTERS: Final = 12
"""Letters of a key that its queue's name has, for people."""


_PLAIN: Final = QueueSpec("replies")


class _QueueRecord(BaseModel):
    v: int = 1
    queue: str
    until: float
    """When the next step is due; of a live one, when its last request is over and it was idle for long enough."""
    state: Literal["live", "leaving", "gone"] = "live"


class _Listening(Protocol):
    """What consumes the replies: `ScatterGather` or `RequestReply`."""

    async def listen(self, replies: ReplyChannel) -> None:
        """Consume another reply channel."""
        ...

    async def unlisten(self, replies: ReplyChannel) -> None:
        """Stop consuming it."""
        ...


@dataclass(slots=True)
class _Open:
    """A queue that this process consumes."""

    channel: ReplyChannel
    until: float


class ReplyQueues(ScheduledService):
    """Makes a reply queue for each key, and removes it when it is no longer used; a service.

        async with ScatterGather(rides, shared, store=quotes) as rfq, ReplyQueues(aws, rfq, store=queues) as own:
            await rfq.request(ride, deadline=300, replies=await own.of("Ada", deadline=300))

    Args:
        transport: makes and removes the queues.
        gather: takes the replies, a `ScatterGather` or a `RequestReply`.
        queue: what each queue is like. Its name is what their names begin with, 1 to 30 letters, digits, - and _;
            they share its dead-letter queue.
        store: shares the queues with all processes that have a store of the same collection, which serves nothing
            else. Without one they are temporary queues of this process: for requests that end with it.
        idle: seconds (or timedelta) that a queue is kept after its last request was over.
        poll_interval: seconds between looks for queues that other processes made, or that are leaving.
        grace: seconds that what is being removed may take after `stop`.
    """

    def __init__(
        self,
        transport: Transport,
        gather: _Listening,
        *,
        queue: QueueSpec = _PLAIN,
        store: Store | None = None,
        idle: Duration = 300.0,
        poll_interval: Duration = 5.0,
        grace: Duration = 20.0,
    ) -> None:
        self._transport = check_type("transport", transport, Transport, "a transport")
        self._spec = check_type("queue", queue, QueueSpec, "a QueueSpec")
        if not re.fullmatch("[A-Za-z0-9_-]{1,30}", queue.name):
            raise ConfigurationError(f"queue must have a name of 1 to 30 letters, digits, - and _, got {queue.name!r}")
        self._idle = check_duration("idle", idle)
        self._poll_interval = check_duration("poll_interval", poll_interval, positive=True)
        kept = MemoryStore() if store is None else store
        super().__init__(kept, self._on_due, name="reply_queues", grace=grace)
        self._gather, self._shared = gather, store is not None
        self._records = Records(kept, _QueueRecord)
        self._open: dict[str, _Open] = {}
        """By queue name."""
        self._names: dict[str, str] = {}
        """By key, the queue that this process used last."""
        self._temporary: dict[str, TemporaryQueue] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def of(self, key: str, *, deadline: Duration) -> ReplyChannel:
        """The queue of a key, which is there for as long as the request lasts.

        Args:
            key: e.g. the customer.
            deadline: the request's, seconds (or timedelta) from now.

        Raises:
            EipError: the service or the store failed.
        """
        until = clock.now() + check_deadline("deadline", deadline)
        known = self._open.get(self._names.get(check_type("key", key, str, "a str"), ""))
        if known is None or known.until < until:
            async with self._lock(f"key {key}"):
                known = await self._reserve(key, until)
        return known.channel

    @asynccontextmanager
    async def _lock(self, what: str) -> AsyncIterator[None]:
        lock = self._locks.setdefault(what, asyncio.Lock())
        async with lock:
            yield

    async def _reserve(self, key: str, until: float) -> _Open:
        conflicts = 0
        while True:
            held = await self._records.read(key) or Versioned(_QueueRecord(queue=self._new_name(key), until=0.0))
            if held.value.state == "gone":
                await self._remove(held.value.queue)
                held.value = _QueueRecord(queue=self._new_name(key), until=0.0)
            record = held.value
            fits = record.state == "live" and record.until >= until
            if not fits:
                record.state, record.until = "live", until + self._idle
            if fits or await self._records.write(key, held, due=record.until):
                self._scheduler.wake(record.until)
                self._names[key] = record.queue
                return await self._listen(record.queue, record.until)
            conflicts = await after_conflict(conflicts, f"the reply queue of {key!r}")

    def _new_name(self, key: str) -> str:
        """A name that tells people whose queue it is, and is never used again."""
        if not self._shared:
            queue = self._transport.temporary_queue(self._spec.name)
            self._temporary[queue.name] = queue
            return queue.name
        letters = re.sub("[^A-Za-z0-9_-]", "", key)[:_KEY_LETTERS] or "key"
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:12]
        return f"{self._spec.name}-{letters}-{digest}-{new_id()[:8]}"

    async def _listen(self, name: str, until: float) -> _Open:
        """Consume the queue in this process; it is made where it is missing."""
        async with self._lock(f"queue {name}"):
            known = self._open.get(name)
            if known is None:
                channel = self._temporary.get(name) or await self._made(name)
                await self._gather.listen(channel)
                known = self._open[name] = _Open(channel, until)
            known.until = max(known.until, until)
            return known

    async def _made(self, name: str) -> Any:
        """A queue on the transport; all of them share one dead-letter queue, which stays."""
        spec = self._spec
        dead_letters = f"{spec.name}-dead" if spec.dead_letters is True else spec.dead_letters
        resources = [replace(spec, name=name, dead_letters=dead_letters)]
        if dead_letters:
            resources.append(QueueSpec(dead_letters, dead_letters=False, retention=DEAD_LETTER_RETENTION))
        await Topology(*resources).apply(self._transport)
        return self._transport.queue(name)

    async def _unlisten(self, name: str) -> None:
        known = self._open.pop(name, None)
        if known is not None:
            self._names = {key: queue for key, queue in self._names.items() if queue != name}
            await self._gather.unlisten(known.channel)

    # The end of queues.

    async def _on_due(self, key: str) -> None:
        async with self._lock(f"key {key}"):
            held = await self._records.read(key)
            if held is not None and held.value.until <= clock.now():
                await self._end(key, held)

    async def _end(self, key: str, held: Versioned[_QueueRecord]) -> None:
        """Take the next step with a queue whose time has come; another process may be first."""
        record = held.value
        match record.state:
            case "live":
                record.state, record.until = "leaving", clock.now() + _LEAVING_POLLS * self._poll_interval
                if await self._records.write(key, held, due=record.until):
                    await self._unlisten(record.queue)
            case "leaving":
                record.state = "gone"
                if await self._records.write(key, held, due=record.until):
                    await self._forget(key, held)
            case "gone":
                await self._forget(key, held)

    async def _forget(self, key: str, held: Versioned[_QueueRecord]) -> None:
        await self._remove(held.value.queue)
        await self._store.delete(key, version=held.version)

    async def _remove(self, name: str) -> None:
        await self._unlisten(name)
        temporary = self._temporary.pop(name, None)
        await (self._transport.remove_queue(name) if temporary is None else temporary.remove())

    # What other processes do.

    @override
    async def run(self) -> None:
        """Consume the queues of all processes, and remove what is no longer used, until `stop`."""
        following = asyncio.create_task(self._follow(), name="reply queues of other processes")
        try:
            await super().run()
        finally:
            following.cancel()
            await asyncio.wait((following,))
            ending = [self._unlisten(name) for name in list(self._open)]
            await asyncio.gather(*ending, *(each.remove() for each in self._temporary.values()))
            self._temporary.clear()
            self._names.clear()

    async def _follow(self) -> None:
        while self._shared:
            try:
                await self._look()
            except EipError as error:
                _lines.warning("reply_queues_not_read", error=error_text(error))
            await asyncio.sleep(self._poll_interval)

    async def _look(self) -> None:
        """Consume the queues that are live, and no others."""
        keys = await self._store.due(clock.now() + _FAR_S, limit=_MAX_QUEUES)
        found = [held.value for key in keys if (held := await self._records.read(key)) is not None]
        live = {record.queue: record.until for record in found if record.state == "live"}
        ended = {record.queue for record in found if record.state != "live"}
        for name, known in list(self._open.items()):
            if name in ended or (name not in live and known.until < clock.now()):
                await self._unlisten(name)
        for name, until in live.items():
            try:
                await self._listen(name, until)
            except EipError as error:
                _lines.warning("reply_queue_not_consumed", varying={"queue": name}, error=error_text(error))
