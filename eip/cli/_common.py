"""What the verbs share: where output goes, JSON given as text or as a file, and errors as one line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import typer
from rich.console import Console

from eip.errors import EipError

__all__ = ["console", "errors", "given", "print_json", "said"]

console = Console()
"""Results."""
said = Console(stderr=True)
"""Everything else."""


def given(text: str) -> str:
    """The text itself where it is JSON, what a file holds, or what standard input brings for ``-``."""
    if text == "-":
        return sys.stdin.read()
    if text.lstrip()[:1] in ("{", "["):
        return text
    path = Path(text)
    if not path.is_file():
        raise typer.BadParameter(f"{text!r} is neither JSON nor a file")
    return path.read_text(encoding="utf-8")


def print_json(value: Any) -> None:
    """Write plain data for programs."""
    typer.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


@contextmanager
def errors() -> Iterator[None]:
    """Turn the library's errors into one line and exit code 2."""
    try:
        yield
    except EipError as error:
        said.print(f"[red]{type(error).__name__}[/]: ", end="")
        said.print(str(error), markup=False)
        raise typer.Exit(2) from None
