"""Files of the console: only their owner may read them, and what was written is on the disk."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["append"]


def append(path: Path, data: bytes) -> None:
    """Append all of the data, and return once it is on the disk; makes the file if needed. Raises `OSError`."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(file, "ab") as opened:
        opened.write(data)
        opened.flush()
        os.fsync(opened.fileno())
