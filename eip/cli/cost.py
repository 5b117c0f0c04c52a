"""``eip cost``: the monthly cost of a flow of messages on each service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from eip.cli._common import console, errors, print_line, stderr, writing
from eip.cli._targets import JsonOption
from eip.cost import (
    Advice,
    Alternative,
    Prices,
    Profile,
    WorkflowCost,
    advise,
    facts,
    function_cost,
    prices,
    workflow_cost,
)
from eip.cost.computing import MEMORY_SIZES
from eip.cost.prices import MILLION
from eip.cost.profile import SECONDS

__all__ = ["cost"]


def cost(
    rate: Annotated[float | None, typer.Option(help="Messages a second, the mean.")] = None,
    per_month: Annotated[float | None, typer.Option(help="Messages a month, instead of --rate.")] = None,
    size: Annotated[int, typer.Option(help="Bytes of a message, attributes included.")] = 1024,
    share: Annotated[
        list[float] | None, typer.Option(help="Once per consumer: the share of messages it wants, 0 to 1.")
    ] = None,
    peak: Annotated[float, typer.Option(help="The busiest second, as a multiple of the mean.")] = 1.0,
    pollers: Annotated[int, typer.Option(help="Processes of each consumer that poll.")] = 1,
    ordered: Annotated[bool, typer.Option(help="Messages of one key must stay in order.")] = False,
    groups: Annotated[int, typer.Option(help="Number of such keys.")] = 1000,
    kinds: Annotated[int, typer.Option(help="Different values of what is filtered on.")] = 1,
    retention_days: Annotated[float, typer.Option(help="How long a message must be kept.")] = 4.0,
    replay: Annotated[bool, typer.Option(help="Handled messages must be readable again.")] = False,
    targets: Annotated[int | None, typer.Option(help="Endpoints that get messages; default: the consumers.")] = None,
    batch: Annotated[float | None, typer.Option(help="Messages of a call on average; default: by the rate.")] = None,
    linger: Annotated[float, typer.Option(help="Seconds that a message may wait for its pack.")] = 1.0,
    compression: Annotated[float, typer.Option(help="How many times smaller zstd makes a pack.")] = 3.0,
    function_seconds: Annotated[
        float | None, typer.Option(help="Consumers are Lambda functions; seconds of an invocation.")
    ] = None,
    function_memory: Annotated[int, typer.Option(help="MB of them.")] = 128,
    function_batch: Annotated[float, typer.Option(help="Messages of an invocation.")] = 1.0,
    transitions: Annotated[
        float | None, typer.Option(help="Each message starts a workflow; transitions of it.")
    ] = None,
    workflow_seconds: Annotated[float, typer.Option(help="That such a workflow takes.")] = 1.0,
    workflow_memory: Annotated[int, typer.Option(help="MB that it takes.")] = 64,
    region: Annotated[str, typer.Option(help="Region of the price list.")] = "us-east-1",
    on: Annotated[str | None, typer.Option(help="Prices of a date, e.g. 2020-12-31; default: today's.")] = None,
    price_file: Annotated[Path | None, typer.Option("--prices", help="A price list of your own.", exists=True)] = None,
    as_json: JsonOption = False,
    plot: Annotated[Path | None, typer.Option(help="Draw the comparison: .svg or .png (extra: plot).")] = None,
    services: Annotated[bool, typer.Option(help="Show how the services differ, before money.")] = False,
) -> None:
    """Compare the monthly cost of a flow of messages on each service."""
    plain = as_json or not console.is_terminal
    if services:
        print_line(facts()) if plain else console.print(_facts())
        return
    if (rate is None) == (per_month is None):
        raise typer.BadParameter("give --rate (a second) or --per-month")
    with errors():
        profile = Profile(
            rate=rate if rate is not None else (per_month or 0.0) / SECONDS,
            size=size,
            shares=tuple(share or (1.0,)),
            peak=peak,
            pollers=pollers,
            ordered=ordered,
            groups=groups,
            kinds=kinds,
            retention_days=retention_days,
            replay=replay,
            targets=targets,
            batch=batch,
            linger=linger,
            compression=compression,
            function_seconds=function_seconds,
            function_memory=function_memory,
            function_batch=function_batch,
        )
        rates = prices(region, on=on, file=price_file)
        advice = advise(profile, rates)
        functions = _functions(profile, rates)
        workflows = _workflows(profile, rates, transitions, workflow_seconds, workflow_memory)
        if plot is not None:
            _draw(advice, plot)
    if plain:
        beside: dict[str, Any] = {} if workflows is None else {"workflows": workflows._asdict()}
        if functions:
            beside["functions"] = {str(memory): dollars for memory, dollars in functions.items()}
        print_line(advice.as_dict() | beside)
    else:
        _print(advice, functions, workflows)


def _print(advice: Advice, functions: dict[int, float], workflows: WorkflowCost | None) -> None:
    remarks = _Remarks()
    console.print(_table(advice, remarks))
    for number, remark in enumerate(remarks.texts, 1):
        console.print(f"{number:>3}  {remark}", highlight=False)
    if functions:
        console.print(_function_table(advice.profile, functions))
    if workflows is not None:
        console.print(
            f"Workflows: ${workflows.standard:,.2f} a month as Standard, ${workflows.express:,.2f} as Express "
            "(five minutes at most, run at least once).",
            highlight=False,
        )
    for note in advice.notes:
        console.print(note, highlight=False, style="bold")


def _workflows(
    profile: Profile, rates: Prices, transitions: float | None, seconds: float, memory: int
) -> WorkflowCost | None:
    """The cost of a workflow for each message; None where there is none."""
    if transitions is None:
        return None
    work = {"executions": profile.messages, "transitions": transitions, "seconds": seconds}
    return workflow_cost(rates, **work, memory=memory)


def _functions(profile: Profile, rates: Prices) -> dict[int, float]:
    """Dollars a month by memory size, of a function that gets all messages; {} where consumers are none."""
    seconds = profile.function_seconds
    if seconds is None:
        return {}
    invocations = profile.messages / profile.function_batch
    sizes = sorted({*MEMORY_SIZES, profile.function_memory})
    return {each: function_cost(rates, invocations=invocations, seconds=seconds, memory=each) for each in sizes}


def _function_table(profile: Profile, functions: dict[int, float]) -> Table:
    invocations = profile.messages / profile.function_batch
    table = Table(title=f"{invocations:,.0f} invocations of {profile.function_seconds:g} s, requests included")
    table.add_column("MB", justify="right")
    table.add_column("$/month", justify="right")
    for memory, dollars in functions.items():
        table.add_row(f"{memory:,}", f"{dollars:,.2f}", style="bold" if memory == profile.function_memory else None)
    return table


class _Remarks:
    """Footnotes: a remark on several rows is printed once, with a number."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def numbers(self, each: Alternative) -> str:
        """The footnote numbers of an alternative."""
        remarks = [f"does not fit: {text}" for text in each.unfit]
        remarks += [f"limit: {text}" for text in each.limits]
        remarks += [f"without {text}" for text in each.lost]
        self.texts += [text for text in remarks if text not in self.texts]
        return " ".join(str(self.texts.index(text) + 1) for text in remarks)


