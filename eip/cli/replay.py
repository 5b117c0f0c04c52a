"""``eip replay`` and ``eip archive``: what a bus's archives keep, sent to its rules once more, watched and ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Annotated, Any, Final, TypeVar

import typer
from rich.progress import Progress

from eip.channels import Bus
from eip.cli._common import EXIT_NO, console, errors, print_line, print_rows, progress_bar
from eip.cli._targets import JsonOption, Target, with_target
from eip.errors import ConfigurationError
from eip.patterns.replay import Replay, start_replay
from eip.patterns.topic_replay import TopicReplay, start_topic_replay
from eip.topology.archives import Archives, ArchiveStatus, HasArchives, ReplayState, ReplayStatus

__all__ = [
    "archive",
    "cancel",
    "describe_archive",
    "describe_replay",
    "list_archives",
    "list_replays",
    "replay",
    "replay_topic",
    "start",
]

replay = typer.Typer(no_args_is_help=True, help="Send the events of an archive to the rules of its bus once more.")
archive = typer.Typer(no_args_is_help=True, help="Show the archives of an event bus.")

_REPLAY_COLUMNS: Final = ("name", "archive", "state", "progress", "start", "end", "started_at")
_ARCHIVE_COLUMNS: Final = ("name", "state", "events", "size", "retention_days", "description")
_SCALE: Final = 100
"""Steps of a progress bar."""

_Result = TypeVar("_Result")
_Name = Annotated[str, typer.Argument(metavar="NAME", help="The replay's name.")]
_BusName = Annotated[str, typer.Option("--bus", help="The archive's own bus: a name, or an ARN.")]
_Interval = Annotated[float, typer.Option("--interval", "--every", help="Seconds between looks.", min=0.01)]


@replay.command()
@with_target()
def start(
    *,
    name: Annotated[str, typer.Argument(metavar="ARCHIVE", help="The archive's name.")],
    first: Annotated[str, typer.Option("--start", help="Of the window, with a time zone: 2026-11-23T00:00Z.")],
    last: Annotated[str, typer.Option("--end", help="Of the window. When the bus took an event counts.")],
    bus: _BusName = "default",
    rule: Annotated[list[str] | None, typer.Option(help="A rule that gets the events; default: all.")] = None,
    replay_name: Annotated[str | None, typer.Option("--name", help="Default: the archive's with a suffix.")] = None,
    description: Annotated[str, typer.Option(help="For people.")] = "",
    watch: Annotated[bool, typer.Option(help="Until it is over; it goes on if you stop watching.")] = True,
    interval: _Interval = 5.0,
    as_json: JsonOption = False,
    at: Target,
) -> None:
    """Replay a window of an archive, to all rules or to some, under a name that handlers see.

    Exit code 1: it failed, or was cancelled.
    """
    begin, end = _instant("--start", first), _instant("--end", last)

    async def run(found: Bus) -> ReplayStatus:
        begun = await start_replay(
            found, name, start=begin, end=end, rules=rule or (), name=replay_name, description=description
        )
        return await _watched(begun, interval if watch else None, as_json=as_json)

    _end(_on_bus(at, bus, run))


@replay.command("topic")
@with_target()
def replay_topic(
    *,
    name: Annotated[str, typer.Argument(metavar="TOPIC", help="A FIFO topic with an archive: a name, or an ARN.")],
    subscription: Annotated[str, typer.Argument(metavar="SUBSCRIPTION", help="Its name.")],
    first: Annotated[str | None, typer.Option("--start", help="With a time zone: 2026-11-23T00:00Z.")] = None,
    last: Annotated[str | None, typer.Option("--end", help="Default: until now, and on.")] = None,
    stop: Annotated[bool, typer.Option("--cancel", help="End the replay that there is.")] = False,
    as_json: JsonOption = False,
    at: Target,
) -> None:
    """Replay the archive of an SNS topic to one of its subscriptions, or show how its replay is."""
    begin = None if first is None else _instant("--start", first)
    end = None if last is None else _instant("--end", last)

    async def run() -> str | None:
        async with at.connected() as place:
            topic = place.transport.topic(name)
            known = TopicReplay(topic, subscription)
            if stop:
                await known.cancel()
            elif begin is not None:
                await start_topic_replay(topic, subscription, start=begin, end=end)
            return await known.state()

    with errors():
        state = asyncio.run(run())
    _print_one({"topic": name, "subscription": subscription, "state": state or "none"}, as_json=as_json)


@replay.command("list")
@with_target()
def list_replays(
    *,
    of_archive: Annotated[str | None, typer.Option("--archive", help="Only those of this archive.")] = None,
    bus: _BusName = "default",
    as_json: JsonOption = False,
    at: Target,
) -> None:
    """List the replays of the last 90 days, the latest first."""
    found = _on_bus(at, bus, lambda of: _archives(of).list_replays(of_archive))
    print_rows(map(_plain_replay, found), _REPLAY_COLUMNS, title="replays", as_json=as_json)


@replay.command("describe")
@with_target()
def describe_replay(
    *,
    name: _Name,
    bus: _BusName = "default",
    watch: Annotated[bool, typer.Option("--watch", help="Until it is over. Exit code 1: it failed.")] = False,
    interval: _Interval = 5.0,
    as_json: JsonOption = False,
    at: Target,
) -> None:
    """Show a replay: its window, its rules, its state, and how far it is."""
    if watch:
        _end(_on_bus(at, bus, lambda of: _watched(Replay(of, name), interval, as_json=as_json)))
    _print_one(_plain_replay(_on_bus(at, bus, lambda of: Replay(of, name).status())), as_json=as_json)


@replay.command()
@with_target()
def cancel(
    *,
    name: _Name,
    bus: _BusName = "default",
    as_json: JsonOption = False,
    at: Target,
) -> None:
    """End a replay that is starting or running; what it sent already stays sent."""
    _print_one(_plain_replay(_on_bus(at, bus, lambda of: Replay(of, name).cancel())), as_json=as_json)


@archive.command("list")
@with_target()
def list_archives(
    *,
    bus: _BusName = "default",
    as_json: JsonOption = False,
    at: Target,
) -> None:
    """List the archives of a bus."""
    found = _on_bus(at, bus, lambda of: _archives(of).list())
    print_rows(map(_plain_archive, found), _ARCHIVE_COLUMNS, title=f"archives of {bus}", as_json=as_json)


@archive.command("describe")
@with_target()
def describe_archive(
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The archive's name.")],
    bus: _BusName = "default",
    as_json: JsonOption = False,
    at: Target,
) -> None:
    """Show an archive: what it keeps, for how long, and how much there is."""
    _print_one(_plain_archive(_on_bus(at, bus, lambda of: _archives(of).describe(name))), as_json=as_json)


def _on_bus(at: Target, bus: str, work: Callable[[Bus], Coroutine[Any, Any, _Result]]) -> _Result:
    """Do the work on a bus: of the application, or of AWS, the only other place that has archives."""
    used = at if at.app is not None else replace(at, transport=at.transport or "aws")

    async def run() -> _Result:
        async with used.connected() as place:
            return await work(place.transport.bus(bus))

    with errors():
        return asyncio.run(run())


def _archives(bus: Bus) -> Archives:
    if not isinstance(bus, HasArchives):
        raise ConfigurationError(f"bus must have archives, got {bus.name} ({type(bus).__name__})")
    return bus.archives


async def _watched(begun: Replay, interval: float | None, *, as_json: bool) -> ReplayStatus:
    """Show how the replay goes until it is over; with no interval, how it is now."""
    with progress_bar() as bar:
        task = bar.add_task(begun.name, total=_SCALE)
        found = await begun.status()
        _show(found, bar, task, as_json=as_json)
        if interval is not None:
            async with aclosing(_changes(begun, found, interval)) as changes:
                async for found in changes:
                    _show(found, bar, task, as_json=as_json)
    return found


async def _changes(begun: Replay, known: ReplayStatus, interval: float) -> AsyncGenerator[ReplayStatus]:
    """The states of a replay that differ from the one before."""
    async for found in begun.watch(interval=interval):
        if found != known:
            yield found
        known = found


def _show(found: ReplayStatus, bar: Progress, task: Any, *, as_json: bool) -> None:
    bar.update(task, completed=found.progress * _SCALE, description=f"{found.name} {found.state}")
    if as_json or not console.is_terminal:
        print_line(_plain_replay(found))
    elif found.state.over:
        reason = f": {found.reason}" if found.reason else ""
        console.print(f"{found.name} {found.state} {found.progress:.0%}{reason}", highlight=False, markup=False)


def _end(found: ReplayStatus) -> None:
    raise typer.Exit(EXIT_NO if found.state in (ReplayState.FAILED, ReplayState.CANCELLED) else 0)


def _print_one(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json or not console.is_terminal:
        print_line(found)
        return
    for name, value in found.items():
        console.print(f"{name:>15}  {value}", highlight=False, markup=False)


def _plain_replay(found: ReplayStatus) -> dict[str, Any]:
    plain = asdict(found) | {"state": str(found.state), "progress": round(found.progress, 3)}
    for name in ("start", "end", "started_at", "ended_at", "last_replayed"):
        plain[name] = _time(plain[name])
    return plain


def _plain_archive(found: ArchiveStatus) -> dict[str, Any]:
    pattern = None if found.pattern is None else found.pattern.text
    days = None if found.retention is None else found.retention.days
    plain = {each: getattr(found, each) for each in ("name", "bus", "state", "events", "size", "description")}
    return plain | {"pattern": pattern, "retention_days": days, "created_at": _time(found.created_at)}


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


def _instant(option: str, text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{option} must be a time of ISO 8601, got {text!r}") from error
    if instant.tzinfo is None:
        raise typer.BadParameter(f"{option} must have a time zone, got {text!r}; a Z at its end is UTC")
    return instant
