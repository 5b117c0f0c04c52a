"""Runs the RFQ service: ``python -m examples.rfq --help``."""

from __future__ import annotations

import argparse
import asyncio
import re
import socket
import sys
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack

import structlog

from eip import run
from eip.errors import ConfigurationError
from eip.runtime.service import Runnable
from eip.telemetry.meter import UsageMeter
from examples.lifecycle import GRACE, Application, connected_to, print_line
from examples.rfq.access_options import Access, add_arguments, wrong_options
from examples.rfq.booking import RideBooking
from examples.rfq.channels import Channels
from examples.rfq.herd import Herd
from examples.rfq.unicorns import VISITORS, Unicorns
from examples.rfq.wiring import GARBAGE, STATES, TRANSPORTS, connected, shown, stored


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.rfq", description="The Wild Rydes RFQ service.")
    parser.add_argument(
        "--transport", choices=TRANSPORTS, default="memory", help="what it talks over (default: memory)"
    )
    parser.add_argument(
        "--role",
        choices=("booking", "unicorns", "all"),
        default="all",
        help="ride booking with its API and pages, unicorn management, or both in one process (default: all)",
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8080, help="the port; 0 takes a free one (default: 8080)")
    parser.add_argument("--rfq-seconds", type=float, default=300.0, metavar="S", help="how long quotes are gathered")
    parser.add_argument("--endpoint-url", metavar="U", help="of AWS (e.g. a local moto), or of the broker")
    parser.add_argument(
        "--state",
        metavar="URL",
        help="where it is kept, shared by all processes: an SQLite file, dynamodb:TABLE, postgresql://... or redis://..."
        " (default: rfq.sqlite; on AWS dynamodb:rfq)",
    )
    parser.add_argument(
        "--own-replies",
        action="append",
        default=[],
        metavar="CUSTOMER",
        help="with a reply queue of its own, made on demand; repeatable; *: each",
    )
    parser.add_argument("--unicorns", type=int, default=60, help="how many are simulated here (default: 60)")
    parser.add_argument("--herd", default="unicorn", metavar="NAME", help="of theirs; each process needs another")
    parser.add_argument(
        "--grace", type=float, default=GRACE, metavar="S", help="how long the end may take to drain (default: 8)"
    )
    parser.add_argument("--seed", type=int, help="of the simulation; default: another one each time")
    add_arguments(parser)
    options = parser.parse_args()
    options.state = options.state or STATES[options.transport]
    if options.role != "all" and options.transport == "memory":
        parser.error(f"--role {options.role} needs channels between processes: --transport aws or activemq")
    if not re.fullmatch("[A-Za-z0-9_-]{1,40}", options.herd):
        parser.error("--herd is up to 40 letters, digits, - and _")
    if not 0 <= options.grace <= 600:
        parser.error("--grace is 0 to 600 seconds")
    if wrong := wrong_options(options):
        parser.error(wrong)
    if not 0 < options.rfq_seconds <= 3600 or options.unicorns < 0 or not 0 <= options.port < 65536:
        parser.error("--rfq-seconds is more than 0 and at most 3600, --unicorns not negative, --port a port")
    return options


