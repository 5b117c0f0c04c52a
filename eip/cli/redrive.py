"""``eip redrive``: messages of a dead-letter queue back to where they failed, or elsewhere; SQS or ActiveMQ."""

from __future__ import annotations

import os
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Annotated

import typer
from rich.progress import Progress as ProgressBar

from eip.channels import Filter
from eip.cli._common import console, errors, given, print_line, progress_bar, run_with_cleanup
from eip.cli._targets import JsonOption, Place, Target, with_target
from eip.matching import FilterPolicy
from eip.patterns.redrive import Progress
from eip.patterns.redrive import redrive as move

__all__ = ["redrive"]


@with_target()
def redrive(
    *,
    source: Annotated[str, typer.Argument(metavar="FROM", help="The dead-letter queue: a name, or an ARN.")],
    to: Annotated[
        str | None,
        typer.Argument(help="The queue that gets its messages: a name, or an ARN. Default on SQS: where each failed."),
    ] = None,
    attribute_filter: Annotated[
        str | None, typer.Option("--filter", help="Only messages whose attributes this filter policy lets through.")
    ] = None,
    body_filter: Annotated[str | None, typer.Option(help="Only messages whose body it lets through.")] = None,
    rate: Annotated[float | None, typer.Option(help="Messages a second at most.")] = None,
    limit: Annotated[int | None, typer.Option(help="Messages at most.")] = None,
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy, also where the service could move them: counts why they failed.")
    ] = False,
    dry_run: Annotated[bool, typer.Option(help="Move nothing; say what would be moved, and why they failed.")] = False,
    as_json: JsonOption = False,
    at: Target,
) -> None:
    """Move messages of a dead-letter queue; each is sent before it is taken off, so nothing is lost.

    Where nothing names a transport it is SQS.
    """
    with errors():
        if attribute_filter is not None and body_filter is not None:
            raise typer.BadParameter("--filter or --body-filter, not both")
        filters: Filter | None = None if attribute_filter is None else FilterPolicy(given(attribute_filter))
        if body_filter is not None:
            filters = FilterPolicy(given(body_filter), scope="MessageBody")
        is_named = at.app or at.transport or at.broker or os.environ.get("EIP_TRANSPORT")
        place = (at if is_named else replace(at, transport="aws")).connected()
        with progress_bar() as bar:
            run = _run(place, source, to, filters, rate, limit, bar, dry_run=dry_run, copy=copy)
            progress = run_with_cleanup(run)
    if as_json or not console.is_terminal:
        print_line({"dry_run": dry_run, **_plain(progress)})
    else:
        console.print(_summary(progress, dry_run=dry_run), highlight=False)
        console.print(f"  {progress.how}", highlight=False, markup=False)
        for reason, count in sorted(progress.reasons.items(), key=lambda each: -each[1]):
            console.print(f"  {count:>8,}  {reason}", highlight=False, markup=False)
    raise typer.Exit(1 if progress.failed else 0)


async def _run(
    connected: AbstractAsyncContextManager[Place],
    source: str,
    to: str | None,
    attribute_filter: Filter | None,
    rate: float | None,
    limit: int | None,
    bar: ProgressBar,
    *,
    dry_run: bool,
    copy: bool,
) -> Progress:
    task = bar.add_task("looking", total=None)

    def show(progress: Progress) -> None:
        done = progress.moved + progress.left + progress.failed
        bar.update(task, completed=done, description=_summary(progress, dry_run=dry_run))

    async with connected as place:
        dead_letters = place.transport.queue(source)
        depth = await dead_letters.depth()
        bar.update(task, total=None if depth is None else depth["ready"])
        return await move(
            dead_letters,
            None if to is None else place.transport.queue(to),
            filter=attribute_filter,
            rate=rate,
            limit=limit,
            dry_run=dry_run,
            native=not copy,
            on_progress=show,
        )


def _summary(progress: Progress, *, dry_run: bool) -> str:
    moved = "would be moved" if dry_run else "moved"
    return f"{progress.moved:,} {moved}, {progress.left:,} left, {progress.failed:,} failed"


def _plain(progress: Progress) -> dict[str, object]:
    return {
        "native": progress.native,
        "how": progress.how,
        "moved": progress.moved,
        "left": progress.left,
        "failed": progress.failed,
        "reasons": progress.reasons,
    }
