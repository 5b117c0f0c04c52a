"""``eip topology``: what is declared, compared with what exists, made, or written as a template."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Annotated, Final, Literal

import typer

from eip.channels import Transport
from eip.cli._common import EXIT_NO, errors, print_json, print_rows, said
from eip.cli._targets import (
    BrokerOption,
    EndpointOption,
    JsonOption,
    RegionOption,
    TransportOption,
    connected,
    load_topology,
)
from eip.topology import Plan, Step, Topology

__all__ = ["apply", "drift", "export", "plan", "topology"]

topology = typer.Typer(no_args_is_help=True, help="Compare declared channels with what exists, and make them.")

_COLUMNS: Final = ("action", "kind", "name", "detail")
_Target = Annotated[
    str, typer.Argument(metavar="TARGET", help="An App or a Topology, or a function that makes one: module:attribute.")
]


@topology.command()
def plan(
    target: _Target,
    as_json: JsonOption = False,
    transport: TransportOption = None,
    region: RegionOption = None,
    endpoint_url: EndpointOption = None,
    broker: BrokerOption = None,
) -> None:
    """Show what apply would do; change nothing. Exit code 1: something is to be created or changed."""
    found = _run(target, "plan", transport, region, endpoint_url, broker)
    _print(found.steps, as_json=as_json)
    raise typer.Exit(0 if found.in_force else EXIT_NO)


@topology.command()
def apply(
    target: _Target,
    delete: Annotated[
        bool, typer.Option("--delete", help="Also end subscriptions, rules and targets that are not declared.")
    ] = False,
    as_json: JsonOption = False,
    transport: TransportOption = None,
    region: RegionOption = None,
    endpoint_url: EndpointOption = None,
    broker: BrokerOption = None,
) -> None:
    """Make what is missing and change what differs; applying again changes nothing. Queues are never deleted."""
    found = _run(target, "delete" if delete else "apply", transport, region, endpoint_url, broker)
    _print([each for each in found.steps if each.action != "same"], as_json=as_json)
    if all(each.action == "same" for each in found.steps):
        said.print("everything is as declared")


@topology.command()
def drift(
    target: _Target,
    as_json: JsonOption = False,
    transport: TransportOption = None,
    region: RegionOption = None,
    endpoint_url: EndpointOption = None,
    broker: BrokerOption = None,
) -> None:
    """Show only what differs from the declaration. Exit code 1: something does."""
    found = [each for each in _run(target, "plan", transport, region, endpoint_url, broker).steps if _differs(each)]
    _print(found, as_json=as_json)
    if not found:
        said.print("everything is as declared")
    raise typer.Exit(EXIT_NO if found else 0)


@topology.command()
def export(target: _Target) -> None:
    """Write an AWS CloudFormation template of what is declared, as JSON."""
    with errors():
        declared, _ = load_topology(target)
        from eip.transports.aws.cloudformation import template  # noqa: PLC0415 - only this verb

        print_json(template(declared))


def _run(
    target: str,
    verb: Literal["plan", "apply", "delete"],
    transport: str | None,
    region: str | None,
    endpoint_url: str | None,
    broker: str | None,
) -> Plan:
    async def run() -> Plan:
        declared, used = load_topology(target)
        async with AsyncExitStack() as stack:
            if used is None or transport or endpoint_url or broker or region:
                place = connected(transport=transport, region=region, endpoint_url=endpoint_url, broker=broker)
                used = (await stack.enter_async_context(place)).transport
            else:
                await stack.enter_async_context(used)
            return await _carried_out(declared, used, verb)

    with errors(), said.status(f"{verb}: {target}"):
        return asyncio.run(run())


async def _carried_out(declared: Topology, transport: Transport, verb: str) -> Plan:
    if verb == "plan":
        return await declared.plan(transport)
    return await declared.apply(transport, delete=verb == "delete")


def _differs(step: Step) -> bool:
    return step.action != "same"


def _print(steps: Sequence[Step], *, as_json: bool) -> None:
    rows = [{name: getattr(each, name) for name in _COLUMNS} for each in steps]
    print_rows(rows, _COLUMNS, as_json=as_json)
