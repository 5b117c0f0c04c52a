"""The library's logger: an event with fields, sent where the application sends its own logs.

An application that configured structlog gets structlog events; any other gets records of the standard library's
`logging`, under the same names (``eip.consumer``, …). Nothing is configured here, and structlog is not imported here:
its console renderer alone would double the time that ``import eip`` takes.
"""

from __future__ import annotations

import logging
import sys
from traceback import format_exception
from typing import Any, Final

__all__ = ["Logger", "get_logger"]


class Logger:
    """Writes events of one name; where they go is decided at each event, so the application may configure late."""

    __slots__ = ("_fields", "_name")

    def __init__(self, name: str, fields: dict[str, Any] | None = None) -> None:
        self._name, self._fields = name, fields or {}

    def bind(self, **fields: Any) -> Logger:
        """A logger that adds the fields to each of its events."""
        return Logger(self._name, {**self._fields, **fields})

    def debug(self, event: str, **fields: Any) -> None:
        """Write an event that only someone who looks for a fault wants."""
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """Write an event of normal operation."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Write an event that the library recovers from by itself."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Write an event that needs somebody's attention."""
        self._write(logging.ERROR, event, fields)

    def _write(self, level: int, event: str, fields: dict[str, Any]) -> None:
        try:
            self._hand_over(level, event, {**self._fields, **fields})
        except Exception:  # noqa: BLE001 - a full disk or a closed file behind the log: the work goes on without the line
            logging.Handler().handleError(logging.makeLogRecord({"name": self._name, "msg": event}))

    def _hand_over(self, level: int, event: str, fields: dict[str, Any]) -> None:
        structlog = sys.modules.get("structlog")  # configured only by someone who imported it
        if structlog is not None and structlog.is_configured():
            error = fields.pop("exc_info", None)
            if error is not None:  # as text: its renderers show the values of variables too, and so bodies
                fields["exception"] = _escaped("".join(format_exception(error)))
            structlog.get_logger(self._name).log(level, event, **fields)
            return
        logger = logging.getLogger(self._name)
        if logger.isEnabledFor(level):
            exc_info = fields.pop("exc_info", None)
            text = " ".join((event, *(f"{name}={_text(value)}" for name, value in fields.items())))
            if exc_info is not None:
                trace = "".join(format_exception(exc_info))
                if (escaped := _escaped(trace)) != trace:
                    text, exc_info = f"{text}\n{escaped}", None  # no handler could encode it
            # No arguments: a "%" that came from a message must not be taken for a placeholder.
            logger.log(level, "%s", text, exc_info=exc_info, extra={"event": event, "fields": fields}, stacklevel=4)


_PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:/")


def _text(value: object) -> str:
    """The value on one line: quoted and escaped where it is not a plain word, since ids come from strangers."""
    text = str(value)
    return text if text and _PLAIN.issuperset(text) else repr(text)


def _escaped(text: str) -> str:
    """The text with lone surrogates escaped: an error's text may come from a stranger."""
    return text.encode(errors="backslashreplace").decode()


def get_logger(name: str) -> Logger:
    """The logger of that name, e.g. ``eip.runtime.consumer``."""
    return Logger(name)
