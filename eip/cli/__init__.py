"""The command ``eip``: runs applications, looks at messages, makes topologies. It needs the extra ``cli``."""

from __future__ import annotations

import errno
import os
import signal
import sys
from contextlib import suppress
from importlib.util import find_spec
from typing import Final, NoReturn

import structlog

__all__ = ["main"]

_FULL: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO))
_EXIT_OUTPUT: Final = 74
"""The output could not be written: EX_IOERR of sysexits.h."""


def main() -> None:
    """Run the command."""
    missing = [name for name in ("typer", "rich") if find_spec(name) is None]
    if missing:
        print(f"eip needs {' and '.join(missing)}: pip install aioeip[cli]", file=sys.stderr)  # noqa: T201 - no rich
        raise SystemExit(1)
    try:
        from eip.cli.app import app  # noqa: PLC0415 - an extra, which takes most of a second

        structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # results alone go to stdout
        app()
    except KeyboardInterrupt:  # while it was imported: end as the signal does, without a trace
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        _end(error)


def _end(error: OSError) -> NoReturn:
    """Say in a line that the output cannot be written, and end without a second try at what is left of it."""
    with suppress(OSError):
        print(f"eip: the output cannot be written: {error.strerror}", file=sys.stderr, flush=True)  # noqa: T201 - no rich
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    raise SystemExit(_EXIT_OUTPUT) from None
