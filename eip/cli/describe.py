"""``eip describe``: what an application is made of, or a channel and what it holds."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated, Any

import typer

from eip.app import App
from eip.channels import Queue
from eip.cli._common import console, errors, print_line, print_rows
from eip.cli._targets import JsonOption, Place, Target, load_app, with_target
from eip.errors import ConfigurationError

__all__ = ["describe"]


@with_target()
def describe(
    *,
    channel: Annotated[
        str | None, typer.Argument(help="A queue's name, or topic/NAME, ...; without it, what --app is made of.")
    ] = None,
    as_json: JsonOption = False,
    at: Target,
) -> None:
    """Show a channel: its address, its limits, what it holds; or an application: its handlers and channels."""

    async def run() -> dict[str, Any]:
        async with at.connected() as place:
            return await _described(place, str(channel))

    with errors():
        if channel is not None:
            found = asyncio.run(run())
            print_line(found) if as_json or not console.is_terminal else _print(found)
        elif at.app is not None:
            _print_app(load_app(at.app), as_json=as_json)
        else:
            raise ConfigurationError("name a channel, or give --app module:attribute")


async def _described(place: Place, channel: str) -> dict[str, Any]:
    info = place.info(channel)
    found = place.queue(channel) if info.subscription else place.sender(channel)
    limits = {name: value for name, value in asdict(found.limits).items() if value is not None}
    return {
        "kind": info.kind,
        "name": found.name,
        "address": found.address,
        "system": found.system,
        **({"depth": await found.depth()} if isinstance(found, Queue) else {}),
        "limits": limits,
    }


def _print(found: dict[str, Any]) -> None:
    shown = {**found, "depth": "unknown: the service does not tell"} if found.get("depth", 0) is None else found
    print_rows([{"": name, " ": value} for name, value in shown.items()], ("", " "), as_json=False)


def _print_app(app: App, *, as_json: bool) -> None:
    rows = [
        {
            "channel": str(each.channel or "(another source)"),
            "handler": each.name,
            "takes": ", ".join(each.message_types) or "any message",
            "output": each.output,
            "options": {name: str(value) for name, value in each.options.items()} or None,
        }
        for each in app.handlers
    ]
    rows += [
        {"channel": str(each.channel), "sends": ", ".join(each.message_types) or "any message"}
        for each in app.publications
    ]
    columns = ("channel", "handler", "takes", "output", "sends", "options")
    print_rows(rows, columns, title=app.name, as_json=as_json)
