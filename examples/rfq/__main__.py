"""Runs the RFQ service: ``python -m examples.rfq --help``."""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
from pathlib import Path

import uvicorn

from eip import run
from examples.rfq.api import app
from examples.rfq.booking import RideBooking
from examples.rfq.store import Store
from examples.rfq.unicorns import Herd
from examples.rfq.wiring import TRANSPORTS, connected


class _Server:
    """The HTTP server as a service: `stop` ends it, signals are handled by `eip.run`."""

    def __init__(self, server: uvicorn.Server, sock: socket.socket) -> None:
        self._server, self._socket = server, sock

    async def run(self) -> None:
        """Serve until `stop`."""
        await self._server._serve(sockets=[self._socket])  # noqa: SLF001 - serve() would take the signals

    async def stop(self) -> None:
        """Let open requests finish, and return."""
        self._server.should_exit = True


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.rfq", description="The Wild Rydes RFQ service.")
    parser.add_argument(
        "--transport", choices=TRANSPORTS, default="memory", help="what it talks over (default: memory)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8080, help="the port; 0 takes a free one (default: 8080)")
    parser.add_argument("--rfq-seconds", type=float, default=300.0, metavar="S", help="how long quotes are gathered")
    parser.add_argument("--endpoint-url", metavar="U", help="of AWS (e.g. a local moto), or of the broker")
    parser.add_argument("--state", type=Path, default=Path("rfq.sqlite"), help="the SQLite file (default: rfq.sqlite)")
    parser.add_argument("--unicorns", type=int, default=60, help="how many are simulated here (default: 60)")
    parser.add_argument("--seed", type=int, help="of the simulation; default: another one each time")
    options = parser.parse_args()
    if not 0 < options.rfq_seconds <= 3600 or options.unicorns < 0 or not 0 <= options.port < 65536:
        parser.error("--rfq-seconds is more than 0 and at most 3600, --unicorns not negative, --port a port")
    return options


async def _serve(options: argparse.Namespace, sock: socket.socket) -> None:
    store = Store(options.state)
    try:
        async with connected(options.transport, options.endpoint_url) as channels:
            booking = RideBooking(channels, store, rfq_seconds=options.rfq_seconds)
            herd = Herd(channels, size=options.unicorns, seed=options.seed, patience=min(20.0, options.rfq_seconds))
            config = uvicorn.Config(app(booking), log_level="warning", timeout_graceful_shutdown=5)
            host, port = sock.getsockname()[:2]
            print(f"Wild Rydes: http://{host}:{port}/  (state in {options.state}; Ctrl-C ends it)", flush=True)
            await run(booking, herd, _Server(uvicorn.Server(config), sock))
    finally:
        store.close()


def main() -> int:
    """Run it; the process's exit code."""
    options = _arguments()
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((options.host, options.port))
    except OSError as error:
        print(f"Port {options.port} is taken ({error.strerror}); choose another one: --port N", file=sys.stderr)
        return 1
    sock.listen(1024)
    asyncio.run(_serve(options, sock))
    return 0


if __name__ == "__main__":
    sys.exit(main())
