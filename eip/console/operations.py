"""Operations on dead letters: each change is in the audit log before it is made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from eip.channels import without_dead_letter_headers
from eip.console._bodies import shown_body
from eip.console._edits import edit_of
from eip.console._exports import Export, read_export
from eip.console._jobs import Job, Jobs
from eip.console._moves import both, move, targets_of
from eip.console._selection import Selection
from eip.console.audit import AuditLog
from eip.console.letters import DeadLetters
from eip.console.redaction import Redaction
from eip.console.subject import DeadLetterQueue, Subject
from eip.errors import ConfigurationError

__all__ = ["Operations"]

_MAX_RATE: Final = 100_000.0
_RESTORE_BATCH: Final = 10


class Operations:
    """Sends dead letters again, changed or as they are, and discards them.

    Args:
        subject: whose.
        letters: the dead letters that were looked at.
        redaction: what masked them, so that edits keep what was masked.
        audit: where changes are recorded.
        exports: the folder that discarded messages are written to; None: nothing can be discarded.
    """

    def __init__(
        self,
        subject: Subject,
        letters: DeadLetters,
        redaction: Redaction,
        audit: AuditLog,
        *,
        exports: Path | None = None,
    ) -> None:
        self._subject, self._letters, self._redaction = subject, letters, redaction
        self.audit, self.exports, self.jobs = audit, exports, Jobs()

    async def aclose(self) -> None:
        """End what is under way; what was moved stays moved, and nothing is lost."""
        await self.jobs.aclose()

    # Dead letters.

    async def redrive(
        self, queue: str, selection: Selection, *, by: str, rate: float | None = None, to: str | None = None
    ) -> Job:
        """Send dead letters back to where they failed, each before it is taken off.

        Args:
            queue: of dead letters.
            selection: which of them.
            by: who does it.
            rate: messages a second at most.
            to: another queue that gets them.

        Raises:
            LookupError: there is no such queue.
            ConfigurationError: the rate is invalid, or no queue to send them to is known.
            Conflict: another job is at work on the queue.
            StoreError: the audit log cannot be written.
        """
        info, dead = self._letters.queue(queue)
        if rate is not None and not 0 < rate <= _MAX_RATE:
            raise ConfigurationError(f"rate must be more than 0 and at most {_MAX_RATE:,.0f}, got {rate}")
        targets = targets_of(self._subject, info, to)

        async def work(job: Job) -> None:
            for target, is_for in targets:
                await move(job, dead, target, both(selection.predicate(info), is_for), selection, rate=rate)

        return await self._start("redrive", info, selection, work, by=by, rate=rate, to=to)

    async def send_edited(
        self,
        queue: str,
        key: str,
        *,
        by: str,
        body: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        to: str | None = None,
    ) -> Job:
        """Send a dead letter again, changed; values that were masked stay as they are.

        Args:
            queue: of dead letters.
            key: of the letter; the message keeps its id.
            by: who does it.
            body: the text of the new body; None: as it is.
            attributes: all of them; None: as they are.
            to: the queue that gets it; default: where it failed.

        Raises:
            LookupError: there is no such queue or message.
            ConfigurationError: what was written cannot be sent.
            Conflict: another job is at work on the queue.
            StoreError: the audit log cannot be written.
        """
        info, dead = self._letters.queue(queue)
        message = without_dead_letter_headers(await self._letters.find(queue, key))
        shown = await shown_body(message, self._redaction)
        transform = edit_of(message, shown, self._redaction, body=body, attributes=attributes)
        selection, targets = Selection(keys=frozenset((key,))), targets_of(self._subject, info, to)

        async def work(job: Job) -> None:
            for target, is_for in targets:
                wanted = both(selection.predicate(info), is_for)
                await move(job, dead, target, wanted, selection, transform=transform)

        changed = [name for name, given in (("body", body), ("attributes", attributes)) if given is not None]
        return await self._start(
            "edit", info, selection, work, by=by, to=to, changed=", ".join(changed) or "nothing", message_id=message.id
        )

    async def discard(self, queue: str, selection: Selection, *, by: str) -> Job:
        """Take dead letters off their queue for good, each after it was written to an export.

        Only those that the last look showed are discarded.

        Raises:
            LookupError: there is no such queue.
            ConfigurationError: exports are off, or nobody has looked at the queue.
            Conflict: another job is at work on the queue.
            StoreError: the audit log cannot be written.
        """
        info, dead = self._letters.queue(queue)
        if self.exports is None:
            raise ConfigurationError("nothing can be discarded: the console has no folder for exports (--exports)")
        look = self._letters.last_look(queue)
        if look is None:
            raise ConfigurationError(f"look at {queue} first: only what was seen is discarded")
        wanted = selection.predicate(info)
        seen = Selection(keys=frozenset(key for key, each in look.kept.items() if wanted(each)))
        export = Export(self.exports, queue)

        async def work(job: Job) -> None:
            if seen.keys:
                await move(job, dead, export, seen.predicate(info), seen, keep_reason=True)
            job.note = f"exported to {export.path}" if export.count else "nothing was there to discard"

        return await self._start(
            "discard", info, selection, work, by=by, total=len(seen.keys or ()), export=export.name
        )

    async def restore(self, export: str, queue: str, *, by: str) -> Job:
        """Put the messages of an export back on a queue of dead letters.

        Raises:
            LookupError: there is no such queue or export.
            ConfigurationError: exports are off.
            Conflict: another job is at work on the queue.
            StoreError: the audit log cannot be written.
        """
        info, dead = self._letters.queue(queue)
        if self.exports is None:
            raise ConfigurationError("the console has no folder for exports (--exports)")
        messages = read_export(self.exports, export)
        first = [each for each in (next(messages, None),) if each is not None]

        async def work(job: Job) -> None:
            batch = first
            while batch:
                await dead.send(*batch)
                job.moved += len(batch)
                batch = [each for _, each in zip(range(_RESTORE_BATCH), messages, strict=False)]

        return await self._start("restore", info, Selection(), work, by=by, export=export)

    async def cancel_job(self, id: str, *, by: str) -> Job:  # noqa: A002 - it is one
        """Have a job end; what it has moved stays moved. Raises `LookupError` where there is none of that id."""
        async with self.audit.change("cancel job", by=by, job=id):
            return self.jobs.cancel(id)

    async def _start(
        self,
        action: str,
        info: DeadLetterQueue,
        selection: Selection,
        work: Callable[[Job], Awaitable[None]],
        *,
        by: str,
        rate: float | None = None,
        total: int | None = None,
        **details: Any,
    ) -> Job:
        await self.audit.check()
        queue, count = info.name, self._count(info, selection) if total is None else total

        async def audited(job: Job) -> None:
            described = {"queue": queue, "selection": str(selection), "rate": rate, **details}
            async with self.audit.change(action, by=by, **described) as outcome:
                self._letters.busy.add(queue)
                try:
                    async with self._letters.turn(queue):
                        await work(job)
                finally:
                    self._letters.busy.discard(queue)
                    self._letters.forget(queue)
                    outcome.update(moved=job.moved, left=job.left, failed=job.failed)

        return self.jobs.start(action, queue, audited, by=by, total=count, rate=rate)

    def _count(self, info: DeadLetterQueue, selection: Selection) -> int | None:
        if selection.keys is not None:
            return len(selection.keys)
        look = self._letters.last_look(info.name)
        if look is None or not look.is_complete:
            return None
        wanted = selection.predicate(info)
        return sum(wanted(each) for each in look.kept.values())
