"""What is closed while the process forks, as web servers and `multiprocessing` do after the application was loaded.

SQLite wants no connection to be open across a fork: the child would believe that it holds its parent's locks, and both
could damage the file (sqlite.org/howtocorrupt.html, section 2.6). Threads are not copied: what waits for one waits for
ever.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import Final
from weakref import WeakSet

__all__ = ["ClosedAtForks", "close_at_forks"]


class ClosedAtForks(ABC):
    """Holds what a fork must not copy."""

    @abstractmethod
    def before_fork(self) -> None:
        """Close it, and let nobody open it until `after_fork`."""

    @abstractmethod
    def after_fork(self, *, in_child: bool) -> None:
        """Let it be opened again; in the child, replace the threads as well."""


_known: Final[WeakSet[ClosedAtForks]] = WeakSet()
_closed: Final[list[ClosedAtForks]] = []
"""During a fork: what was closed."""


def close_at_forks(holder: ClosedAtForks) -> None:
    """Have it closed before each fork, for as long as it exists."""
    _known.add(holder)


def _before_fork() -> None:
    for each in list(_known):
        each.before_fork()
        _closed.append(each)


def _after_fork(*, in_child: bool) -> None:
    while _closed:
        _closed.pop().after_fork(in_child=in_child)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=lambda: _after_fork(in_child=False),
        after_in_child=lambda: _after_fork(in_child=True),
    )
