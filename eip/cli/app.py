"""The command's verbs, put together; each is in a module of its own."""

from __future__ import annotations

import typer

from eip.cli.cost import cost
from eip.cli.match import match
from eip.cli.redrive import redrive
from eip.cli.replay import replay

__all__ = ["app"]

app = typer.Typer(
    name="eip",
    help="Enterprise integration patterns over SNS, SQS, EventBridge, Kinesis and ActiveMQ.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,  # they would hold bodies and credentials
)
app.command()(cost)
app.command()(match)
app.command()(redrive)
app.command()(replay)
