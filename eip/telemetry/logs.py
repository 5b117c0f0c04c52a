"""The ids of the message that is being handled, in the application's own log lines.

    structlog.configure(processors=[add_message_context, ...])              # with structlog
    logging.getLogger().handlers[0].addFilter(MessageContextFilter())       # with the standard library

The ids are read when a line is written, from the context variable that the consumer sets; nothing is bound per message.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

from typing_extensions import override

from eip.runtime.consumer import current_delivery

__all__ = ["MessageContextFilter", "add_message_context"]


def add_message_context(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add ``message_id``, ``correlation_id``, ``channel`` and ``attempt`` to a structlog event (a processor).

    Outside a handler nothing is added; a field that the line has itself is kept.
    """
    for name, value in _context().items():
        event.setdefault(name, value)
    return event


class MessageContextFilter(logging.Filter):
    """Adds ``message_id``, ``correlation_id``, ``channel`` and ``attempt`` to each record; passes all records.

    Outside a handler the fields are None, so that a format string may name them.
    """

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        """Set the fields that the record has not."""
        context = _context()
        for name in ("message_id", "correlation_id", "channel", "attempt"):
            if not hasattr(record, name):
                setattr(record, name, context.get(name))
        return True


def _context() -> dict[str, Any]:
    try:
        delivery = current_delivery()
    except LookupError:
        return {}
    message = delivery.message
    found: dict[str, Any] = {
        "message_id": message.id,
        "channel": delivery.receiver.name,
        "attempt": delivery.receive_count,
    }
    if message.correlation_id is not None:
        found["correlation_id"] = message.correlation_id
    return found
