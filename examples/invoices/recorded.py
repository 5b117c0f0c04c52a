"""The stand-in for Textract: works asynchronously, from recorded analyses, and loses no job in a crash."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from pydantic import BaseModel

from eip import Message, Sender, clock
from eip.errors import MessageTooLarge, Reject
from eip.patterns.process_manager import Process, ProcessManager
from eip.retry import Backoff
from eip.stores.base import Store
from eip.stores.objects import ObjectStore
from examples.invoices.analysis import DocumentAnalysis, Location, Notice, Status
from examples.invoices.layouts import LAYOUTS
from examples.invoices.model import MAX_SCAN_BYTES
from examples.invoices.recordings import layout_of, recorded_blocks

__all__ = ["RecordedAnalysis"]

_NAME: Final = "textract job"
_PATIENT: Final = Backoff(cap=60.0, max_attempts=20)


class Job(BaseModel):
    """A document on its way through the service."""

    id: str
    bucket: str
    key: str
    status: Status = "IN_PROGRESS"
    reason: str = ""
    layout: str = ""
    """What it was found to be; empty: no recording is of it, so nothing can be read in it."""


class RecordedAnalysis(DocumentAnalysis):
    """Runs jobs; run `manager` beside the workflow.

    Args:
        objects: where the documents are.
        store: of the jobs.
        topic: receives the notices.
        takes: seconds that a job takes, by the document's key.
    """

    def __init__(
        self, objects: ObjectStore, store: Store, topic: Sender, *, takes: Callable[[str], float] = lambda _: 0.5
    ) -> None:
        self._objects, self._topic = objects, topic
        job = (
            Process(_NAME, state=Job)
            .wait(lambda job: takes(job.key))
            .step(self._analyse, retry=_PATIENT)
            .step(self._publish, retry=_PATIENT)
        )
        self.manager = ProcessManager(store, [job])

    async def start(self, bucket: str, key: str, *, tag: str) -> str:
        await self.manager.start(_NAME, Job(id=tag, bucket=bucket, key=key), id=tag)
        return tag

    async def fetch(self, job: str) -> dict[str, Any]:
        try:
            state: Job = await self.manager.state(job)
        except LookupError:
            raise Reject(f"there is no job {job}") from None
        blocks = recorded_blocks(state.layout) if state.layout and state.status == "SUCCEEDED" else []
        return {
            "JobStatus": state.status,
            "StatusMessage": state.reason,
            "DocumentMetadata": {"Pages": len({block["Page"] for block in blocks})},
            "Blocks": blocks,
        }

    async def repeat_notices(self) -> None:
        """Publish the notices of all jobs that are done: those of a process that was killed have gone with it."""
        for instance in await self.manager.instances(status="completed", limit=1000):
            await self._publish(await self.manager.state(instance.id))

    async def _analyse(self, job: Job) -> None:
        try:
            job.layout = await self._look_at(job)
        except (Reject, MessageTooLarge) as error:
            job.status, job.reason = "FAILED", str(error)
        else:
            job.status = "SUCCEEDED"

    async def _look_at(self, job: Job) -> str:
        data = await self._objects.get(job.bucket, job.key, limit=MAX_SCAN_BYTES)
        if data is None:
            raise Reject("the document is gone")
        name = await asyncio.to_thread(layout_of, data)
        if name and LAYOUTS[name].status == "FAILED":
            raise Reject("the document cannot be read")
        return name

    async def _publish(self, job: Job) -> None:
        notice = Notice(
            job=job.id,
            status=job.status,
            tag=job.id,
            location=Location(bucket=job.bucket, key=job.key),
            timestamp=round(clock.now() * 1000),
        )
        await self._topic.send(Message(notice, id=f"{job.id}/notice"))
