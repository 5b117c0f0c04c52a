"""The shop: an order is written, published, billed once and declared; prices are asked; failed bills go again."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from eip.telemetry.prometheus import render
from examples.shop import app as shop_module
from examples.shop.app import ShopSettings, make_app, make_web

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(tmp_path: Path) -> ShopSettings:
    return ShopSettings(transport="memory", database=str(tmp_path / "shop.sqlite"))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


def order(**fields: Any) -> dict[str, Any]:
    return {"customer": "c", "article": "bike", "country": "de", "cents": 100, **fields}


async def test_the_shop_in_200_lines(settings):
    assert len((ROOT / "examples/shop/app.py").read_text().splitlines()) <= 200
    web = make_web(settings)
    lifespan: Any = web.router.lifespan_context
    shop = lifespan.__self__
    async with lifespan(web) as state:

        async def with_state(scope: Any, receive: Any, send: Any) -> None:
            await web({**scope, "state": dict(state)}, receive, send)

        transport = httpx.ASGITransport(with_state)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            for fields in ({}, {"country": "us"}, {"customer": "free", "cents": 0}):
                assert (await client.post("/orders", json=order(**fields))).status_code == 202
            await until(lambda: shop.count("bills") == 2 and shop.count("declarations") == 1)
            assert (await client.get("/stock/bike")).json() == {"article": "bike", "pieces": 4}
            offers = (await client.get("/freight/us")).json()
            assert [(each["carrier"], each["cents"]) for each in offers] == [("rail", 700), ("road", 900)]
            await until(lambda: shop.consumers[0].stats.dead_lettered == 1)
            assert (await client.post("/bills/redrive")).json() == 1
            await until(lambda: shop.consumers[0].stats.dead_lettered == 2)
            assert all(each["ok"] for each in (await client.get("/health")).json().values())
        text = render(shop.families).decode()
        assert 'eip_dead_letters_total{consumer="orders-billing.fifo",reason="Reject"} 2.0' in text


async def test_an_order_that_is_not_written_is_not_published(settings):
    shop = make_app(settings)
    placed = shop_module.OrderPlaced(id="1", **order())
    async with shop:
        shop.write(placed)
        with pytest.raises(sqlite3.IntegrityError):
            shop.write(placed)
        await until(lambda: shop.count("bills") == 1)
        await until(lambda: shop.relay.sent == 1)
        assert await shop.outbox.unsent() == {}
    with closing(sqlite3.connect(settings.database)) as db:
        assert db.execute("SELECT count(*) FROM orders").fetchone() == (1,)


async def test_an_order_is_one_trace_from_the_api_to_its_consumers(settings, monkeypatch):
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr("opentelemetry.trace.get_tracer_provider", lambda: provider)
    shop = make_app(settings)
    placed = shop_module.OrderPlaced(id="1", **order(country="us"))
    async with shop:
        with provider.get_tracer("api").start_as_current_span("POST /orders") as span:
            shop.write(placed)
        await until(lambda: shop.count("bills") == 1 and shop.count("declarations") == 1)
    traces = {each.name: each.context.trace_id for each in exporter.get_finished_spans() if each.context}
    trace = span.get_span_context().trace_id
    names = ("send orders.fifo", "process orders-billing.fifo", "process orders-customs.fifo")
    assert {traces[name] for name in names} == {trace}
