"""Each pattern over each transport, with real services; and the README's table, held to what is run here."""

from __future__ import annotations

from pathlib import Path

import pytest

from eip.transports.activemq import ActiveMQTransport
from eip.transports.aws import AwsTransport
from eip.transports.memory import MemoryTransport
from tests.matrix.lab import Lab
from tests.matrix.scenarios import SCENARIOS

ROOT = Path(__file__).parents[2]

TAKES_ANY_CHANNEL = [
    "Request-Reply",
    "Aggregator",
    "Splitter, Resequencer",
    "Content-Based Router, Recipient List, Dynamic Router",
    "Message Filter",
    "Pipeline: Translator, Content Enricher, Normalizer, Message History, Expiration, Throttle, Circuit Breaker",
    "Wire Tap, Message Store",
    "Claim Check",
    "Idempotent Receiver",
    "Inbox",
    "Message Scheduler",
    "Packing",
]
"""Scenarios whose input comes in on whatever channel; the others are about queues or topics."""


@pytest.mark.parametrize("name", SCENARIOS)
async def test_over_the_embedded_transport(name):
    async with MemoryTransport() as memory:
        await SCENARIOS[name](Lab(memory))


@pytest.mark.parametrize("kind", ["topic", "bus", "stream"])
@pytest.mark.parametrize("name", TAKES_ANY_CHANNEL)
async def test_from_each_kind_of_channel(name, kind):
    async with MemoryTransport() as memory:
        await SCENARIOS[name](Lab(memory, inlet=kind))


@pytest.mark.aws
@pytest.mark.parametrize("name", SCENARIOS)
async def test_over_sqs_and_sns(moto_server, name):
    async with AwsTransport(region=moto_server.region, endpoint_url=moto_server.url, long_poll=1.0) as aws:
        await SCENARIOS[name](Lab(aws))


@pytest.mark.aws
@pytest.mark.parametrize("name", TAKES_ANY_CHANNEL)
async def test_from_eventbridge(moto_server, name):
    async with AwsTransport(region=moto_server.region, endpoint_url=moto_server.url, long_poll=1.0) as aws:
        await SCENARIOS[name](Lab(aws, inlet="bus"))


@pytest.mark.aws
@pytest.mark.parametrize("name", TAKES_ANY_CHANNEL)
async def test_from_kinesis(moto_server, name):
    async with AwsTransport(region=moto_server.region, endpoint_url=moto_server.url, long_poll=1.0) as aws:
        await SCENARIOS[name](Lab(aws, inlet="stream"))


@pytest.mark.activemq
@pytest.mark.parametrize("name", SCENARIOS)
async def test_over_activemq(activemq_broker, name):
    async with ActiveMQTransport(activemq_broker.url) as activemq:
        await SCENARIOS[name](Lab(activemq))


def test_the_table_of_the_readme_is_what_runs_here():
    lines = (ROOT / "README.md").read_text().splitlines()
    header = next(each for each in lines if each.startswith("| pattern |"))
    start = lines.index(header) + 2
    rows = [line.strip("|").split(" | ") for line in lines[start : lines.index("", start)]]
    cells = {row[0].strip(): [cell.strip() for cell in row[2:]] for row in rows}
    assert header.count("SQS, SNS") == header.count("ActiveMQ") == 1
    claimed = {name: tuple(cell != "queues" for cell in row) for name, row in cells.items()}
    run = {name: (True, True, name in TAKES_ANY_CHANNEL, name in TAKES_ANY_CHANNEL, True) for name in SCENARIOS}
    assert claimed == run
