"""Runs the application, whole or service by service: ``python -m examples.job_events --help``."""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import re
import sys
from collections.abc import Collection
from contextlib import AsyncExitStack
from pathlib import Path

import structlog
from rich.console import Console
from rich.table import Table

from eip import run
from eip.runtime.service import Runnable
from examples.job_events.agency import Generator
from examples.job_events.analytics import Analytics
from examples.job_events.database import database
from examples.job_events.inventory import Inventory
from examples.job_events.publisher import Publisher
from examples.job_events.view import Parts, View
from examples.job_events.wiring import TRANSPORTS, Setup, capture, connected, inventory_table, lake
from examples.lifecycle import GRACE, Application, connected_to, report

_COMMANDS = {
    "run": "everything in one process",
    "publisher": "the anti-corruption service: database changes to business events",
    "analytics": "every event to object storage",
    "inventory": "which jobs are available",
    "generate": "the agency at work: change the database",
    "jobs": "list the jobs that are available, as the inventory has them",
    "redrive": "send dead letters back to the queues that they failed on",
}
_ALONE = ("run", "generate", "jobs")
"""What makes sense in a process of its own where the channels are in the process."""


_FONTS = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)
"""In a picture: it is drawn in the reader's own, and asks nobody for one."""


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--transport", choices=TRANSPORTS, default="memory", help="default: memory, in this process")
    shared.add_argument("--endpoint-url", metavar="U", help="of AWS, e.g. a local moto; or of the broker, stomp://...")
    shared.add_argument("--region", default=os.environ.get("AWS_REGION", "us-east-1"), help="of AWS")
    shared.add_argument(
        "--state", type=Path, default=Path("job-events.state"), metavar="FOLDER", help="what is kept here"
    )
    shared.add_argument("--database", metavar="D", help="postgresql://..., or an SQLite file (default: in the folder)")
    shared.add_argument("--slot", default="job_events", help="of PostgreSQL, unique within its server")
    shared.add_argument("--bucket", default="job-events", help="of S3")
    shared.add_argument("--visibility", type=float, default=30.0, metavar="S", help="seconds of a lease")
    shared.add_argument("--takeover", type=float, default=60.0, metavar="S", help="until others finish a dead batch")
    shared.add_argument("--grace", type=float, default=GRACE, metavar="S", help="the end may take to drain; default: 8")
    shared.add_argument("--seconds", type=float, metavar="S", help="end after that time")
    shared.add_argument("--view", choices=("auto", "lines", "off"), default="auto", help="auto: drawn on a terminal")
    shared.add_argument("--svg", type=Path, metavar="FILE", help="keep the view's last picture")
    agency = argparse.ArgumentParser(add_help=False)
    agency.add_argument("--rate", type=float, default=50.0, help="transactions per second; 0: as many as go")
    agency.add_argument("--jobs", type=int, default=500, help="at most at a time")
    agency.add_argument("--limit", type=int, help="transactions; default: no end")
    agency.add_argument("--seed", type=int, help="of what happens")
    parser = argparse.ArgumentParser(prog="python -m examples.job_events", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, what in _COMMANDS.items():
        parents = [shared, agency] if name in ("run", "generate") else [shared]
        command = commands.add_parser(name, parents=parents, help=what, description=what)
        if name == "jobs":
            command.add_argument("--json", action="store_true", help="one job a line")
    return parser


def _options() -> tuple[argparse.Namespace, Setup]:
    parser = _parser()
    options = parser.parse_args()
    if options.transport == "memory" and options.command not in _ALONE:
        parser.error(
            f"{options.command} needs channels between processes: --transport aws or activemq, or the command run"
        )
    if options.svg is not None and options.view == "off":
        parser.error("--svg keeps what the view draws: not with --view off")
    if not 0 <= options.grace <= 600:
        parser.error("--grace is 0 to 600 seconds")
    if options.command in ("run", "generate") and (options.rate < 0 or options.jobs < 1):
        parser.error("--rate is not negative, and there is a job")
    return options, Setup(
        transport=options.transport,
        endpoint_url=options.endpoint_url,
        region=options.region,
        database=options.database or str(options.state / "jobs.sqlite"),
        slot=options.slot,
        state=options.state,
        bucket=options.bucket,
        visibility=options.visibility,
        takeover=options.takeover,
    )


async def _services(options: argparse.Namespace, setup: Setup) -> int:
    wanted = ("generate", "publisher", "analytics", "inventory") if options.command == "run" else (options.command,)
    console = Console(stderr=False, width=None if sys.stdout.isatty() else 120)
    views: list[View] = []

    async def connect(stack: AsyncExitStack) -> list[Runnable]:
        parts = await _parts(wanted, options, setup, stack)
        services: list[Runnable] = [
            each for each in (parts.analytics, parts.inventory, parts.publisher, parts.generator) if each is not None
        ]
        views.append(View(parts, title=_title(options, setup), console=console))
        if options.view != "off":
            services += views
        if options.seconds is not None:
            services.append(_Timer(options.seconds, tuple(services)))
        return services

    application = Application(connect, lambda: report(f"{options.command}: ready"), grace=options.grace)
    await run(application)
    if application.failure is not None:
        print(f"Cannot start: {application.failure}", file=sys.stderr)
        return 1
    for view in views:
        if options.svg is not None:
            picture = Console(record=True, width=118, file=io.StringIO())
            picture.print(view.picture)
            drawn = picture.export_svg(title="make job-events")
            options.svg.write_text(_FONTS.sub("", drawn))
    return 0


async def _parts(wanted: Collection[str], options: argparse.Namespace, setup: Setup, stack: AsyncExitStack) -> Parts:
    """The services that are wanted, connected to what they need."""
    parts = Parts()
    if options.command != "generate":
        parts.channels = await connected_to(setup.place, lambda: connected(setup), stack)
    if parts.channels is not None and "analytics" in wanted:
        found = await connected_to(f"the lake of {setup.place}", lambda: lake(setup), stack)
        parts.analytics = Analytics(parts.channels, found)
    if parts.channels is not None and "inventory" in wanted:
        table = await connected_to(f"the inventory of {setup.place}", lambda: inventory_table(setup), stack)
        parts.inventory = Inventory(parts.channels, table)
    if parts.channels is not None and "publisher" in wanted:
        parts.publisher = Publisher(capture(setup), parts.channels)
    if "generate" in wanted:
        parts.generator = Generator(
            database(setup.database), rate=options.rate, jobs=options.jobs, limit=options.limit, seed=options.seed
        )
    return parts


def _title(options: argparse.Namespace, setup: Setup) -> str:
    kind = "PostgreSQL" if setup.database.startswith("postgres") else "SQLite"
    return f"Job events: {kind} -> {options.transport}"


class _Timer:
    """A service that ends the others."""

    def __init__(self, seconds: float, services: tuple[Runnable, ...]) -> None:
        self._seconds, self._services = seconds, services
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await self._stopping.wait()
        except TimeoutError:
            await asyncio.gather(*(service.stop() for service in self._services))

    async def stop(self) -> None:
        self._stopping.set()


async def _jobs(options: argparse.Namespace, setup: Setup) -> None:
    async with inventory_table(setup) as table:
        jobs = sorted([job async for job in table.available()], key=lambda job: job.job_id)
    if options.json:
        for job in jobs:
            print(json.dumps(job.model_dump(), ensure_ascii=False))
        return
    shown = Table("job", "title", "employer", "city", title=f"{len(jobs):,} jobs available", title_justify="left")
    for job in jobs:
        shown.add_row(str(job.job_id), job.title, job.employer, job.city)
    Console().print(shown)


async def _redrive(setup: Setup) -> None:
    async with connected(setup) as channels:
        for label in channels.dead_letters:
            print(f"{label}: {await channels.redrive(label)} sent back", flush=True)


def _log_to(setup: Setup, *, terminal: bool) -> None:
    """Beside the picture there is no room for a log: it goes to a file."""
    if not terminal:
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
        return
    setup.state.mkdir(parents=True, exist_ok=True)
    log = (setup.state / "job-events.log").open("a", buffering=1)
    structlog.configure(
        processors=[structlog.processors.TimeStamper(fmt="iso"), structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(log),
    )


def main() -> int:
    """Run a command; the process's exit code."""
    options, setup = _options()
    setup.state.mkdir(parents=True, exist_ok=True)
    if options.command == "jobs":
        asyncio.run(_jobs(options, setup))
        return 0
    if options.command == "redrive":
        asyncio.run(_redrive(setup))
        return 0
    _log_to(setup, terminal=options.view == "auto" and sys.stdout.isatty())
    return asyncio.run(_services(options, setup))


if __name__ == "__main__":
    sys.exit(main())
