"""Runs partner, intake and order system with their page: ``python -m examples.partner_events --help``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import socket
import sys
import tempfile
from pathlib import Path

from eip import run, running
from eip.errors import EipError
from eip.patterns.diagram import mermaid
from examples.happy_path.server import HttpServer
from examples.partner_events.api import routes
from examples.partner_events.wiring import TRANSPORTS, system


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.partner_events", description="Events of a partner.")
    parser.add_argument("--transport", choices=TRANSPORTS, default="memory", help="default: memory")
    parser.add_argument("--endpoint-url", metavar="U", help="of AWS, e.g. of a local emulator")
    parser.add_argument("--region", default="us-east-1", help="of AWS (default: us-east-1)")
    parser.add_argument("--state", type=Path, metavar="FOLDER", help="of the embedded transport; default: a new one")
    parser.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1")
    parser.add_argument("--port", type=int, default=8080, help="0: any; default: 8080")
    parser.add_argument("--diagram", action="store_true", help="print the services as a Mermaid flowchart, and end")
    options = parser.parse_args()
    if not 0 <= options.port < 65536:
        parser.error("--port is 0 to 65535")
    return options


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
            print(f"Partner events: http://{host}:{port}/  (Ctrl-C ends it)", flush=True)
            await run(HttpServer(routes(made), sock))


def main() -> int:
    options = _arguments()
    logging.basicConfig(level=logging.CRITICAL)  # dead letters are on the page
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
