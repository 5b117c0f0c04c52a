"""``eip console``: an application or a transport in the browser; ``eip console-token``: who may use it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from eip.app import App
from eip.cli._common import errors, stderr, writing
from eip.cli._targets import Target, load, with_target
from eip.errors import ConfigurationError
from eip.runtime.service import Runnable
from eip.runtime.service import run as run_services
from eip.topology import QueueSpec, Topology

if TYPE_CHECKING:
    from eip.console import Console, ConsoleServer

__all__ = ["console", "console_token"]

_EXPORTS: Final = Path("console-exports")


@with_target(app=False)
def console(
    *,
    target: Annotated[
        str | None, typer.Argument(help="An App or a Topology, or a function that makes one: module:attribute.")
    ] = None,
    queue: Annotated[
        list[str] | None,
        typer.Option(
            help="Without a target: a queue to show, and its dead letters NAME-dead; or NAME=DEAD. Repeatable."
        ),
    ] = None,
    run: Annotated[bool, typer.Option("--run", help="Run the application in this process, too.")] = False,
    port: Annotated[int, typer.Option(help="To listen on; 0: a free one.", min=0, max=65_535)] = 8081,
    host: Annotated[
        str, typer.Option(help="Address to listen on; one that others reach needs --tokens.")
    ] = "127.0.0.1",
    tokens: Annotated[
        Path | None, typer.Option(envvar="EIP_CONSOLE_TOKENS", help="A token file, see eip console-token.")
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Without tokens: nothing can be changed.")] = False,
    redact: Annotated[
        list[str] | None,
        typer.Option(help="A field whose values are masked, with * and ?; repeatable. Default: passwords, tokens, ..."),
    ] = None,
    no_redact: Annotated[bool, typer.Option("--no-redact", help="Mask nothing.")] = False,
    audit: Annotated[Path | None, typer.Option(help="A file that each change is recorded in.")] = None,
    exports: Annotated[Path, typer.Option(help="The folder that discarded messages are written to.")] = _EXPORTS,
    depth_interval: Annotated[
        float, typer.Option(help="Seconds between looks at how full the queues are, while a page is open.", min=1)
    ] = 5.0,
    at: Target,
) -> None:
    """Show an application, or the queues of a transport, in the browser, until SIGTERM or SIGINT.

    By default on this machine only, for whoever is on it; with --tokens for those who have one. The application is not
    run, only its transport and stores are opened; --run runs it in this process, so that live figures are shown.
    """
    with errors():
        if redact and no_redact:
            raise typer.BadParameter("--redact or --no-redact, not both")
        app = _app(target, queue or (), at)
        options = _Options(port, host, tokens, audit, exports, () if no_redact else redact, depth_interval, read_only)
        asyncio.run(_serve(app, options, run=run))


def console_token(
    file: Annotated[Path, typer.Argument(help="The token file; made where there is none.")],
    name: Annotated[str, typer.Argument(help="Whose token it is, as the audit log names them.")],
    operator: Annotated[bool, typer.Option("--operator", help="May change what the console shows.")] = False,
) -> None:
    """Make a token for `eip console --tokens`, print it once, and keep its digest in the file."""
    with errors():
        _check_extra()
        from eip.console import Tokens  # noqa: PLC0415 - an extra

        known = Tokens.load(file) if file.exists() else Tokens()
        made = known.grant(name.strip(), "operator" if operator else "reader")
        with writing(file):
            known.save(file)
    typer.echo(made)


@dataclass(frozen=True, slots=True)
class _Options:
    """Of the console."""

    port: int
    host: str
    tokens: Path | None
    audit: Path | None
    exports: Path
    redact: list[str] | tuple[str, ...] | None
    depth_interval: float
    read_only: bool

    def console(self, app: App) -> Console:
        """The console of an application."""
        from eip.console import Console, TokenFile  # noqa: PLC0415 - an extra

        return Console(
            app,
            tokens=None if self.tokens is None else TokenFile(self.tokens),
            read_only=self.read_only,
            redact=self.redact,
            audit=self.audit,
            exports=self.exports,
            depth_interval=self.depth_interval,
        )


def _app(target: str | None, queues: list[str] | tuple[str, ...], at: Target) -> App:
    """The application to show; where only a transport is given, one that reads nothing."""
    found = Topology(*map(_queue_spec, queues)) if target is None else load(target)
    if isinstance(found, App):
        if queues:
            raise ConfigurationError("give --queue or an App, which has queues of its own")
        return found
    if isinstance(found, Topology):
        return App(at.configured(), topology=found, name=target or "transport", provision="skip")
    raise ConfigurationError(f"{target} must be an App or a Topology, got {found!r}")


def _queue_spec(text: str) -> QueueSpec:
    name, equals, dead_letters = text.partition("=")
    return QueueSpec(name, dead_letters=dead_letters if equals else True)


async def _serve(app: App, options: _Options, *, run: bool) -> None:
    _check_extra()
    if type(app.transport).__name__ == "MemoryTransport" and not run:
        raise ConfigurationError("no other process can reach the memory transport; give --run")
    from eip.console import ConsoleServer  # noqa: PLC0415 - an extra

    async with AsyncExitStack() as stack:
        if not run:
            await stack.enter_async_context(app.inspected())
        server = ConsoleServer(options.console(app), options.port, host=options.host)
        greeting = asyncio.create_task(_greet(server, app.name))
        stack.callback(greeting.cancel)
        service: Runnable = server
        if run:
            app.add(server)
            service = app
        await run_services(service)


async def _greet(server: ConsoleServer, name: str) -> None:
    await server.ready.wait()
    stderr.print(f"console of {name}: {server.url}", highlight=False, markup=False)


def _check_extra() -> None:
    """Raise where the extra is not installed."""
    if missing := [name for name in ("starlette", "uvicorn") if find_spec(name) is None]:
        raise ConfigurationError(f"the console needs {' and '.join(missing)}: pip install aioeip[console]")
