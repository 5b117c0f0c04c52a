"""Runs partner, intake and order system with their page: ``python -m examples.partner_events --help``."""

from __future__ import annotations

import argparse
import logging
import socket
import sys
from pathlib import Path

from eip import run, running
from eip.patterns.diagram import mermaid
from examples.commands import command, parse, serve
from examples.happy_path.server import HttpServer
from examples.lifecycle import print_line
from examples.partner_events.api import routes
from examples.partner_events.wiring import TRANSPORTS, system


def _arguments() -> argparse.Namespace:
    parser = command("examples.partner_events", "Events of a partner.", TRANSPORTS)
    parser.add_argument("--diagram", action="store_true", help="print the services as a Mermaid flowchart, and end")
    return parse(parser)


async def _main(options: argparse.Namespace, folder: Path, sock: socket.socket) -> None:
    place = {"region": options.region, "endpoint_url": options.endpoint_url}
    async with system(options.transport, folder, **place) as made:
        if options.diagram:
            print(mermaid(*made.services))
            return
        async with running(*made.services):
            if options.transport == "memory":  # what was on its way in a process that was killed has gone with it
                await made.partner.replay()
            host, port = sock.getsockname()[:2]
            print_line(f"Partner events: http://{host}:{port}/  (Ctrl-C ends it)")
            await run(HttpServer(routes(made), sock))


def main() -> int:
    # Dead letters are on the page.
    return serve(_arguments(), _main, log_level=logging.CRITICAL)


if __name__ == "__main__":
    sys.exit(main())