class _Roles:
    """What each role is made of; the two have nothing in common but the channels."""

    def __init__(self, options: argparse.Namespace, access: Access) -> None:
        self._options, self._access = options, access
        self._url: str | None = options.endpoint_url
        self._meter = UsageMeter()
        self._most = 0 if options.role == "booking" else options.unicorns + VISITORS
        """Unicorns that may be signed in."""
        self._asking: RideBooking | None = None

    def booking(self, sock: socket.socket) -> Application:
        """The API on that socket, and the service behind it."""

        async def connect(stack: AsyncExitStack) -> list[Runnable]:
            return await self._booking(stack, await self._channels(stack), sock)

        return self._application(connect, sock)

    def unicorns(self, sock: socket.socket) -> Application:
        """Unicorn management with its API and page on that socket, and the simulated herd."""

        async def connect(stack: AsyncExitStack) -> list[Runnable]:
            unicorns = Unicorns(await self._channels(stack), most=self._most)
            herd = self._herd(unicorns)
            return [self._access.server(self._access.unicorns(unicorns, herd), sock), unicorns, herd]

        return self._application(connect, sock)

    def all(self, sock: socket.socket) -> Application:
        """Both on the same connection."""

        async def connect(stack: AsyncExitStack) -> list[Runnable]:
            channels = await self._channels(stack)
            unicorns = Unicorns(channels, most=self._most)
            herd = self._herd(unicorns)
            return [*await self._booking(stack, channels, sock, unicorns, herd.ids), unicorns, herd]

        return self._application(connect, sock)

    def _application(
        self, connect: Callable[[AsyncExitStack], Awaitable[Sequence[Runnable]]], sock: socket.socket
    ) -> Application:
        return Application(connect, lambda: self._greet(sock), grace=self._options.grace)

    async def _channels(self, stack: AsyncExitStack) -> Channels:
        options = self._options
        return await connected_to(
            _at(options.transport, self._url),
            lambda: connected(options.transport, self._url, unicorns=self._most, meter=self._meter),
            stack,
        )

    async def _booking(
        self,
        stack: AsyncExitStack,
        channels: Channels,
        sock: socket.socket,
        unicorns: Unicorns | None = None,
        herd: Collection[str] = (),
    ) -> list[Runnable]:
        options = self._options
        endpoint = self._url if options.transport == "aws" else None
        state = f"the state in {_at(shown(options.state), endpoint)}"
        states = await connected_to(state, lambda: stored(options.state, endpoint), stack)
        booking = RideBooking(
            channels,
            states,
            rfq_seconds=options.rfq_seconds,
            herd=herd,
            own_replies=options.own_replies,
            callbacks=self._access.callbacks,
        )
        self._asking = booking
        return [self._access.server(self._access.front(booking, unicorns), sock), booking]

    def _herd(self, unicorns: Unicorns) -> Herd:
        options = self._options
        patience = min(20.0, options.rfq_seconds)
        return Herd(unicorns, size=options.unicorns, seed=options.seed, patience=patience, name=options.herd)

    def _greet(self, sock: socket.socket) -> None:
        scheme, (host, port) = "https" if self._access.tls else "http", sock.getsockname()[:2]
        options = self._options
        what = f"state in {shown(options.state)}"
        if options.role == "unicorns":
            what = f"{options.unicorns} unicorns of {options.herd} listen"
        if self._asking is not None and not self._asking.answerable:
            what += "; no unicorn is there yet, and /readyz answers 503 until one is"
        print_line(f"Wild Rydes: {scheme}://{host}:{port}/  ({what}; Ctrl-C ends it)")


def _at(what: str, url: str | None) -> str:
    return what if url is None else f"{what} at {shown(url)}"


async def _serve(make: Callable[[], Application]) -> int:
    application = make()
    await run(application, garbage=GARBAGE)
    if application.failure is not None:
        print(f"Cannot start: {application.failure}", file=sys.stderr)
        return 1
    return 0


def main() -> int:
    """Run it; the process's exit code."""
    options = _arguments()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        roles = _Roles(options, Access(options))
    except (ConfigurationError, OSError) as error:
        print(f"Cannot start: {error}", file=sys.stderr)
        return 1
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((options.host, options.port))
    except OSError as error:
        hint = "choose another one: --port N, or make rfq PORT=N"
        print(f"Port {options.port} is taken ({error.strerror}); {hint}", file=sys.stderr)
        return 1
    make = {"booking": roles.booking, "unicorns": roles.unicorns, "all": roles.all}[options.role]
    return asyncio.run(_serve(lambda: make(sock)))


if __name__ == "__main__":
    sys.exit(main())
