"""Happy Path as it runs: over HTTP, in a browser, killed and started again, and on the services' emulator."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from eip import Message, running
from examples.happy_path.api import front_routes, workflow_routes
from examples.happy_path.client import Client, Process
from examples.happy_path.front import Front
from examples.happy_path.load import measure
from examples.happy_path.rekognition import RekognitionJudge
from examples.happy_path.samples import animated_gif, jpeg, photo, png_bomb
from examples.happy_path.wiring import surroundings
from examples.happy_path.workflow import Workflow
from examples.object_events import object_created

ARTIFACTS = Path(__file__).parents[3] / "artifacts"
GOOD = jpeg(photo(width=1600, height=1200))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with Process.running("--state", str(tmp_path_factory.mktemp("happy path"))) as started:
        yield started


@pytest.fixture
async def client(service):
    async with httpx.AsyncClient(base_url=service.url, timeout=60, trust_env=False) as client:
        yield client


async def test_a_photo_goes_from_the_browser_to_the_gallery(client):
    user = Client(client)
    asked = await user.upload(GOOD, "lake-garden")
    assert asked["upload"]["key"] == f"uploads/lake-garden/{asked['photo']}"
    assert asked["upload"]["expires-in"] == 300
    published = await user.outcome(asked)
    assert (published["status"], published["version"]) == ("published", 4)
    for size in published["sizes"]:
        answer = await client.get(size["url"])
        assert (answer.headers["content-type"], len(answer.content)) == ("image/jpeg", size["bytes"])
    shown = (await client.get("/places/lake-garden/photos")).json()
    assert [each["photo"] for each in shown] == [published["photo"]]
    assert (await client.get(asked["links"]["self"])).json()["status"] == "published"
    assert b"record_fail_state" in (await client.get(f"/workflow/photos/{published['photo']}.svg")).content


async def test_what_is_wrong_has_an_outcome_at_once_or_after_a_look(client):
    user = Client(client)
    refusals = {
        413: {"placeId": "alder-park", "size": 100 * 2**20},
        404: {"placeId": "nowhere", "size": 7},
        422: {"placeId": "alder-park", "size": 0},
    }
    for status, body in refusals.items():
        answer = await client.post("/uploads", json=body)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    asked = await user.ask(7)
    assert (await client.put(asked["upload"]["url"], content=b"longer than asked")).status_code == 403
    for path in ("/photos/unknown", "/photos/unknown/events", "/places/x/photos", "/workflow/versions/9.svg"):
        assert (await client.get(path)).status_code == 404
    photos = {
        "not a picture": b"no picture at all",
        "too many pixels": png_bomb(60_000, 60_000),
        "too small": animated_gif(3),
        "damaged": GOOD[:50_000],
    }
    for reason, data in photos.items():
        outcome = await user.outcome(await user.upload(data))
        assert (outcome["status"], reason in outcome["reason"]) == ("rejected", True), outcome


async def test_another_version_is_deployed_while_it_runs(client):
    user = Client(client)
    small = jpeg(photo(width=500, height=500))
    try:
        assert (await client.put("/workflow", json={"version": 1})).json() == {"version": 1, "versions": [1, 2, 3, 4]}
        assert (await user.outcome(await user.upload(small)))["status"] == "published"
        assert (await client.put("/workflow", json={"version": 9})).status_code == 422
    finally:
        await client.put("/workflow", json={"version": 4})
    assert (await user.outcome(await user.upload(small)))["status"] == "rejected"
    for version in (1, 2, 3, 4):
        answer = await client.get(f"/workflow/versions/{version}.svg")
        assert answer.headers["content-type"].startswith("image/svg+xml")
        assert ("moderation result" in answer.text) == (version > 1)


@pytest.mark.browser
async def test_the_page_shows_the_photo_or_the_reason(service, browser, tmp_path):
    files = {"swing.jpg": GOOD, "fight.jpg": jpeg(photo("violence", width=900, height=900)), "notes.jpg": b"no picture"}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    async with browser.page(service.url) as page:
        await page.wait_for("document.body.dataset.ready")
        await page.click("[data-place=alder-park]")
        root = (await page.command("DOM.getDocument"))["root"]["nodeId"]
        field = (await page.command("DOM.querySelector", nodeId=root, selector="#files"))["nodeId"]
        await page.command("DOM.setFileInputFiles", nodeId=field, files=[str(tmp_path / name) for name in files])
        await page.wait_for("document.querySelectorAll('#progress .published, #progress .rejected').length === 3")
        lines = (await page.evaluate("document.querySelector('#progress').innerText")).splitlines()
        shown = {line.split(" ")[0]: line.split(" ", 1)[1].removesuffix(" its way") for line in lines}
        assert shown == {
            "swing.jpg": "published by workflow 4",
            "fight.jpg": "rejected: not fit to be shown: Violence",
            "notes.jpg": "rejected: not a picture",
        }
        await page.wait_for("document.querySelector('#gallery img').naturalWidth === 320")
        await page.click("[data-place=clock-museum]")
        await page.wait_for("document.querySelectorAll('#gallery img').length === 0")
        assert page.errors == []
        await page.screenshot(ARTIFACTS / "happy-path.png")


def test_a_photo_that_was_put_survives_a_kill_at_once(tmp_path):
    """Channels, and the event of its creation, end with the process; the object and the tables do not."""

    async def put(url: str) -> dict:
        async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
            return await Client(client).upload(GOOD)

    async def outcome(url: str, asked: dict) -> dict:
        async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
            return await Client(client).outcome(asked)

    with Process.running("--state", str(tmp_path)) as first:
        asked = asyncio.run(put(first.url))
        first.kill()
    with Process.running("--state", str(tmp_path)) as second:
        assert asyncio.run(outcome(second.url, asked))["status"] == "published"


@pytest.mark.aws
async def test_the_same_on_s3_eventbridge_sqs_and_dynamodb(ministack, tmp_path):
    """As two applications that share nothing but the bus and the bucket; the length of what is put is signed."""
    place = {"region": ministack.region, "endpoint_url": ministack.url}
    real = surroundings("aws", tmp_path, **place, rekognition=True)
    async with real as here, surroundings("aws", tmp_path, **place) as there:
        assert isinstance(here.judge, RekognitionJudge)
        front = Front(here.transport, here.front, here.urls)
        workflow = Workflow(there.transport, there.objects, there.tables)
        assert front_routes(front, here.origin)
        assert workflow_routes(workflow)
        async with running(*front.services, *workflow.services), httpx.AsyncClient(trust_env=False) as client:
            uploads = {}
            for name, data in {"good": GOOD, "text": b"no picture", "gone": GOOD}.items():
                upload, url = await front.request("alder-park", len(data))
                uploads[name] = upload.photo
                assert (await client.put(url, content=data + b"more")).status_code == 403
                if name == "gone":
                    await front._created(Message(object_created(here.objects.bucket, upload.key, 1)["detail"]))
                else:
                    assert (await client.put(url, content=data)).status_code == 200
            ends = {
                name: [each async for each in front.watch(photo, seconds=60)][-1] for name, photo in uploads.items()
            }
            assert {name: (each.status, each.reason) for name, each in ends.items()} == {
                "good": ("published", None),
                "text": ("rejected", "not a picture"),
                "gone": ("rejected", "the photo is gone"),
            }
            link = (await front.links(ends["good"]))["thumbnail"]
            assert (await client.get(link)).content.startswith(b"\xff\xd8")


@pytest.mark.soak
async def test_fifty_large_photos_at_once_are_published_within_bounded_memory(tmp_path):
    with Process.running("--state", str(tmp_path)) as service:
        figures = await measure(service, 50)
    assert all(3e6 < size < 9e6 for size in figures.sizes), figures
    assert figures.statuses == ["published"] * 50
    assert figures.most - figures.before < 200 * 1024, figures
