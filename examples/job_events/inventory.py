"""The inventory service: which jobs are available now, as a table by job.

Events may come twice, and after a redrive or a replay an old one may come after a newer one, so a row tells which
position it is from and only a later one changes it. A deleted job's row stays for a while, without its contents:
otherwise a replayed creation would bring the job back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

from pydantic import BaseModel

from eip import Consumer, clock
from examples.job_events.channels import Channels
from examples.job_events.model import JobCreated, JobEvent, JobSalaryUpdated

__all__ = ["Inventory", "InventoryTable", "Job", "JobRecorder"]


class Job(BaseModel, frozen=True):
    """A job that is available, as it was created."""

    job_id: int
    title: str
    employer: str
    city: str


class InventoryTable(Protocol):
    """Jobs by their id; methods raise `eip.errors.StoreError`."""

    async def record(self, job_id: int, position: str, job: Job | None) -> bool:
        """Note a job, or None for a deleted one, as of a position; False where that or a later one is known."""
        ...

    def available(self) -> AsyncIterator[Job]:
        """The jobs that are available."""
        ...


class JobRecorder:
    """Keeps a table of the jobs that are available: what the service and the Lambda function do.

    Args:
        table: what it keeps.
    """

    def __init__(self, table: InventoryTable) -> None:
        self._table = table
        self.lag = 0.0
        """Seconds from the commit in the database to the table, of the latest event."""
        self.stale = 0
        """Events that came twice, or after a later one of their job."""

    async def record(self, event: JobEvent) -> None:
        """Note what an event says of its job."""
        job: Job | None = None
        match event:
            case JobCreated(job_id=number, title=title, employer=employer, city=city):
                job = Job(job_id=number, title=title, employer=employer, city=city)
            case JobSalaryUpdated():
                return  # where the channel does not filter
        if not await self._table.record(event.job_id, event.position, job):
            self.stale += 1
        self.lag = clock.now() - event.occurred_at.timestamp()


class Inventory:
    """A service, see `eip.runtime.service.Service`.

    Args:
        channels: its queue is `Channels.inventory`.
        table: what it keeps.
        concurrency: events in the works; those of one job one at a time.
        options: of the `Consumer`.
    """

    def __init__(self, channels: Channels, table: InventoryTable, *, concurrency: int = 50, **options: Any) -> None:
        self._recorder = JobRecorder(table)
        handler = self._recorder.record
        self.consumer = Consumer(channels.inventory, handler, concurrency=concurrency, name="inventory", **options)

    @property
    def lag(self) -> float:
        """Seconds from the commit in the database to the table, of the latest event."""
        return self._recorder.lag

    @property
    def stale(self) -> int:
        """Events that came twice, or after a later one of their job."""
        return self._recorder.stale

    async def run(self) -> None:
        """Record until `stop`."""
        await self.consumer.run()

    async def stop(self) -> None:
        """Let `run` drain and return."""
        await self.consumer.stop()
