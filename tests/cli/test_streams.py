"""``eip streams diagnose`` on a stream of moto: rows for people and pipes, and an exit code."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from typing import Any

import pytest
from typer.testing import CliRunner

from eip import Message
from eip.cli._common import console, stderr
from eip.cli.app import app
from eip.streams import BatchConsumer
from eip.topology import StreamSpec, Topology
from eip.transports.aws import AwsTransport

pytestmark = pytest.mark.aws


@pytest.fixture(scope="module")
def clicks(moto_server):
    """A stream whose records mostly have one key, all handled by the group ``sessions``."""
    name = f"clicks{os.getpid()}"
    handled = 0

    async def prepare() -> None:
        async with AwsTransport(region=moto_server.region, endpoint_url=moto_server.url) as aws:
            await Topology(StreamSpec(name, shards=1)).apply(aws)
            stream, done = aws.stream(name), asyncio.Event()

            async def handle(messages: Sequence[Message]) -> None:
                nonlocal handled
                handled += len(messages)
                if handled >= 30:
                    done.set()

            async with BatchConsumer(stream.group("sessions", start="trim_horizon"), handle):
                keys = ["[red]hot[/red]"] * 25 + [f"user-{number}" for number in range(5)]
                await stream.send(*(Message(1, group_id=key) for key in keys))
                await done.wait()

    asyncio.run(prepare())
    return name, ("--region", moto_server.region, "--endpoint-url", moto_server.url, "--transport", "aws")


def ran(*arguments: str) -> Any:
    return CliRunner(env={"NO_COLOR": "1"}).invoke(app, ["streams", "diagnose", *arguments])


def test_in_a_pipe_each_row_is_a_line(clicks):
    name, where = clicks
    result = ran(name, "--group", "sessions", *where)
    assert result.exit_code == 0, result.output
    shard, group, finding = (json.loads(line) for line in result.stdout.splitlines() if line.startswith("{"))
    assert (shard["records"], shard["keys"]["[red]hot[/red]"]) == (30, 0.8333)
    assert 0 < shard["use"] < 0.01
    assert (group["group"], group["finding"], group["age"]) == ("sessions", "healthy", 0)
    assert finding["finding"] == "healthy"


def test_in_a_terminal_there_are_tables_and_a_sentence(clicks, monkeypatch):
    name, where = clicks
    for each in (console, stderr):
        monkeypatch.setattr(each, "width", 200)
    monkeypatch.setattr(console, "_force_terminal", True)
    result = ran(name, "--group", "sessions", *where)
    assert result.exit_code == 0, result.output
    for text in (f"shards of {name}", "[red]hot[/red]", "healthy: Nothing is to be done"):
        assert text in result.output


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("NAME", "--group", "never"), 2, "got 'never'"),
        (("nowhere",), 3, "nowhere"),
        (("NAME", "--window", "0"), 2, "window"),
    ],
)
def test_what_cannot_be_is_one_line(clicks, arguments, code, text):
    name, where = clicks
    result = ran(*(name if each == "NAME" else each for each in arguments), *where)
    assert (result.exit_code, text in result.output) == (code, True), result.output
