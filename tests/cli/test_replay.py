"""``eip replay`` and ``eip archive``: on moto, and on an application whose replays take their time."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import pytest
from typer.testing import CliRunner

from eip import Message
from eip.cli._common import console, stderr
from eip.cli.app import app
from eip.topology import ArchiveSpec, BusSpec, RuleSpec, Topology
from eip.transports.aws import AwsTransport

WINDOW = ("--start", "2026-01-01T00:00Z", "--end", "2030-01-01T00:00+01:00")


@pytest.fixture(autouse=True)
def _wide(monkeypatch):
    for each in (console, stderr):
        monkeypatch.setattr(each, "width", 200)


@pytest.fixture(scope="module")
def archived(moto_server):
    """A bus with a rule and an archive that keeps an event; their name, and how the command finds them."""
    name = f"cli{os.getpid()}"

    async def prepare() -> None:
        async with AwsTransport(region=moto_server.region, endpoint_url=moto_server.url) as aws:
            archive = ArchiveSpec(name, name, description="what was [bold]sold[/]")
            await Topology(BusSpec(name), RuleSpec(name, "all"), archive).apply(aws)
            await aws.bus(name).send(Message({"n": 1}, type="Sold", source="shop"))

    asyncio.run(prepare())
    return name, ("--bus", name, "--region", moto_server.region, "--endpoint-url", moto_server.url)


def ran(*arguments: str) -> Any:
    return CliRunner(env={"NO_COLOR": "1"}).invoke(app, arguments)


def lines(result: Any) -> list[dict[str, Any]]:
    """What is JSON on standard output; logs go elsewhere where `main` has set them up."""
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]


@pytest.mark.aws
def test_a_replay_is_started_listed_and_described(archived):
    name, where = archived
    result = ran(
        "replay", "start", name, *WINDOW, *where, "--rule", "all", "--name", f"{name}-fix", "--description", "fix 17"
    )
    assert result.exit_code == 0, result.output
    (found,) = lines(result)
    assert (found["name"], found["state"], found["progress"]) == (f"{name}-fix", "COMPLETED", 1.0)
    assert (found["start"], found["end"]) == ("2026-01-01T00:00:00+00:00", "2029-12-31T23:00:00+00:00")
    assert (found["rules"], found["description"]) == (["all"], "fix 17")
    (listed,) = lines(ran("replay", "list", "--archive", name, *where))
    assert (listed["name"], listed["state"]) == (f"{name}-fix", "COMPLETED")
    for watch in ((), ("--watch",)):
        assert lines(ran("replay", "describe", f"{name}-fix", *where, *watch)) == [found]
    (ended,) = lines(ran("replay", "cancel", f"{name}-fix", *where))
    assert ended["state"] == "CANCELLED", "moto cancels what is over, the service does not"
    assert ran("replay", "describe", f"{name}-fix", *where, "--watch").exit_code == 1


@pytest.mark.aws
def test_archives_are_listed_and_described(archived, monkeypatch):
    name, where = archived
    (listed,) = lines(ran("archive", "list", *where))
    assert lines(ran("archive", "describe", name, *where)) == [listed]
    assert (listed["name"], listed["bus"], listed["events"]) == (name, name, 1)
    monkeypatch.setattr(console, "_force_terminal", True)
    for verb in (("list",), ("describe", name)):
        result = ran("archive", *verb, *where)
        assert (result.exit_code, "what was [bold]sold[/]" in result.output) == (0, True), result.output


@pytest.mark.aws
@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("start", "unknown", *WINDOW), 2, "Archive unknown does not exist"),
        (("start", "NAME", "--start", "2026-01-02T00:00Z", "--end", "2026-01-01T00:00Z"), 2, "must be before"),
        (("start", "NAME", *WINDOW, "--name", "no good"), 2, "name of a replay"),
        (("describe", "never"), 3, "Replay never does not exist"),
        (("cancel", "never"), 3, "Replay never does not exist"),
    ],
)
def test_what_cannot_be_is_one_line_and_an_exit_code(archived, arguments, code, text):
    name, where = archived
    result = ran("replay", *(name if each == "NAME" else each for each in arguments), *where)
    assert (result.exit_code, text in result.output) == (code, True), result.output


def test_times_must_be_times_with_a_zone():
    for wrong, complaint in (("yesterday", "a time of ISO 8601"), ("2026-01-01T00:00", "a time zone")):
        result = ran("replay", "start", "a", "--start", wrong, "--end", "2026-01-01T00:00Z")
        assert (result.exit_code, complaint in result.output) == (2, True), result.output


def test_it_names_the_extra_that_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "eip.transports.aws", None)
    result = ran("replay", "start", "a", *WINDOW)
    assert (result.exit_code, "pip install aioeip[aws]" in result.output) == (2, True)


@pytest.mark.parametrize("terminal", [False, True])
def test_each_change_is_a_line_in_a_pipe_and_a_bar_in_a_terminal(monkeypatch, terminal):
    """The application's replay takes three steps; a terminal shows how it ended."""
    for each in (console, stderr):
        monkeypatch.setattr(each, "_force_terminal", terminal)
    result = ran(
        "replay", "start", "orders", *WINDOW, "--app", "tests.cli.apps:replaying", "--bus", "shop", "--every", "0.01"
    )
    assert result.exit_code == 0, result.output
    if terminal:
        assert "COMPLETED 100%" in result.output
        assert not lines(result)
    else:
        assert [each["state"] for each in lines(result)] == ["STARTING", "RUNNING", "COMPLETED"]
