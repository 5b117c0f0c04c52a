"""The command's verbs, put together; each is in a module of its own."""

from typing import Annotated

import typer

import eip
from eip.cli.console import console, console_token
from eip.cli.cost import cost
from eip.cli.describe import describe
from eip.cli.match import match
from eip.cli.peek import peek, purge, tail
from eip.cli.redrive import redrive
from eip.cli.replay import archive, replay
from eip.cli.run import run
from eip.cli.scatter import scatter
from eip.cli.schemas import schemas
from eip.cli.send import send
from eip.cli.streams import streams
from eip.cli.topology import topology

__all__ = ["app", "main"]

app = typer.Typer(
    name="eip",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # they would hold bodies and credentials
)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it so
    if wanted:
        typer.echo(f"eip {eip.__version__}")
        raise typer.Exit


@app.callback()
def main(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Enterprise integration patterns over SNS, SQS, EventBridge, Kinesis and ActiveMQ."""
    del version


for verb in (run, send, peek, tail, purge, scatter, describe, redrive, match, cost, console, console_token):
    app.command()(verb)
app.add_typer(topology, name="topology")
app.add_typer(schemas, name="schemas")
app.add_typer(replay, name="replay")
app.add_typer(archive, name="archive")
app.add_typer(streams, name="streams")
