"""``eip scatter``: ask once from a shell, and print the replies."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from eip.cli._common import EXIT_NO, errors, print_rows, run_with_cleanup, stderr
from eip.cli._messages import COLUMNS, attributes_from, body_from, plain
from eip.cli._targets import JsonOption, Target, with_target
from eip.cli.send import given_body
from eip.message import Message
from eip.patterns.scatter_gather import Gathered, ScatterGather

__all__ = ["scatter"]


@with_target()
def scatter(
    *,
    channel: Annotated[str, typer.Argument(help="Where to ask: a queue's name, or topic/NAME.")],
    body: Annotated[str, typer.Argument(help="JSON, a file of it, or - for standard input.")] = "-",
    expected: Annotated[int | None, typer.Option(help="Number of replies that complete the request.", min=1)] = None,
    deadline: Annotated[float, typer.Option(help="Seconds to wait for replies.", min=0.01)] = 10.0,
    replies: Annotated[
        str, typer.Option(help="What the name of the temporary reply queue begins with; responders must allow it.")
    ] = "replies",
    message_type: Annotated[str | None, typer.Option("--type", help="The message's type.")] = None,
    attribute: Annotated[list[str] | None, typer.Option("--attribute", "-a", help="name=value.")] = None,
    as_json: JsonOption = False,
    at: Target,
) -> None:
    """Send a request to all who listen, and print their replies until there are enough or it is too late.

    Exit code 1: fewer than --expected replied, or nobody did.
    """

    async def run(request: Message[Any]) -> Gathered:
        async with (
            at.connected() as place,
            place.transport.temporary_queue(replies) as queue,
            ScatterGather(requests=place.sender(channel), replies=queue) as asking,
        ):
            with stderr.status(f"asking {channel}, {deadline:g} s at most"):
                return await asking.request(request, expected=expected, deadline=deadline)

    with errors():
        value, attributes = body_from(given_body(body), as_text=False), attributes_from(attribute or ())
        found = run_with_cleanup(run(Message(value, type=message_type, attributes=attributes)))
    print_rows([plain(each) for each in found.replies], COLUMNS, title=channel, as_json=as_json)
    stderr.print(f"{found.answered} replied, {len(found.errors)} with an error; completed by {found.completed_by}")
    raise typer.Exit(0 if found.answered >= (expected or 1) else EXIT_NO)
