"""Shared by the commands: exit codes, where output goes, JSON given as text or as a file, and errors as one line."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from eip.errors import (
    AccessDenied,
    ChannelNotFound,
    ConfigurationError,
    Conflict,
    ConnectionLost,
    DecodeError,
    EipError,
    StoreError,
    Throttled,
    TransportError,
)

__all__ = [
    "EXIT_NO",
    "EXIT_SERVICE",
    "EXIT_USAGE",
    "console",
    "errors",
    "given",
    "given_lines",
    "print_json",
    "print_line",
    "print_rows",
    "progress_bar",
    "run_with_cleanup",
    "stderr",
    "writing",
]

_T = TypeVar("_T")

EXIT_NO: Final = 1
"""Done, and the answer is no: no match, something failed, the topology is not in force."""
EXIT_USAGE: Final = 2
"""The command, an option or the configuration is invalid."""
EXIT_SERVICE: Final = 3
"""The service did not answer or refused; later, or with other credentials, it may work."""

console = Console()
"""Results."""
stderr = Console(stderr=True)
"""Everything else."""

_HINTS: Final[tuple[tuple[type[EipError], str], ...]] = (
    (AccessDenied, "Check the credentials: `aws sts get-caller-identity`, or ACTIVEMQ_USER and ACTIVEMQ_PASSWORD."),
    (ChannelNotFound, "Check the name, --region and --transport; `eip topology apply` makes what an app declares."),
    (ConnectionLost, "Check that the service can be reached: --endpoint-url, --broker, the network."),
    (Throttled, "Wait a little and try again, or use --rate."),
    (Conflict, "Wait until the other operation is over."),
)


def given(text: str) -> str:
    """The text itself where it is JSON, what a file holds, or what standard input brings for ``-``.

    Raises `DecodeError` for a file, or standard input, that is not text in UTF-8.
    """
    if text == "-":
        return "".join(given_lines())
    if text.lstrip()[:1] in ("{", "["):
        return text
    try:
        return Path(text).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DecodeError(f"{text} is not text in UTF-8: {error.reason} at byte {error.start}") from None
    except (OSError, ValueError) as error:  # ValueError: NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise typer.BadParameter(f"{text[:80]!r} is neither JSON nor a file that can be read: {reason}") from None


def given_lines() -> Iterator[str]:
    """Yield the lines of standard input as they come. Raises `DecodeError` if they are not text, or it is closed."""
    if sys.stdin is None:
        raise DecodeError("standard input is closed")
    try:
        yield from sys.stdin
    except UnicodeDecodeError as error:
        raise DecodeError(f"standard input is not text in {error.encoding}: {error.reason}") from None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What fails while a file is written is a `ConfigurationError` that names it."""
    try:
        yield
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from None


def print_json(value: Any) -> None:
    """Write plain data for programs."""
    typer.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def print_line(value: Any) -> None:
    """Write plain data as one line of JSON."""
    typer.echo(orjson.dumps(value, default=str).decode())


def print_rows(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, title: str = "", as_json: bool) -> None:
    """Write rows as a table in a terminal, and as lines of JSON in a pipe.

    Args:
        rows: plain data.
        columns: of the table, by the names in the rows.
        title: of the table.
        as_json: lines of JSON in a terminal, too.
    """
    if as_json or not console.is_terminal:
        for row in rows:
            print_line(row)
        return
    table = Table(title=title or None)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    console.print(table, markup=False)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else orjson.dumps(value, default=str).decode()


def progress_bar() -> Progress:
    """A bar on standard error for long work; invisible where that is not a terminal."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), console=stderr, transient=True, disable=not stderr.is_terminal)


def run_with_cleanup(work: Coroutine[Any, Any, _T]) -> _T:
    """Run it; SIGTERM ends it as an interrupt does, so that it removes what it made for itself."""

    async def run() -> _T:
        task = asyncio.current_task()
        assert task is not None
        with suppress(NotImplementedError, RuntimeError):  # Windows, or not the main thread
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    try:
        return asyncio.run(run())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


@contextmanager
def errors() -> Iterator[None]:
    """Turn the library's errors into one line, a hint what to do, and an exit code."""
    try:
        yield
    except EipError as error:
        stderr.print(f"[red]{type(error).__name__}[/]: ", end="")
        stderr.print(str(error), markup=False)
        hint = next((text for kind, text in _HINTS if isinstance(error, kind)), None)
        if hint is not None:
            stderr.print(hint, markup=False, style="dim")
        raise typer.Exit(EXIT_SERVICE if isinstance(error, (TransportError, StoreError)) else EXIT_USAGE) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