def _table(advice: Advice, remarks: _Remarks) -> Table:
    profile = advice.profile
    table = Table(
        title=f"{profile.messages:,.0f} messages of {profile.size:,} bytes a month; prices of {advice.prices}",
        caption="List prices; without data transfer, taxes, free tiers, computing but functions. Dim: does not fit.",
    )
    table.add_column("carried by", overflow="fold")
    table.add_column("$/month", justify="right", no_wrap=True)
    table.add_column("$/million", justify="right", no_wrap=True)
    table.add_column("received", justify="right", no_wrap=True)
    table.add_column("remarks")
    for each in advice.alternatives:
        per_million = each.monthly * MILLION / profile.messages
        numbers = (f"{each.monthly:,.2f}", f"{per_million:,.4f}", f"{each.received / MILLION:,.1f} M")
        style = "bold green" if each is advice.best else None if each.fits else "dim"
        table.add_row(each.name, *numbers, remarks.numbers(each), style=style)
    return table


def _facts() -> Table:
    table = Table(title="How the services differ")
    compared = facts()
    table.add_column("")
    for name in next(iter(compared.values())):
        table.add_column(name)
    for topic, answers in compared.items():
        table.add_row(topic, *answers.values())
    return table


def _draw(advice: Advice, path: Path) -> None:
    try:
        from eip.cli._plot import draw  # noqa: PLC0415 - an extra
    except ImportError:
        stderr.print("a plot needs matplotlib: pip install aioeip\\[plot]")
        raise typer.Exit(1) from None
    with writing(path):
        draw(advice, path)
    stderr.print(f"drawn: {path}", highlight=False)
