"""``eip redrive``: messages of a dead-letter queue back to where they failed, or elsewhere; SQS or ActiveMQ."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, NoReturn

import typer
from rich.progress import Progress as ProgressBar

from eip.channels import Filter, Transport
from eip.cli._common import console, errors, given, print_line, progress_bar, said
from eip.cli._targets import JsonOption
from eip.matching import FilterPolicy
from eip.patterns.redrive import Progress
from eip.patterns.redrive import redrive as move

__all__ = ["redrive"]


def redrive(
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
    region: Annotated[str | None, typer.Option(help="Default: AWS_REGION.")] = None,
    endpoint_url: Annotated[str | None, typer.Option(help="Of an emulator.")] = None,
    broker: Annotated[
        str | None,
        typer.Option(
            help="stomp+ssl://host:61614 of an ActiveMQ broker, instead of SQS; ACTIVEMQ_USER, ACTIVEMQ_PASSWORD."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Move messages of a dead-letter queue; each is sent before it is taken off, so nothing is lost."""
    with errors():
        if attribute_filter is not None and body_filter is not None:
            raise typer.BadParameter("--filter or --body-filter, not both")
        filters: Filter | None = None if attribute_filter is None else FilterPolicy(given(attribute_filter))
        if body_filter is not None:
            filters = FilterPolicy(given(body_filter), scope="MessageBody")
        transport = _aws(region, endpoint_url) if broker is None else _activemq(broker)
        with progress_bar() as bar:
            run = _run(transport, source, to, filters, rate, limit, bar, dry_run=dry_run, copy=copy)
            progress = asyncio.run(run)
    if as_json or not console.is_terminal:
        print_line({"dry_run": dry_run, **_plain(progress)})
    else:
        console.print(_summary(progress, dry_run=dry_run), highlight=False)
        console.print(f"  {progress.how}", highlight=False, markup=False)
        for reason, count in sorted(progress.reasons.items(), key=lambda each: -each[1]):
            console.print(f"  {count:>8,}  {reason}", highlight=False, markup=False)
    raise typer.Exit(1 if progress.failed else 0)


def _aws(region: str | None, endpoint_url: str | None) -> Callable[[], Transport]:
    try:
        from eip.transports.aws import AwsTransport  # noqa: PLC0415 - an extra
    except ImportError:
        _missing("the AWS SDK", "aws")
    return lambda: AwsTransport(region=region, endpoint_url=endpoint_url)


def _activemq(url: str) -> Callable[[], Transport]:
    try:
        from eip.transports.activemq import ActiveMQTransport, environment  # noqa: PLC0415 - an extra
    except ImportError:
        _missing("stompman", "activemq")
    return lambda: ActiveMQTransport(url, credentials=environment() if "@" not in url else None)


def _missing(package: str, extra: str) -> NoReturn:
    said.print(f"redrive needs {package}: pip install aioeip\\[{extra}]")
    raise typer.Exit(1) from None


async def _run(
    make: Callable[[], Transport],
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

    async with make() as transport:
        dead_letters = transport.queue(source)
        depth = await dead_letters.depth()
        bar.update(task, total=None if depth is None else depth["ready"])
        return await move(
            dead_letters,
            None if to is None else transport.queue(to),
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
