"""Long work that operators begin: it goes on by itself, is watched by its progress, and can be cancelled."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from eip import clock
from eip._ids import new_id
from eip._logging import get_logger
from eip.errors import Conflict, error_text

__all__ = ["Job", "Jobs", "ended"]

_log = get_logger("eip.console")
_MAX_ENDED: Final = 50
"""Jobs that have ended, still shown."""
Status: TypeAlias = Literal["running", "done", "failed", "cancelled"]


@dataclass(slots=True, kw_only=True)
class Job:
    """A piece of long work."""

    id: str
    action: str
    queue: str
    by: str
    total: int | None
    """About how many messages it is about; None: not known."""
    rate: float | None
    started_at: float
    status: Status = "running"
    moved: int = 0
    left: int = 0
    failed: int = 0
    ended_at: float | None = None
    error: str | None = None
    note: str | None = None
    """Further results: where an export is."""
    task: asyncio.Task[None] | None = field(default=None, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "task"}


async def ended(job: Job, *, within: float) -> Job:
    """Wait for the end of a job, ``within`` so many seconds; returns it, ended or not."""
    if job.task is not None and within > 0:
        await asyncio.wait((job.task,), timeout=within)
    return job


class Jobs:
    """The jobs of a console: of each queue one at a time."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, Job] = OrderedDict()

    def all(self) -> list[Job]:
        """Those that run and the last that have ended, the latest first."""
        return list(self._jobs.values())[::-1]

    def check_free(self, queue: str) -> None:
        """Raise `Conflict` where a job is at work on the queue."""
        for each in self._jobs.values():
            if each.queue == queue and each.status == "running":
                raise Conflict(
                    f"{each.action} of {queue} is under way, begun by {each.by}; wait for its end, or cancel it"
                )

    def start(
        self,
        action: str,
        queue: str,
        work: Callable[[Job], Awaitable[None]],
        *,
        by: str,
        total: int | None = None,
        rate: float | None = None,
    ) -> Job:
        """Begin a job; raises `Conflict` where one is at work on the queue."""
        self.check_free(queue)
        job = Job(id=new_id(), action=action, queue=queue, by=by, total=total, rate=rate, started_at=clock.now())
        self._jobs[job.id] = job
        job.task = asyncio.create_task(self._run(job, work), name=f"console {action} {queue}")
        self._forget()
        return job

    def cancel(self, id: str) -> Job:  # noqa: A002 - it is one
        """Have a job end; what it has moved stays moved. Raises `LookupError` where there is none of that id."""
        job = self._jobs.get(id)
        if job is None:
            raise LookupError(id)
        if job.task is not None:
            job.task.cancel()
        return job

    async def aclose(self) -> None:
        """Cancel all that run, and wait for their end."""
        tasks = [each.task for each in self._jobs.values() if each.task is not None and not each.task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _run(self, job: Job, work: Callable[[Job], Awaitable[None]]) -> None:
        try:
            await work(job)
        except asyncio.CancelledError:
            job.status = "cancelled"
        except Exception as error:  # noqa: BLE001 - it is shown to who began it
            job.status, job.error = "failed", error_text(error)
            _log.warning("console_job_failed", action=job.action, channel=job.queue, error=job.error)
        else:
            job.status = "done"
        finally:
            job.ended_at = clock.now()

    def _forget(self) -> None:
        ended = [each.id for each in self._jobs.values() if each.status != "running"]
        for each in ended[: max(0, len(ended) - _MAX_ENDED)]:
            del self._jobs[each]
