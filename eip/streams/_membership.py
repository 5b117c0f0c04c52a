"""The workers of one group in this process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from eip.errors import DecodeError
from eip.health import Health
from eip.message import Message
from eip.stores.base import Store
from eip.streams._held import Held
from eip.streams._worker import Worker
from eip.streams.leases import LeaseTable
from eip.streams.log import Log, Start
from eip.streams.options import GroupOptions
from eip.streams.window import Slot

__all__ = ["Membership"]


class Membership:
    """The workers of a group in this process, which consumers join.

    Args:
        log: the stream.
        group: its name.
        leases: where leases are kept, or what opens it when first needed.
        start: where a new group begins.
        options: timing and bounds.
    """

    def __init__(
        self,
        log: Log,
        group: str,
        *,
        leases: Store | Callable[[], Awaitable[Store]],
        start: Start,
        options: GroupOptions,
    ) -> None:
        self._log, self._group, self._options = log, group, options
        self._start: Start = start
        self._leases = leases
        self._workers: set[Worker] = set()

    @property
    def held(self) -> Iterator[Held]:
        """The shards that the workers in this process hold."""
        return (each for worker in self._workers for each in worker.held.values())

    def health(self) -> Health:
        """Whether the workers in this process read their shards and keep their leases; ok without a worker."""
        failing = [each for each in (worker.health for worker in self._workers) if not each.ok]
        return min(failing, key=lambda each: each.failing_since or 0.0) if failing else Health(ok=True)

    async def table(self) -> LeaseTable:
        """The group's leases."""
        if callable(self._leases):
            self._leases = await self._leases()
        return LeaseTable(self._leases, self._log.name, self._group, address=self._log.address)

    async def join(
        self,
        lane_of: Callable[[str], Any],
        options: GroupOptions | None = None,
        *,
        parallelization: int = 1,
        **callbacks: Any,
    ) -> Worker:
        """A worker of the group, at work; close it with `leave`. For the parameters see `Worker`."""
        worker = Worker(
            self._log,
            self.table,
            group=self._group,
            start=self._start,
            options=options or self._options,
            lane_of=lane_of,
            parallelization=parallelization,
            **callbacks,
        )
        self._workers.add(worker)
        try:
            await worker.open()
        except BaseException:
            self._workers.discard(worker)
            raise
        return worker

    async def leave(self, worker: Worker) -> None:
        """Close the worker: its last checkpoints are written, its shards left to others."""
        try:
            await worker.aclose()
        finally:
            self._workers.discard(worker)

    def message(self, held: Held, slot: Slot) -> tuple[Message[Any], Exception | None]:
        """A record of a shard as a message, and the error if it cannot be read; never raises."""
        record = slot.record
        try:
            return self._log.message(held.shard, record)
        except Exception as error:  # noqa: BLE001 - whatever reading a record raises concerns that record alone
            raw = record.payload if isinstance(record.payload, bytes) else b""
            where = {"shard": held.shard, "sequence-number": record.sequence}
            message = Message.received(
                raw, id=f"{held.shard}:{record.name}", group_id=record.key, created_at=record.at, headers=where
            )
            return message, DecodeError(f"record cannot be read: {type(error).__name__}: {error}")
