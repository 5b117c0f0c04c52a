"""Invoices as they run: over HTTP, in a browser, killed and started again, and on the services' emulator."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from eip import running
from eip.codec import load_json
from eip.transports.aws import AwsTransport
from examples.happy_path.client import Process
from examples.invoices.__main__ import main
from examples.invoices.layouts import LAYOUTS
from examples.invoices.load import MODULE, outcomes
from examples.invoices.recorded import RecordedAnalysis
from examples.invoices.recordings import scan
from examples.invoices.wiring import surroundings
from examples.invoices.workflow import Invoices
from tests.examples.invoices.test_reading import FOUND

ROOT = Path(__file__).parents[3]
ARTIFACTS = ROOT / "artifacts"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with Process.running("--state", str(tmp_path_factory.mktemp("invoices")), module=MODULE) as started:
        yield started


@pytest.fixture
async def client(service):
    async with httpx.AsyncClient(base_url=service.url, timeout=60, trust_env=False) as client:
        yield client


async def test_a_scan_is_put_in_and_its_invoice_comes_out(client):
    assert len((await client.get("/layouts")).json()) == len(LAYOUTS) >= 12
    put = (await client.post("/scans", json={"layout": "alpha-card"})).json()
    assert put["bucket"] == "scanned-invoices"
    invoice = next(each for each in await outcomes(client, 1) if each["invoice_key"] == put["key"])
    expected = {
        "status": "Approved for Payment",
        "payee_name": "Alpha Card Services",
        "amount": "1284.17",
        "due_date": "2026-07-09",
        "reason": None,
        "reviewers_notified": False,
    }
    assert {name: invoice[name] for name in expected} == expected
    path = f"/invoices/{invoice['invoice_id']}"
    assert (await client.get(path)).json()["status"] == "Approved for Payment"
    shown = await client.get(f"{path}/scan")
    assert (shown.headers["content-type"], shown.content) == ("image/png", scan("alpha-card"))
    analysis = (await client.get(f"{path}/analysis")).json()
    assert {block["BlockType"] for block in analysis["Blocks"]} == {"PAGE", "LINE", "WORD", "KEY_VALUE_SET"}
    assert analysis["DocumentLocation"] == {"S3Bucket": "scanned-invoices", "S3ObjectName": put["key"]}
    assert b"keep_analysis" in (await client.get(f"{path}/analysis.svg")).content
    assert b"move_scan" in (await client.get(f"{path}/reading.svg")).content
    assert b"all required elements found" in (await client.get("/processes/reading.svg")).content


async def test_what_is_wrong_is_refused_or_for_a_person(client):
    for path in ("/invoices/unknown", "/invoices/x/scan", "/invoices/x/reading.svg", "/processes/x.svg"):
        assert (await client.get(path)).status_code == 404
    assert (await client.post("/scans", json={"layout": "unknown"})).status_code == 404
    assert (await client.post("/scans", json={})).status_code == 422
    assert (await client.put("/scans/huge.png", content=bytes(10 * 2**20 + 1))).status_code == 413
    keys = {}
    for name, data in {"<b>%00ü.html": b"<script>alert(1)</script>", "...": b"", "letter.pdf": b"%PDF-1.7"}.items():
        keys[name] = (await client.put(f"/scans/{httpx.URL(path=name).raw_path.decode()}", content=data)).json()["key"]
    await outcomes(client, 3)
    async with asyncio.timeout(60):
        while True:
            found = {each["invoice_key"]: each for each in (await client.get("/invoices?limit=x")).json()}
            if all("reason" in found.get(key, {}) for key in keys.values()):
                break
            await asyncio.sleep(0.2)
    reasons = [found[key]["reason"] for key in keys.values()]
    failed = "the analysis failed: the document is neither PDF, PNG, JPEG nor TIFF"
    assert reasons == [failed, failed, "the analysis has no blocks"]
    html = await client.get(f"/invoices/{found[keys['<b>%00ü.html']]['invoice_id']}/scan")
    assert html.headers["content-type"] == "application/octet-stream"
    assert html.headers["content-disposition"] == "attachment"


@pytest.mark.browser
async def test_the_page_shows_what_becomes_of_scans(service, browser):
    async with browser.page(service.url) as page:
        await page.wait_for("document.body.dataset.ready")
        await page.click("#all")
        await page.wait_for("document.querySelectorAll('#invoices .approved').length >= 11")
        await page.wait_for("document.querySelectorAll('#invoices .pending').length >= 7")
        await page.wait_for("document.querySelectorAll('#invoices .busy').length === 0")
        await page.click("tr[data-key^=india] .name")
        await page.wait_for("document.querySelector('#scan').naturalWidth === 620")
        row = await page.evaluate("document.querySelector('tr[data-key^=india]').innerText")
        for text in ("Approved for Payment", "India Insurance Mutual Society", "$12345.67", "2026-09-05"):
            assert text in row
        assert "no payee was found" in await page.evaluate("document.querySelector('tr[data-key^=papa]').innerText")
        await page.evaluate("document.querySelector('tr[data-key^=papa] .name').focus()")
        await page.pointer("mousePressed", "tr[data-key^=papa] .name")
        looks = "performance.getEntriesByType('resource').filter(each => each.name.endsWith('/invoices')).length"
        await page.wait_for(f"{looks} > {await page.evaluate(looks)} + 1")
        await page.pointer("mouseReleased", "tr[data-key^=papa] .name")
        papa = await page.evaluate("document.querySelector('tr[data-key^=papa]').id.replace('invoice-', '')")
        await page.wait_for(f"document.querySelector('#scan').src.endsWith('/invoices/{papa}/scan')")
        await page.wait_for(f"{looks} > {await page.evaluate(looks)} + 1")
        assert await page.evaluate("document.activeElement.id") == f"name-{papa}"
        assert page.errors == []
        await page.screenshot(ARTIFACTS / "invoices.png")


async def _scan_all(url: str, layouts: list[str]) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
        for layout in layouts:
            (await client.post("/scans", json={"layout": layout})).raise_for_status()


async def _ends(url: str, layouts: list[str]) -> None:
    """Check that each scan is one invoice, with the outcome of its layout."""
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
        found = await outcomes(client, len(layouts), seconds=120)
    got = Counter((each["invoice_key"].rsplit("-", 1)[0], each["stage"]) for each in found)
    assert got == Counter((each, "Approved for Payment" if each in FOUND else "Pending Review") for each in layouts)
    assert all(each["reviewers_notified"] for each in found if each["stage"] == "Pending Review")


def _kills(folder: Path, layouts: list[str], delays: list[float]) -> None:
    """Put the scans in a service that is killed after each of the delays (seconds), and started again."""
    each = -(-len(layouts) // max(1, len(delays)))
    for number, delay in enumerate(delays):
        with Process.running("--state", str(folder), module=MODULE) as service:
            asyncio.run(_scan_all(service.url, layouts[number * each : (number + 1) * each]))
            asyncio.run(asyncio.sleep(delay))  # whatever it is about then
            service.kill()
    with Process.running("--state", str(folder), module=MODULE) as service:
        asyncio.run(_ends(service.url, layouts))


def test_scans_survive_kills_at_once_and_later(tmp_path):
    """Channels end with the process: new objects, jobs and notices are reported again when it starts."""
    _kills(tmp_path, ["alpha-card", "papa-print", "golf-club", "romeo-torn", "echo-gas", "lima-law"], [0.0, 0.7])


async def test_events_and_notices_that_went_with_their_process_are_sent_again(tmp_path):
    async with surroundings("memory", tmp_path) as first:  # it ends with a notice in the topic's queue
        invoices = Invoices(first.transport, first.buckets, first.tables, first.analysis)
        async with running(*first.services, *invoices.services[:2]):
            await first.buckets.scanned.put("old.png", scan("alpha-card"))
            assert isinstance(first.analysis, RecordedAnalysis)
            async with asyncio.timeout(60):
                while not await first.analysis.manager.instances(status="completed"):
                    await asyncio.sleep(0.05)
        await first.buckets.scanned.put("new.png", scan("echo-gas"))  # and with an event in the rule's
    async with surroundings("memory", tmp_path) as second:
        invoices = Invoices(second.transport, second.buckets, second.tables, second.analysis)
        async with running(*second.services, *invoices.services):
            await second.repeat()
            async with asyncio.timeout(60):
                while len(await second.buckets.processed.keys("")) < 2:  # type: ignore[attr-defined]
                    await asyncio.sleep(0.05)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(5))
def test_scans_survive_many_kills(seed, tmp_path):
    chance = random.Random(seed)
    _kills(tmp_path, [chance.choice(list(LAYOUTS)) for _ in range(60)], [chance.uniform(0, 1.5) for _ in range(12)])


@pytest.mark.aws
async def test_the_same_on_s3_eventbridge_sns_sqs_and_dynamodb(ministack, tmp_path):
    place = {"region": ministack.region, "endpoint_url": ministack.url}
    async with surroundings("aws", tmp_path, **place) as around:
        invoices = Invoices(around.transport, around.buckets, around.tables, around.analysis)
        assert isinstance(around.transport, AwsTransport)
        s3 = await around.transport.client("s3")
        names = ("charlie-water", "mike-media", "kilo-freight", "romeo-torn")
        async with running(*around.services, *invoices.services):
            for name in names:  # as a scanner does it, which knows nothing of this library
                await s3.put_object(Bucket=around.buckets.scanned.bucket, Key=f"in box/{name}.png", Body=scan(name))
            async with asyncio.timeout(90):
                items: dict[str, str] = {}
                while len(items) < len(names):
                    for each in await invoices.manager.instances():
                        found = await around.tables.invoices.get(each.id.removesuffix("-reading"))
                        if found is not None:
                            item = load_json(found.value)
                            items[item["invoice_key"]] = item["status"]
                    await asyncio.sleep(0.2)
        approved, pending = "Approved for Payment", "Pending Review"
        expected = dict(zip(names, (approved, approved, pending, pending), strict=True))
        assert items == {f"in box/{name}.png": status for name, status in expected.items()}
        for name, status in expected.items():
            objects = around.buckets.processed if status == approved else around.buckets.scanned
            assert await objects.get(objects.bucket, f"in box/{name}.png", limit=10**7) == scan(name)


def test_the_command_draws_the_services():
    asked = [sys.executable, "-m", MODULE, "--diagram"]
    drawn = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout
    assert drawn.startswith("flowchart LR")
    assert "default-invoice-analyses" in drawn


def test_the_command_refuses_what_cannot_be(monkeypatch, capsys):
    wrong = {
        "--transport aws": ["--textract-role", "arn:aws:iam::1:role/x"],
        "0 to 65535": ["--port", "70000"],
        "0 to 100": ["--min-confidence", "nan"],
    }
    for text, options in wrong.items():
        monkeypatch.setattr(sys, "argv", ["invoices", *options])
        with pytest.raises(SystemExit):
            main()
        assert text in capsys.readouterr().err
