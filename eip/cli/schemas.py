"""``eip schemas``: the interface of an application as a document or a page, and what breaks when it changes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from eip.app.asyncapi import asyncapi_document
from eip.cli._common import EXIT_NO, console, errors, given, print_json, print_rows, stderr, writing
from eip.cli._targets import JsonOption, load_app
from eip.errors import ConfigurationError
from eip.schemas.compatibility import Break, compare, compare_with
from eip.schemas.page import html_page

__all__ = ["check", "export", "schemas"]

schemas = typer.Typer(no_args_is_help=True, help="What an application sends and receives: as AsyncAPI 3, and compared.")


@schemas.command()
def export(
    app: Annotated[str, typer.Argument(help="The application: module:attribute, or a function that makes it.")],
    *,
    html: Annotated[bool, typer.Option("--html", help="A web page, in one file.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Default: standard output.")] = None,
    title: Annotated[str | None, typer.Option(help="Default: the application's name.")] = None,
    version: Annotated[str, typer.Option(help="Of its interface.")] = "1.0.0",
) -> None:
    """Write the AsyncAPI 3 document of an application, or a page of it."""
    with errors():
        document = asyncapi_document(load_app(app), title=title, version=version)
        if html:
            _write(html_page(document), output)
        elif output is None:
            print_json(document)
        else:
            _write(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n", output)


def _write(text: str, output: Path | None) -> None:
    if output is None:
        typer.echo(text, nl=False)
        return
    with writing(output):
        output.write_text(text, encoding="utf-8")


@schemas.command()
def check(
    old: Annotated[str, typer.Argument(help="The version that runs: a document's file, JSON, - or module:attribute.")],
    new: Annotated[str, typer.Argument(help="The version to come, likewise.")],
    *,
    against: Annotated[
        list[str] | None, typer.Option("--against", help="The document of a service that shares channels; repeat it.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Find who breaks when a service goes from one version to the next; exit code 1: somebody does."""
    with errors():
        after = _document(new)
        found = compare(_document(old), after)
        for each in against or ():
            found += compare_with(after, _document(each))
        _print(found, as_json=as_json)
    if found:
        raise typer.Exit(EXIT_NO)


def _print(found: list[Break], *, as_json: bool) -> None:
    if not found and console.is_terminal and not as_json:
        stderr.print("Nobody breaks.")
        return
    columns = ("who", "channel", "message", "path", "reason")
    print_rows((asdict(each) for each in found), columns, as_json=as_json)


def _document(place: str) -> Any:
    """The document that a file, a text or standard input holds, or that of an application."""
    is_target = ":" in place and place.lstrip()[:1] not in ("{", "[") and not Path(place).exists()
    if is_target:
        return asyncapi_document(load_app(place))
    if place.endswith((".yaml", ".yml")):
        raise ConfigurationError(f"{place}: YAML is not read; convert it to JSON first")
    try:
        return orjson.loads(given(place))
    except (ValueError, OSError) as error:
        raise ConfigurationError(f"{place:.80} is not a JSON document: {error}") from None
