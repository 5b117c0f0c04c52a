"""Log lines about failed messages: one event for each failed attempt, in terms of what happens next."""

from __future__ import annotations

from typing import Any, Final

from eip._logging import get_logger
from eip._repeated import RepeatedLines
from eip.channels import Delivery
from eip.errors import error_text
from eip.runtime._recovery import is_counted, max_attempts
from eip.runtime._settings import Settings

__all__ = ["FailureLog"]

_log = get_logger("eip.consumer")
_MAX_ERROR_TYPES: Final = 100
"""Types of errors remembered at once; error classes made at run time must not fill the memory."""


class FailureLog:
    """Writes the events ``retry_scheduled``, ``dead_lettered`` and ``group_parked`` of one consumer.

    A traceback takes dozens of lines, and a service that is away fails every message: the traceback is written with the
    first failure of each error type, and with each dead letter, which nobody tries again.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._repeated = RepeatedLines(_log)
        self._types: set[type[BaseException]] = set()

    def retry_scheduled(self, delivery: Delivery, error: Exception, attempt: int, delay: float) -> None:
        """Report an attempt that failed, and when the next one is due.

        Args:
            delivery: what failed.
            error: what its handler raised.
            attempt: the number of the attempt that failed, from 1.
            delay: seconds until the next attempt.
        """
        if not is_counted(error):  # nothing failed: the handler only waits
            _log.debug("handling_postponed", **self._place(delivery), retry_in=round(delay, 1), reason=str(error))
            return
        limit = max_attempts(delivery.receiver, self._settings.retry)
        _log.warning(
            "retry_scheduled",
            **self._place(delivery),
            attempt=attempt if limit is None else f"{attempt} of {limit}",
            retry_in=round(delay, 1),
            error=error_text(error),
            **({"exc_info": error} if self._is_new(error) else {}),
        )

    def dead_lettered(self, delivery: Delivery, error: Exception, attempt: int) -> None:
        """Report a message that was sent to the dead-letter channel because its handling failed."""
        self._is_new(error)
        _log.error("dead_lettered", **self._place(delivery), attempt=attempt, reason=error_text(error), exc_info=error)

    def dead_lettered_unhandled(self, delivery: Delivery, reason: str) -> None:
        """Report a message that was sent to the dead-letter channel without an attempt: there may be many."""
        place = self._place(delivery)
        ids = {name: place.pop(name) for name in ("message_id", "correlation_id")}
        self._repeated.warning("dead_lettered", **place, reason=reason, varying=ids)

    def dead_letter_failed(self, delivery: Delivery, reason: str, error: Exception) -> None:
        """Report a message that the dead-letter channel did not take; it stays in its channel."""
        self._repeated.error(
            "dead_letter_failed",
            channel=delivery.receiver.name,
            error=error_text(error),
            varying={"message_id": delivery.message.id, "reason": reason},
        )

    def group_parked(self, delivery: Delivery, reason: str) -> None:
        """Report that the messages of a group go to the dead-letter channel from now on."""
        _log.error("group_parked", channel=delivery.receiver.name, group_id=delivery.message.group_id, reason=reason)

    def _place(self, delivery: Delivery) -> dict[str, Any]:
        return {
            "channel": delivery.receiver.name,
            "handler": self._settings.handler_name,
            "message_id": delivery.message.id,
            "correlation_id": delivery.message.correlation_id,
        }

    def _is_new(self, error: Exception) -> bool:
        """Whether it is the first failure of its type."""
        if type(error) in self._types:
            return False
        if len(self._types) >= _MAX_ERROR_TYPES:
            self._types.clear()
        self._types.add(type(error))
        return True
