"""The command ``eip``: runs applications, looks at messages, makes topologies. It needs the extra ``cli``."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import structlog

__all__ = ["main"]


def main() -> None:
    """Run the command."""
    missing = [name for name in ("typer", "rich") if find_spec(name) is None]
    if missing:
        print(f"eip needs {' and '.join(missing)}: pip install aioeip[cli]", file=sys.stderr)  # noqa: T201 - no rich
        raise SystemExit(1)
    from eip.cli.app import app  # noqa: PLC0415 - an extra

    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # results alone go to standard output
    app()
