"""``eip topology``: what is declared, compared with what exists, made, or written as a template."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Final, Literal, TypeAlias

import typer

from eip.channels import Transport
from eip.cli._common import EXIT_NO, errors, print_json, print_rows, stderr
from eip.cli._targets import JsonOption, Target, load_topology, with_target
from eip.topology import Plan, Step, Topology

__all__ = ["apply", "drift", "export", "plan", "policy", "topology"]

topology = typer.Typer(no_args_is_help=True, help="Compare declared channels with what exists, and make them.")

_Form: TypeAlias = Literal["cloudformation", "sam"]
_COLUMNS: Final = ("action", "kind", "name", "detail")
_Target = Annotated[
    str, typer.Argument(metavar="TARGET", help="An App or a Topology, or a function that makes one: module:attribute.")
]


@topology.command()
@with_target(app=False)
def plan(
    *,
    target: _Target,
    as_json: JsonOption = False,
    at: Target,
) -> None:
    """Show what apply would do; change nothing. Exit code 1: something is to be created or changed."""
    found = _run(target, "plan", at)
    _print(found.steps, as_json=as_json)
    raise typer.Exit(0 if found.in_force else EXIT_NO)


@topology.command()
@with_target(app=False)
def apply(
    *,
    target: _Target,
    delete: Annotated[
        bool, typer.Option("--delete", help="Also end subscriptions, rules and targets that are not declared.")
    ] = False,
    as_json: JsonOption = False,
    at: Target,
) -> None:
    """Make what is missing and change what differs; applying again changes nothing. Queues are never deleted."""
    found = _run(target, "delete" if delete else "apply", at)
    _print([each for each in found.steps if each.action != "same"], as_json=as_json)
    if all(each.action == "same" for each in found.steps):
        stderr.print("everything is as declared")


@topology.command()
@with_target(app=False)
def drift(
    *,
    target: _Target,
    as_json: JsonOption = False,
    at: Target,
) -> None:
    """Show only what differs from the declaration. Exit code 1: something does."""
    found = [each for each in _run(target, "plan", at).steps if _differs(each)]
    _print(found, as_json=as_json)
    if not found:
        stderr.print("everything is as declared")
    raise typer.Exit(EXIT_NO if found else 0)


@topology.command()
def export(
    target: _Target,
    form: Annotated[
        _Form, typer.Option("--format", help="cloudformation, or sam, whose tools bring the functions' code.")
    ] = "cloudformation",
) -> None:
    """Write an AWS CloudFormation template of what is declared, as JSON."""
    with errors():
        declared, _ = load_topology(target)
        from eip.transports.aws.cloudformation import template  # noqa: PLC0415 - only this verb

        print_json(template(declared, sam=form == "sam"))


@topology.command()
def policy(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="As of plan.")],
    *,
    consumes: Annotated[list[str], typer.Option(help="queue:NAME or stream:NAME that a process reads.")] = [],  # noqa: B006
    uses: Annotated[list[str], typer.Option(help="What it sends to or stores in: topic:NAME, table:NAME, ...")] = [],  # noqa: B006
    account: Annotated[str, typer.Option(help="12 digits.")],
    region: Annotated[str, typer.Option(envvar="AWS_REGION", help="Of all of these.")],
) -> None:
    """Write the IAM policy of a process: what it calls on these channels, and nothing else."""
    with errors():
        declared, _ = load_topology(target)
        from eip.transports.aws.policies import policy as document  # noqa: PLC0415 - only this verb

        print_json(document(declared, account=account, region=region, consumes=consumes, uses=uses))


def _run(target: str, verb: Literal["plan", "apply", "delete"], at: Target) -> Plan:
    async def run() -> Plan:
        declared, used = load_topology(target)
        async with at.configured() if used is None or at.names_transport else used as transport:
            return await _carried_out(declared, transport, verb)

    with errors(), stderr.status(f"{verb}: {target}"):
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
