"""``eip run``: an application as a process, or as several, restarted where its source changes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import typer

from eip.app.health_server import HealthServer
from eip.cli._common import errors
from eip.cli._targets import load_app
from eip.cli._workers import Supervisor, WorkerPipes
from eip.runtime.garbage import GarbageCollection
from eip.runtime.service import run as run_services

__all__ = ["run"]


def run(
    target: Annotated[str, typer.Argument(help="An App, or a function that makes one: module:attribute.")],
    reload: Annotated[bool, typer.Option("--reload", help="Start again when a .py file under here changes.")] = False,
    workers: Annotated[int, typer.Option(help="Processes; one that ends is started again.", min=1)] = 1,
    health_port: Annotated[
        int | None,
        typer.Option(
            envvar="EIP_HEALTH_PORT",
            help="Serve /livez, /readyz and /metrics on this port, to anyone who reaches it: see --health-host.",
            min=0,
            max=65_535,
        ),
    ] = None,
    health_host: Annotated[
        str,
        typer.Option(
            envvar="EIP_HEALTH_HOST",
            help="Address that the port listens on. By default all of them, since a container's probes come from "
            "outside; 127.0.0.1: this machine only.",
        ),
    ] = "0.0.0.0",  # noqa: S104 - for probes
    pipes: Annotated[str | None, typer.Option("--worker-pipes", hidden=True)] = None,
) -> None:
    """Run an application until SIGTERM or SIGINT, then drain it.

    What exists once it is ready is left out of Python's later garbage collections: looking at all of it again would
    stop every handler for about a tenth of a second.

    Exit code 0: drained; 1: it failed; 2: its configuration is invalid; 3: its service did not answer; 70:
    something kept it from ending within its grace.
    """
    with errors():
        if reload or workers > 1:
            supervisor = Supervisor(
                [sys.executable, "-m", "eip", "run", target],
                workers,
                health=None if health_port is None else (health_host, health_port),
                watch=Path.cwd() if reload else None,
            )
            raise typer.Exit(asyncio.run(supervisor.run()))
        asyncio.run(_run(target, health_host, health_port, None if pipes is None else WorkerPipes.parse(pipes)))


async def _run(target: str, host: str, port: int | None, pipes: WorkerPipes | None) -> None:
    app = load_app(target)
    async with AsyncExitStack() as stack:
        if pipes is not None:
            host, port = "127.0.0.1", 0
            asyncio.get_running_loop().add_reader(pipes.life, _parent_ended, pipes)
        if port is not None:
            server = await stack.enter_async_context(HealthServer(app, port, host=host))
            if pipes is not None:
                pipes.report(server.port)
        await run_services(app, garbage=GarbageCollection())


def _parent_ended(pipes: WorkerPipes) -> None:
    asyncio.get_running_loop().remove_reader(pipes.life)
    os.kill(os.getpid(), signal.SIGTERM)
