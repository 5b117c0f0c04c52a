"""Files that are read again when they change, so that nobody must restart a service for a new key or token."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Generic, TypeVar

from eip._logging import get_logger
from eip.errors import ConfigurationError

__all__ = ["Reloaded"]

_log = get_logger("examples.rfq")
_LOOK_S: Final = 1.0
"""Between looks whether the files have changed."""

T = TypeVar("T")


class Reloaded(Generic[T]):
    """What was made of some files, made again once one of them has changed.

    Files that cannot be read, or are wrong, change nothing: what was made before stays, and the log has the reason.

    Args:
        files: which.
        make: makes it; raises `ConfigurationError` or `OSError`, at first to the caller.
    """

    def __init__(self, files: Sequence[Path], make: Callable[[], T]) -> None:
        self._files, self._make = tuple(files), make
        self._seen = self._stamps()
        self._current = make()
        self._next_look = time.monotonic() + _LOOK_S

    @property
    def current(self) -> T:
        """As the files are now, or were up to a second ago."""
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + _LOOK_S
            self._look()
        return self._current

    def _look(self) -> None:
        stamps = self._stamps()
        if stamps == self._seen:
            return
        self._seen = stamps
        names = [str(file) for file in self._files]
        try:
            self._current = self._make()
        except (ConfigurationError, OSError) as error:
            _log.error("files_not_read_again", files=names, error=str(error))
        else:
            _log.info("files_read_again", files=names)

    def _stamps(self) -> list[tuple[int, int, int] | None]:
        return [_stamp(file) for file in self._files]


def _stamp(file: Path) -> tuple[int, int, int] | None:
    """What changes when a file is written or replaced; None: it is not there."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
