"""Runs the front, the workflow, or both: ``python -m examples.happy_path --help``."""

from __future__ import annotations

import argparse
import socket
import sys
from pathlib import Path

from starlette.routing import BaseRoute

from eip import run
from eip.runtime.service import Runnable
from examples.commands import command, parse, serve
from examples.happy_path.api import front_routes, workflow_routes
from examples.happy_path.front import Front
from examples.happy_path.server import HttpServer
from examples.happy_path.versions import VERSIONS
from examples.happy_path.wiring import TRANSPORTS, Surroundings, surroundings
from examples.happy_path.workflow import Workflow
from examples.lifecycle import print_line


def _arguments() -> argparse.Namespace:
    parser = command("examples.happy_path", "Photos of places.", TRANSPORTS)
    parser.add_argument("--role", choices=("all", "front", "workflow"), default="all", help="default: all")
    parser.add_argument(
        "--workflow-version", type=int, choices=VERSIONS, default=VERSIONS[-1], help="what new photos begin with"
    )
    parser.add_argument("--rekognition", action="store_true", help="Amazon Rekognition looks at photos; on AWS")
    options = parse(parser, only_on_aws=["rekognition"])
    if options.role != "all" and options.transport == "memory":
        parser.error(f"--role {options.role} needs a bus between processes: --transport aws")
    return options


def _applications(around: Surroundings, role: str, version: int) -> tuple[list[Runnable], list[BaseRoute]]:
    """The services and routes of a role; the two applications share nothing but the bus and the object store."""
    services: list[Runnable] = []
    routes: list[BaseRoute] = list(around.routes)
    if role in {"all", "workflow"}:
        workflow = Workflow(around.transport, around.objects, around.tables, judge=around.judge, version=version)
        services += workflow.services
        routes += workflow_routes(workflow)
    if role in {"all", "front"}:
        front = Front(around.transport, around.front, around.urls)
        services += front.services
        routes += front_routes(front, around.origin)
    return services, routes


async def _main(options: argparse.Namespace, folder: Path, sock: socket.socket) -> None:
    async with surroundings(
        options.transport,
        folder,
        region=options.region,
        endpoint_url=options.endpoint_url,
        rekognition=options.rekognition,
    ) as around:
        services, routes = _applications(around, options.role, options.workflow_version)
        if around.server is not None:
            await around.server.objects.report("uploads/")
        host, port = sock.getsockname()[:2]
        print_line(f"Happy Path: http://{host}:{port}/  ({options.role}; Ctrl-C ends it)")
        await run(*services, HttpServer(routes, sock))


def main() -> int:
    return serve(_arguments(), _main)


if __name__ == "__main__":
    sys.exit(main())
