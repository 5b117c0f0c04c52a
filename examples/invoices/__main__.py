"""Runs the workflow with its page: ``python -m examples.invoices --help``."""

from __future__ import annotations

import argparse
import socket
import sys
from pathlib import Path

from eip import run, running
from eip.patterns.diagram import mermaid
from examples.commands import command, parse, serve
from examples.happy_path.server import HttpServer
from examples.invoices.api import routes
from examples.invoices.reading import MIN_CONFIDENCE
from examples.invoices.wiring import TRANSPORTS, surroundings
from examples.invoices.workflow import Invoices
from examples.lifecycle import print_line


def _arguments() -> argparse.Namespace:
    parser = command("examples.invoices", "Read and approve invoices.", TRANSPORTS)
    parser.add_argument("--textract-role", metavar="ARN", help="analyse by Amazon Textract, which publishes with it")
    parser.add_argument(
        "--min-confidence",
        type=float,
        default=MIN_CONFIDENCE,
        metavar="PERCENT",
        help="what is read with less counts as not found (default: %(default)g)",
    )
    parser.add_argument("--diagram", action="store_true", help="print the services as a Mermaid flowchart, and end")
    options = parse(parser, only_on_aws=["textract_role"])
    if not 0 <= options.min_confidence <= 100:
        parser.error("--min-confidence is 0 to 100")
    return options


async def _main(options: argparse.Namespace, folder: Path, sock: socket.socket) -> None:
    async with surroundings(
        options.transport,
        folder,
        region=options.region,
        endpoint_url=options.endpoint_url,
        textract_role=options.textract_role,
    ) as around:
        invoices = Invoices(
            around.transport,
            around.buckets,
            around.tables,
            around.analysis,
            min_confidence=options.min_confidence,
        )
        if options.diagram:
            print(mermaid(*invoices.services))
            return
        async with running(*around.services, *invoices.services):
            await around.repeat()
            host, port = sock.getsockname()[:2]
            print_line(f"Invoices: http://{host}:{port}/  (Ctrl-C ends it)")
            await run(HttpServer(routes(invoices, around.buckets, around.tables), sock))


def main() -> int:
    return serve(_arguments(), _main)


if __name__ == "__main__":
    sys.exit(main())
