"""``eip redrive``: messages of a dead-letter queue back to where they failed, or elsewhere."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.status import Status

from eip.channels import Filter
from eip.cli._common import console, errors, given, print_json, said
from eip.matching import FilterPolicy
from eip.patterns.redrive import Progress
from eip.patterns.redrive import redrive as move

__all__ = ["redrive"]


def redrive(
    source: Annotated[str, typer.Argument(metavar="FROM", help="The dead-letter queue: a name, or an ARN.")],
    to: Annotated[str, typer.Argument(help="The queue that gets its messages: a name, or an ARN.")],
    wanted: Annotated[
        str | None, typer.Option("--filter", help="Only messages whose attributes this filter policy lets through.")
    ] = None,
    body_filter: Annotated[str | None, typer.Option(help="Only messages whose body it lets through.")] = None,
    rate: Annotated[float | None, typer.Option(help="Messages a second at most.")] = None,
    limit: Annotated[int | None, typer.Option(help="Messages at most.")] = None,
    dry_run: Annotated[bool, typer.Option(help="Move nothing; say what would be moved, and why they failed.")] = False,
    region: Annotated[str | None, typer.Option(help="Default: AWS_REGION.")] = None,
    endpoint_url: Annotated[str | None, typer.Option(help="Of an emulator.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Move messages of an SQS dead-letter queue; each is sent before it is taken off, so nothing is lost."""
    with errors():
        if wanted is not None and body_filter is not None:
            raise typer.BadParameter("--filter or --body-filter, not both")
        filters: Filter | None = None if wanted is None else FilterPolicy(given(wanted))
        if body_filter is not None:
            filters = FilterPolicy(given(body_filter), scope="MessageBody")
        with said.status("looking") as status:
            progress = asyncio.run(
                _run(
                    source, to, filters, rate, limit, status, dry_run=dry_run, region=region, endpoint_url=endpoint_url
                )
            )
    if as_json:
        print_json({"dry_run": dry_run, **_plain(progress)})
    else:
        console.print(_summary(progress, dry_run=dry_run), highlight=False)
        for reason, count in sorted(progress.reasons.items(), key=lambda each: -each[1]):
            console.print(f"  {count:>8,}  {reason}", highlight=False, markup=False)
    raise typer.Exit(1 if progress.failed else 0)


async def _run(
    source: str,
    to: str,
    wanted: Filter | None,
    rate: float | None,
    limit: int | None,
    status: Status,
    *,
    dry_run: bool,
    region: str | None,
    endpoint_url: str | None,
) -> Progress:
    try:
        from eip.transports.aws import AwsTransport  # noqa: PLC0415 - an extra
    except ImportError:
        said.print("redrive needs aioboto3: pip install aioeip\\[aws]")
        raise typer.Exit(1) from None

    def show(progress: Progress) -> None:
        status.update(_summary(progress, dry_run=dry_run))

    async with AwsTransport(region=region, endpoint_url=endpoint_url) as aws:
        return await move(
            aws.queue(source),
            aws.queue(to),
            wanted=wanted,
            rate=rate,
            limit=limit,
            dry_run=dry_run,
            on_progress=show,
        )


def _summary(progress: Progress, *, dry_run: bool) -> str:
    moved = "would be moved" if dry_run else "moved"
    return f"{progress.moved:,} {moved}, {progress.left:,} left, {progress.failed:,} failed"


def _plain(progress: Progress) -> dict[str, object]:
    return {
        "moved": progress.moved,
        "left": progress.left,
        "failed": progress.failed,
        "reasons": progress.reasons,
    }
