"""Runs the front, the workflow, or both: ``python -m examples.happy_path --help``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import socket
import sys
import tempfile
from pathlib import Path

from starlette.routing import BaseRoute

from eip import run
from eip.errors import EipError
from eip.runtime.service import Runnable
from examples.happy_path.api import front_routes, workflow_routes
from examples.happy_path.front import Front
from examples.happy_path.server import HttpServer
from examples.happy_path.versions import VERSIONS
from examples.happy_path.wiring import TRANSPORTS, Surroundings, surroundings
from examples.happy_path.workflow import Workflow


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.happy_path", description="Photos of places.")
    parser.add_argument("--role", choices=("all", "front", "workflow"), default="all", help="default: all")
    parser.add_argument("--transport", choices=TRANSPORTS, default="memory", help="default: memory")
    parser.add_argument("--endpoint-url", metavar="U", help="of AWS, e.g. of a local emulator")
    parser.add_argument("--region", default="us-east-1", help="of AWS (default: us-east-1)")
    parser.add_argument("--state", type=Path, metavar="FOLDER", help="of the embedded transport; default: a new one")
    parser.add_argument(
        "--workflow-version", type=int, choices=VERSIONS, default=VERSIONS[-1], help="what new photos begin with"
    )
    parser.add_argument("--rekognition", action="store_true", help="Amazon Rekognition looks at photos; on AWS")
    parser.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1")
    parser.add_argument("--port", type=int, default=8080, help="0: any; default: 8080")
    options = parser.parse_args()
    if options.role != "all" and options.transport == "memory":
        parser.error(f"--role {options.role} needs a bus between processes: --transport aws")
    if options.rekognition and options.transport == "memory":
        parser.error("--rekognition needs --transport aws")
    if not 0 <= options.port < 65536:
        parser.error("--port is 0 to 65535")
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
        print(f"Happy Path: http://{host}:{port}/  ({options.role}; Ctrl-C ends it)", flush=True)
        await run(*services, HttpServer(routes, sock))


def main() -> int:
    options = _arguments()
    logging.basicConfig(level=logging.ERROR)
    with socket.socket() as sock, tempfile.TemporaryDirectory() as folder:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((options.host, options.port))
            sock.listen(1024)  # who reads the line with the URL may connect at once
            asyncio.run(_main(options, options.state or Path(folder), sock))
        except (EipError, OSError) as error:
            print(f"Cannot run: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
