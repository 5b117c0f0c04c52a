"""``eip replay``: the events of an archive, sent to the rules of its bus once more."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated

import typer
from rich.status import Status

from eip.cli._common import console, errors, print_json, said
from eip.patterns.replay import start_replay
from eip.topology.archives import ReplayState, ReplayStatus

__all__ = ["replay"]


def replay(
    archive: Annotated[str, typer.Argument(help="The archive's name.")],
    start: Annotated[str, typer.Option(help="Of the window, ISO 8601 with a time zone: 2026-11-23T00:00Z.")],
    end: Annotated[str, typer.Option(help="Of the window.")],
    bus: Annotated[str, typer.Option(help="The archive's own bus: a name, or an ARN.")] = "default",
    rule: Annotated[list[str] | None, typer.Option(help="A rule that gets the events; default: all.")] = None,
    name: Annotated[str | None, typer.Option(help="What handlers see; default: the archive's with a suffix.")] = None,
    watch: Annotated[bool, typer.Option(help="Until it is over; it goes on if you stop watching.")] = True,
    interval: Annotated[float, typer.Option("--interval", "--every", help="Seconds between looks.", min=0.01)] = 5.0,
    region: Annotated[str | None, typer.Option(help="Default: AWS_REGION.")] = None,
    endpoint_url: Annotated[str | None, typer.Option(help="Of an emulator.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Replay an EventBridge archive: a window of time, to all rules or to some, under a name that handlers see."""
    window = _instant(start), _instant(end)
    with errors(), said.status("starting") as status:
        found = asyncio.run(
            _run(
                archive,
                bus,
                window,
                rule or [],
                name,
                status,
                interval=interval if watch else None,
                region=region,
                endpoint_url=endpoint_url,
            )
        )
    if as_json:
        print_json({"name": found.name, "state": found.state, "progress": found.progress, "reason": found.reason})
    else:
        console.print(_said(found), highlight=False, markup=False)
    raise typer.Exit(1 if found.state in (ReplayState.FAILED, ReplayState.CANCELLED) else 0)


async def _run(
    archive: str,
    bus: str,
    window: tuple[datetime, datetime],
    rules: list[str],
    name: str | None,
    status: Status,
    *,
    interval: float | None,
    region: str | None,
    endpoint_url: str | None,
) -> ReplayStatus:
    try:
        from eip.transports.aws import AwsTransport  # noqa: PLC0415 - an extra
    except ImportError:
        said.print("replay needs aioboto3: pip install aioeip\\[aws]")
        raise typer.Exit(1) from None

    async with AwsTransport(region=region, endpoint_url=endpoint_url) as aws:
        begun = await start_replay(aws.bus(bus), archive, start=window[0], end=window[1], rules=rules, name=name)
        found = await begun.status()
        if interval is not None:
            async for found in begun.watch(interval=interval):
                status.update(_said(found))
        return found


def _instant(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no time of ISO 8601") from error
    if instant.tzinfo is None:
        raise typer.BadParameter(f"{text!r} has no time zone; a Z at its end is UTC")
    return instant


def _said(found: ReplayStatus) -> str:
    reason = f": {found.reason}" if found.reason else ""
    return f"{found.name} {found.state} {found.progress:.0%}{reason}"
