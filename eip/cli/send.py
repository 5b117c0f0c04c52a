"""``eip send``: a message, or one for each line of standard input, to a channel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from typing import Annotated, Any, Final

import typer

from eip.channels import Sender
from eip.cli._common import EXIT_NO, errors, given, given_lines, print_line, progress_bar, stderr
from eip.cli._messages import attributes_from, body_from
from eip.cli._targets import Target, with_target
from eip.errors import PartialSendError
from eip.message import Message

__all__ = ["given_body", "send"]

_BATCH: Final = 100
"""Messages of one call of `Sender.send`."""


@with_target()
def send(
    *,
    channel: Annotated[str, typer.Argument(help="A queue's name, or topic/NAME, bus/NAME, stream/NAME.")],
    body: Annotated[str, typer.Argument(help="JSON, a file of it, or - for standard input.")] = "-",
    message_type: Annotated[str | None, typer.Option("--type", help="The message's type.")] = None,
    attribute: Annotated[
        list[str] | None, typer.Option("--attribute", "-a", help="name=value; numbers, true and false are such.")
    ] = None,
    group: Annotated[str | None, typer.Option(help="The message group; FIFO channels need one.")] = None,
    deduplication_id: Annotated[str | None, typer.Option(help="Of a FIFO channel; default: the message's id.")] = None,
    correlation_id: Annotated[str | None, typer.Option(help="What the message belongs to.")] = None,
    delay: Annotated[float, typer.Option(help="Seconds until it can be received; queues only.", min=0)] = 0.0,
    text: Annotated[bool, typer.Option("--text", help="The body is text, not JSON.")] = False,
    lines: Annotated[bool, typer.Option("--lines", help="Each line of the body is a message.")] = False,
    at: Target,
) -> None:
    """Send a message, and print its id; with --lines a message for each line.

    Exit code 1: some were not accepted.
    """
    envelope = {
        "type": message_type,
        "attributes": attributes_from(attribute or ()),
        "group_id": group,
        "deduplication_id": deduplication_id,
        "correlation_id": correlation_id,
    }
    options = {"delay": delay} if delay else {}

    def messages() -> Iterator[Message[Any]]:
        source = _lines(body) if lines else [body if text and body != "-" else given_body(body)]
        for each in source:
            yield Message(body_from(each, as_text=text), **envelope)  # type: ignore[arg-type]

    async def run(ready: Iterator[Message[Any]]) -> int:
        async with at.connected() as place:
            with progress_bar() as bar:
                task, failed = bar.add_task("sent", total=None), 0
                async for sent, refused in _sent(place.sender(channel), ready, options):
                    bar.advance(task, sent)
                    failed += refused
            return failed

    with errors():
        # One message: what is wrong shows before anything is opened.
        failed = asyncio.run(run(messages() if lines else iter([*messages()])))
    raise typer.Exit(EXIT_NO if failed else 0)


def given_body(text: str) -> str:
    """A body: a JSON value of any kind, a file, or standard input."""
    try:
        return given(text)
    except typer.BadParameter:
        return text  # a number, a string, true: `body_from` decides


def _lines(body: str) -> Iterator[str]:
    if body == "-":
        yield from (line.rstrip("\n") for line in given_lines() if line.strip())
    else:
        yield from (line for line in given(body).splitlines() if line.strip())


async def _sent(
    sender: Sender, messages: Iterator[Message[Any]], options: dict[str, Any]
) -> AsyncIterator[tuple[int, int]]:
    """Send in batches, and print the ids of what was accepted; how many were, and how many were not."""
    while batch := list(islice(messages, _BATCH)):
        refused: dict[str, Exception] = {}
        try:
            await sender.send(*batch, **options)
        except PartialSendError as error:
            refused = {each.message.id: each.error for each in error.failed}
        for message in batch:
            if message.id in refused:
                stderr.print(f"not sent: {message.id}: {refused[message.id]}", markup=False)
            else:
                print_line({"id": message.id})
        yield len(batch) - len(refused), len(refused)
