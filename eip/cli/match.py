"""``eip match``: does an event match a pattern, or a message a filter policy? Decided here, as the services do."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias, get_args

import typer

from eip.cli._common import console, errors, given, print_line
from eip.cli._targets import JsonOption
from eip.codec import load_json
from eip.matching import EventPattern, FilterPolicy
from eip.matching.pushdown import Target, push_down

__all__ = ["Kind", "match"]

Kind: TypeAlias = Literal["event", "attributes", "body"]


def match(
    source: Annotated[str, typer.Argument(metavar="PATTERN", help="JSON, a file of it, or - for standard input.")],
    event: Annotated[
        str | None, typer.Argument(help="What it is held against; likewise. Without it the pattern is only checked.")
    ] = None,
    kind: Annotated[
        Kind,
        typer.Option(
            "--as",
            help="What PATTERN is: an EventBridge pattern, or an SNS filter policy on attributes or on the body.",
        ),
    ] = "event",
    where: Annotated[bool, typer.Option(help="Show which services can evaluate it.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Evaluate an event pattern or a filter policy locally.

    Exit code 0: it matches; 1: it does not; 2: the pattern or the event is not valid.
    """
    with errors():
        text = given(source)
        pattern: EventPattern | FilterPolicy
        match kind:
            case "event":
                pattern = EventPattern(text)
            case "attributes":
                pattern = FilterPolicy(text)
            case "body":
                pattern = FilterPolicy(text, scope="MessageBody")
        matches = None if event is None else _matches(pattern, given(event), kind)
    pushed = {target: push_down(pattern, target) for target in get_args(Target)} if where else {}
    if as_json or not console.is_terminal:
        print_line({"matches": matches, "where": {name: each.explain() for name, each in pushed.items()}})
    else:
        for each in pushed.values():
            console.print(each.explain(), highlight=False)
        console.print({True: "matches", False: "does not match", None: "valid"}[matches])
    raise typer.Exit(1 if matches is False else 0)


def _matches(pattern: EventPattern | FilterPolicy, text: str, kind: Kind) -> bool:
    if isinstance(pattern, EventPattern):
        return pattern.matches(text)
    return pattern.matches(attributes=load_json(text)) if kind == "attributes" else pattern.matches(body=text)
