"""``eip streams diagnose``: tells a hot shard from a slow consumer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Annotated, Any, Final

import typer

from eip.cli._common import EXIT_NO, console, errors, print_line, print_rows, stderr
from eip.cli._targets import JsonOption, Target, with_target
from eip.streams import Diagnosis, diagnose

__all__ = ["diagnose_stream", "streams"]

streams = typer.Typer(no_args_is_help=True, help="Look into streams and the groups that read them.")

_SHARD_COLUMNS: Final = ("shard", "records_per_second", "bytes_per_second", "use", "keys")
_GROUP_COLUMNS: Final = ("group", "finding", "age", "workers", "ages")
_TOP_KEYS: Final = 3
"""Shown in a terminal; a pipe gets all."""


@streams.callback()
def _group() -> None:
    """Look into streams and the groups that read them."""


@streams.command("diagnose")
@with_target()
def diagnose_stream(
    *,
    stream: Annotated[str, typer.Argument(help="The stream's name.")],
    group: Annotated[list[str] | None, typer.Option("--group", "-g", help="A group that reads it; repeat it.")] = None,
    window: Annotated[float, typer.Option(help="Seconds back that records are read.", min=1, max=86_400)] = 60.0,
    max_age: Annotated[float, typer.Option(help="Seconds of iterator age above which a group is late.", min=0)] = 30.0,
    max_records: Annotated[int, typer.Option(help="Records read of a shard, at most.", min=1)] = 50_000,
    as_json: JsonOption = False,
    at: Target,
) -> None:
    """Report each shard's rates and hottest keys, and each group's iterator ages, and advise in one sentence.

    Its reads count among those of the stream. Exit code 1: something is wrong.
    """

    async def run() -> Diagnosis:
        async with at.connected() as place:
            with stderr.status(f"reading {stream}"):
                source = place.transport.stream(stream)
                return await diagnose(source, group or (), window=window, max_age=max_age, max_records=max_records)

    with errors():
        found = asyncio.run(run())
    _print(found, as_json=as_json)
    raise typer.Exit(0 if found.finding in ("healthy", "idle") else EXIT_NO)


def _print(found: Diagnosis, *, as_json: bool) -> None:
    for_programs = as_json or not console.is_terminal
    for rows, columns, title in (
        (_shard_rows(found), _SHARD_COLUMNS, f"shards of {found.stream}"),
        (_group_rows(found), _GROUP_COLUMNS, "groups, with iterator ages in seconds"),
    ):
        print_rows(rows if for_programs else map(_for_people, rows), columns, title=title, as_json=as_json)
    if for_programs:
        print_line({"stream": found.stream, "finding": found.finding, "advice": found.advice})
    else:
        console.print(f"{found.finding}: {found.advice}", highlight=False, markup=False)


def _for_people(row: dict[str, Any]) -> dict[str, Any]:
    """The row with few keys, and with the ages of late shards, a line each."""
    shown = dict(row)
    if "keys" in row:
        shown["keys"] = "\n".join(f"{share:4.0%} {key}" for key, share in list(row["keys"].items())[:_TOP_KEYS])
        shown["use"] = None if row["use"] is None else f"{row['use']:.0%}"
    if "ages" in row:
        shown["ages"] = "\n".join(f"{age:8.1f} {shard}" for shard, age in row["ages"].items() if age)
    return shown


def _shard_rows(found: Diagnosis) -> Iterator[dict[str, Any]]:
    for each in found.shards:
        yield {
            "shard": each.shard,
            "records": each.records,
            "records_per_second": round(each.records_per_second, 2),
            "bytes_per_second": round(each.bytes_per_second),
            "use": None if each.use is None else round(each.use, 3),
            "keys": {key.key: round(key.share, 4) for key in each.keys},
        }


def _group_rows(found: Diagnosis) -> Iterator[dict[str, Any]]:
    for each in found.groups:
        ages = {shard: round(age, 1) for shard, age in each.ages.items()}
        yield {
            "group": each.group,
            "finding": each.finding,
            "age": round(each.age, 1),
            "workers": each.workers,
            "ages": ages,
        }
