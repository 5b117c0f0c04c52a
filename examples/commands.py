"""What the commands of the applications with a page share: where they run, and how they begin and end."""

from __future__ import annotations

import argparse
import asyncio
import logging
import socket
import sys
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from eip.errors import EipError

__all__ = ["command", "parse", "serve"]


def command(prog: str, description: str, transports: Sequence[str]) -> argparse.ArgumentParser:
    """A parser with the options of all: transport, endpoint, region, state, host and port."""
    parser = argparse.ArgumentParser(prog=f"python -m {prog}", description=description)
    parser.add_argument("--transport", choices=transports, default="memory", help="default: memory")
    parser.add_argument("--endpoint-url", metavar="U", help="of AWS, e.g. of a local emulator")
    parser.add_argument("--region", default="us-east-1", help="of AWS (default: us-east-1)")
    parser.add_argument("--state", type=Path, metavar="FOLDER", help="of the embedded transport; default: a new one")
    parser.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1")
    parser.add_argument("--port", type=int, default=8080, help="0: any; default: 8080")
    return parser


def parse(parser: argparse.ArgumentParser, *, only_on_aws: Sequence[str] = ()) -> argparse.Namespace:
    """The options given; ends the process where they cannot be.

    Args:
        parser: from `command`.
        only_on_aws: options, by their names, that the embedded transport does not have.
    """
    options = parser.parse_args()
    for name in only_on_aws:
        if options.transport == "memory" and getattr(options, name):
            parser.error(f"--{name.replace('_', '-')} needs --transport aws")
    if not 0 <= options.port < 65536:
        parser.error("--port is 0 to 65535")
    return options


def serve(
    options: argparse.Namespace,
    main: Callable[[argparse.Namespace, Path, socket.socket], Coroutine[Any, Any, None]],
    *,
    log_level: int = logging.ERROR,
) -> int:
    """Run an application on its port, with a folder for its state; the exit code.

    Args:
        options: from `parse`.
        main: the application, given the options, the folder, and a socket that listens already.
        log_level: what is logged.
    """
    logging.basicConfig(level=log_level)
    port = 0 if getattr(options, "diagram", False) else options.port  # to be drawn, it needs none that may be taken
    with socket.socket() as sock, tempfile.TemporaryDirectory() as folder:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((options.host, port))
            sock.listen(1024)  # who reads the line with the URL may connect at once
            asyncio.run(main(options, options.state or Path(folder), sock))
        except (EipError, OSError) as error:
            print(f"Cannot run: {error}", file=sys.stderr)
            return 1
    return 0
