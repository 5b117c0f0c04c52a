"""Partner events as they run: over HTTP, in a browser, killed and started again, and on the services' emulator."""

from __future__ import annotations

import asyncio
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from eip import running
from eip.codec import load_json
from examples.happy_path.client import Process
from examples.partner_events.load import MODULE, send, settled
from examples.partner_events.partner import KINDS
from examples.partner_events.wiring import system

ROOT = Path(__file__).parents[3]
ARTIFACTS = ROOT / "artifacts"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with Process.running("--state", str(tmp_path_factory.mktemp("partner")), module=MODULE) as started:
        yield started


def client_of(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, timeout=60, trust_env=False)


async def test_an_order_goes_from_the_partner_into_the_order_system(service):
    async with client_of(service.url) as client:
        assert [each["kind"] for each in (await client.get("/kinds")).json()] == list(KINDS)
        await send(client, "contract")
        await settled(client, contract_kept=1)
        await send(client, "large order", 2)
        found = await settled(client, placed=2)
        number = found["latest"][0]["detail"].split()[1].rstrip(":")
        order = (await client.get(f"/orders/{number}")).json()
        assert (order["lines"], order["discount"]) == (6000, "12.5")


async def test_what_cannot_be_sent_is_refused(service):
    async with client_of(service.url) as client:
        assert (await client.get("/orders/unknown")).status_code == 404
        for status, body in {404: {"kind": "x"}, 422: {"kind": "order", "count": 1001}}.items():
            answer = await client.post("/events", json=body)
            assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        assert (await client.post("/events", content=b"x")).status_code == 400


@pytest.mark.browser
async def test_the_page_shows_what_becomes_of_events(service, browser):
    async with browser.page(service.url) as page:
        await page.wait_for("document.body.dataset.ready")
        for kind in KINDS:
            await page.click(f"[data-kind='{kind}']")
        await page.wait_for("document.querySelectorAll('#dead tr').length >= 6")
        await page.wait_for("document.querySelectorAll('#latest .placed').length >= 3")
        await page.wait_for("document.querySelectorAll('#latest .filtered').length >= 2")
        await page.wait_for("document.querySelectorAll('#latest .waiting').length >= 1")
        dead = await page.evaluate("document.querySelector('#dead').innerText")
        for reason in (
            "somebody-elses",
            "gone.json",
            "Quote_Event__e",
            "not valid: lines.0.sku",
            "more than 4,194,304 bytes",
        ):
            assert reason in dead
        assert page.errors == []
        await page.screenshot(ARTIFACTS / "partner-events.png")


def _kills(folder: Path, orders: int, delays: list[float]) -> None:
    """Send orders to services that are killed after each of the delays (seconds), and started again."""

    async def some(url: str, count: int) -> None:
        async with client_of(url) as client:
            await send(client, "early order", count)
            await send(client, "large order")

    async def ends(url: str, count: int) -> None:
        async with client_of(url) as client:
            assert (await settled(client, placed=count))["counts"]["placed"] == count

    for delay in delays:
        with Process.running("--state", str(folder), module=MODULE) as service:
            asyncio.run(some(service.url, orders))
            asyncio.run(asyncio.sleep(delay))  # whatever it is about then
            service.kill()
    with Process.running("--state", str(folder), module=MODULE) as service:
        asyncio.run(ends(service.url, (orders + 1) * len(delays)))


def test_orders_survive_kills_at_once_and_later(tmp_path):
    """Channels end with the process; the partner sends again what it sent, and each order is placed once."""
    _kills(tmp_path, 5, [0.0, 0.3])


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(5))
def test_orders_survive_many_kills(seed, tmp_path):
    chance = random.Random(seed)
    _kills(tmp_path, 20, [chance.uniform(0, 1.0) for _ in range(10)])


@pytest.mark.aws
async def test_the_same_on_eventbridge_sqs_s3_and_dynamodb(ministack, tmp_path):
    async with system("aws", tmp_path, region=ministack.region, endpoint_url=ministack.url) as made:
        dead = made.transport.queue("partner-events-dead")
        async with running(*made.services):
            for kind in ("contract", "large order", "early order", "foreign bucket", "object gone", "unknown type"):
                await made.partner.send(kind)
            async with asyncio.timeout(90):
                while made.journal.counts()["placed"] < 2 or sum((await dead.depth() or {}).values()) < 3:
                    await asyncio.sleep(0.2)
        letters = [each.headers["dead-letter-reason"] for each in await dead.peek(10)]
        for reason in ("somebody-elses", "gone", "Quote_Event__e"):
            assert any(reason in each for each in letters), letters
        placed = [
            entry.detail.split()[1].rstrip(":") for _, entry in made.journal.latest(50) if entry.status == "placed"
        ]
        orders = [await made.tables.orders.get(number) for number in placed]
        assert sorted(load_json(each.value)["lines"] for each in orders if each) == [3, 6000]


def test_the_command_draws_the_services():
    with socket.socket() as taken:  # drawing needs no port
        taken.bind(("127.0.0.1", 0))
        asked = [sys.executable, "-m", MODULE, "--diagram", "--port", str(taken.getsockname()[1])]
        drawn = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout
    assert drawn.startswith("flowchart LR")
    assert "partner-events" in drawn
    assert "claim_check" in drawn
