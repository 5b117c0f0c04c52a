"""Operations on processes and scheduled messages: each change is in the audit log before it is made."""

from __future__ import annotations

from eip.console._services import managers_of, named, schedulers_of
from eip.console.audit import AuditLog
from eip.console.subject import Subject
from eip.errors import ConfigurationError

__all__ = ["ServiceOperations"]


class ServiceOperations:
    """Changes what process managers and schedulers hold.

    Args:
        subject: whose services.
        audit: where changes are recorded.
    """

    def __init__(self, subject: Subject, audit: AuditLog) -> None:
        self._subject, self._audit = subject, audit

    async def retry_process(self, manager: str, id: str, *, by: str) -> bool:  # noqa: A002 - it is one
        """Go on with the compensation of a process that failed; False where it did not fail."""
        found = named(managers_of(self._subject), manager)
        async with self._audit.change("retry process", by=by, manager=manager, process_id=id) as outcome:
            outcome["changed"] = changed = await found.retry(id)
        return changed

    async def cancel_process(self, manager: str, id: str, reason: str, *, by: str) -> bool:  # noqa: A002 - it is one
        """Have a process go back; False where it has ended already. Raises `LookupError` where there is none."""
        found = named(managers_of(self._subject), manager)
        async with self._audit.change(
            "cancel process", by=by, manager=manager, process_id=id, reason=reason
        ) as outcome:
            outcome["changed"] = changed = await found.cancel(id, reason)
        return changed

    async def cancel_scheduled(self, scheduler: str, key: str, *, by: str) -> bool:
        """Have a scheduled message never be sent; False where it was sent or cancelled before."""
        found = named(schedulers_of(self._subject), scheduler)
        async with self._audit.change("cancel scheduled", by=by, scheduler=scheduler, key=key) as outcome:
            outcome["changed"] = changed = await found.cancel(key)
        return changed

    async def send_scheduled_now(self, scheduler: str, key: str, *, by: str) -> bool:
        """Have a message that is scheduled once be sent now; False where it was sent or cancelled before.

        Raises:
            LookupError: there is no such scheduler.
            ConfigurationError: it is a repeated one, whose timetable would be lost.
        """
        found = named(schedulers_of(self._subject), scheduler)
        scheduled = await found.get(key)
        if scheduled is not None and (scheduled.cron is not None or scheduled.interval is not None):
            raise ConfigurationError(
                "a repeated message keeps its timetable; only one that is sent once can be sent now"
            )
        async with self._audit.change("send scheduled now", by=by, scheduler=scheduler, key=key) as outcome:
            outcome["changed"] = changed = await found.move(key, delay=0)
        return changed
