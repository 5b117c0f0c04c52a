"""What an application counts, as Prometheus and OpenTelemetry see it, with no hand work."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import parser

from eip import App, Backoff, Message, QueueSpec, Topology
from eip.patterns.packer import Packer
from eip.telemetry.prometheus import render
from eip.transports.memory import MemoryTransport

ROOT = Path(__file__).parents[2]
TOPOLOGY = Topology(QueueSpec("orders"), QueueSpec("bills", dead_letters=False))


def make_app(**options: Any) -> App:
    app = App(MemoryTransport(), topology=TOPOLOGY, **options)

    @app.consumer("orders", output="bills", retry=Backoff(base=0.1, max_attempts=2))
    async def bill(message: Message) -> Message:
        await asyncio.sleep(0.2)
        if message.body == "bad":
            raise ValueError("cannot")
        return message.derive("bill")

    app.sender("orders")
    return app


async def work(app: App) -> None:
    """Handle three messages, one of them in vain and two of them in a pack."""
    orders = app.sender("orders")
    await orders.send(Message("bad"))
    async with Packer(orders, linger=0.01) as packer:
        await packer.send(Message("one"), Message("two"))
    (consumer,) = app.consumers
    while consumer.stats.handled < 1 or consumer.stats.dead_lettered < 1:
        await asyncio.sleep(0.1)


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (each.name, frozenset(each.labels.items())): each.value
        for family in parser.text_string_to_metric_families(text)
        for each in family.samples
    }


async def test_prometheus_sees_what_an_app_counts_and_the_program_s_own_metrics():
    app = make_app(depth_interval=1)
    async with app:
        await work(app)
        render(app.families)  # somebody reads the depths
        await asyncio.sleep(3)
        found = samples(render(app.families).decode())

    def value(name: str, **labels: str) -> float:
        return found[name, frozenset(labels.items())]

    handler = {"consumer": "orders", "handler": "make_app.<locals>.bill"}
    assert value("eip_handler_duration_seconds_count", **handler, outcome="ok") == 2
    assert value("eip_handler_duration_seconds_count", **handler, outcome="error") == 2
    assert value("eip_handler_duration_seconds_bucket", **handler, outcome="ok", le="0.1") == 0
    assert value("eip_handler_duration_seconds_bucket", **handler, outcome="ok", le="0.25") == 2
    assert value("eip_handler_duration_seconds_sum", **handler, outcome="ok") == pytest.approx(0.4, rel=0.1)
    assert value("eip_consumer_messages_total", consumer="orders", outcome="handled") == 1
    assert value("eip_consumer_messages_total", consumer="orders", outcome="retried") == 1
    assert value("eip_dead_letters_total", consumer="orders", reason="ValueError") == 1
    assert value("eip_pack_messages_sum", consumer="orders") == 2
    assert value("eip_message_attempts_bucket", consumer="orders", le="1.0") == 3
    assert value("eip_message_age_seconds_count", consumer="orders") == 4
    assert value("eip_sent_messages_total", system="memory", channel="bills") == 2
    assert value("eip_send_duration_seconds_count", system="memory", channel="bills", outcome="ok") == 2
    assert value("eip_consumer_in_flight", consumer="orders") == 0
    assert value("eip_lease_losses_total", consumer="orders") == 0
    assert value("eip_queue_depth", queue="bills", state="ready") == 2
    assert value("eip_queue_depth", queue="orders-dead", state="ready") == 1
    assert value("eip_transport_calls_total", system="memory", channel="bills", operation="send") == 2
    assert value("eip_part_up", part="consumer orders") == 1
    assert ("python_info" in {name for name, _ in found}) or any(name.startswith("process_") for name, _ in found)


async def test_opentelemetry_sees_the_conventions_metrics_and_ours():
    reader = InMemoryMetricReader()
    app = make_app(meter_provider=MeterProvider(metric_readers=[reader]))
    async with app:
        await work(app)
        data = reader.get_metrics_data()
    assert data is not None
    scopes = data.resource_metrics[0].scope_metrics
    found: dict[str, Any] = {each.name: each for scope in scopes for each in scope.metrics}
    durations = found["messaging.process.duration"].data.data_points
    points = {point.attributes.get("error.type"): point for point in durations}
    assert dict(points[None].attributes) == {
        "messaging.system": "memory",
        "messaging.destination.name": "orders",
        "messaging.operation.name": "process",
    }
    assert (points[None].count, points["ValueError"].count) == (2, 2)
    assert points[None].explicit_bounds[0] == 0.005
    assert {"messaging.client.sent.messages", "messaging.client.consumed.messages"} <= found.keys()
    assert "messaging.client.operation.duration" in found
    (letters,) = found["eip.dead_letters"].data.data_points
    assert (dict(letters.attributes), letters.value) == ({"eip.consumer": "orders", "eip.reason": "ValueError"}, 1)
    assert "messaging.system" in found["eip.transport.calls"].data.data_points[0].attributes


async def test_an_app_is_traced_from_send_to_settlement_without_being_asked():
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    app = make_app(tracer_provider=provider)
    async with app:
        await app.sender("orders").send(Message("one"))
        (consumer,) = app.consumers
        while consumer.stats.handled < 1:
            await asyncio.sleep(0.1)
    spans = {each.name: each for each in exporter.get_finished_spans()}
    assert spans.keys() == {"send orders", "process orders", "send bills", "ack orders"}
    assert len({each.context.trace_id for each in spans.values() if each.context}) == 1


async def test_without_providers_nothing_of_opentelemetry_is_in_the_way():
    app = make_app()
    async with app:
        assert app._observation is not None
        assert (app._observation.messaging, app._observation._tracing) == (None, False)


QUERY = re.compile(r"\beip_[a-z_]+\b")
LABEL = re.compile(r"by \(([^)]*)\)|\{\{(\w+)\}\}|\b(\w+)(?:=~?|!=)\"")


async def test_the_dashboard_asks_only_for_metrics_and_labels_that_there_are():
    dashboard = json.loads((ROOT / "docs/grafana/eip.json").read_text())
    targets = [target for panel in dashboard["panels"] for target in panel.get("targets", ())]
    app = make_app(depth_interval=1)
    async with app:
        await work(app)
        render(app.families)
        await asyncio.sleep(3)
        text = render(app.families).decode()
    names = set(re.findall(r"^(eip_\w+)(?:\{|\s)", text, re.MULTILINE)) | {"eip_cost_dollars_total"}
    labels = set(re.findall(r"(\w+)=\"", text)) | {"le", "instance", "job"}
    assert len(targets) >= 12
    for target in targets:
        asked = set(QUERY.findall(target["expr"]))
        assert asked, target
        assert asked <= names, asked - names
        for groups in LABEL.findall(target["expr"] + target.get("legendFormat", "")):
            for label in ",".join(filter(None, groups)).replace(" ", "").split(","):
                assert label in labels, (label, target)
    shown = {name for target in targets for name in QUERY.findall(target["expr"])}
    wanted = ("handler_duration", "consumer_messages", "in_flight", "message_age", "dead_letters", "lease_losses")
    billed = ("pack_messages", "send_duration", "queue_depth", "units", "cost_dollars")
    for word in (*wanted, *billed, "attempts", "part_up"):
        assert any(word in name for name in shown), word
