"""The parts of Happy Path: pictures of strangers, signed URLs, the object store, and what the two applications hear."""

from __future__ import annotations

import asyncio
import random
from io import BytesIO

import httpx
import pytest
from starlette.applications import Starlette

from eip import Message, clock
from eip.errors import Reject
from eip.stores import MemoryStore
from eip.stores.objects import FileObjects, MemoryObjects
from eip.transports.memory import MemoryTransport
from examples.happy_path.front import Front, front_topology
from examples.happy_path.images import Pictures, render, shape_of
from examples.happy_path.judges import PixelJudge
from examples.happy_path.model import PhotoUploaded
from examples.happy_path.object_store import ObjectServer
from examples.happy_path.samples import animated_gif, jpeg, photo, png_bomb
from examples.happy_path.uploads import EXPIRES_S, OwnUrls
from examples.happy_path.workflow import BUS, workflow_topology
from examples.object_events import object_created
from examples.rfq.problems import HANDLERS

# Pictures.


def test_a_picture_is_made_much_smaller():
    data = jpeg(photo(width=2400, height=1600), quality=97)
    large, thumbnail = (render(data, {"thumbnail": 320, "large": 1280})[name] for name in ("large", "thumbnail"))
    assert ((large.width, large.height), (thumbnail.width, thumbnail.height)) == ((1280, 853), (320, 213))
    assert len(large.data) + len(thumbnail.data) < 0.07 * len(data)
    assert shape_of(thumbnail.data) == ("JPEG", 320, 213)


def test_a_camera_that_was_held_upright_shows_upright():
    picture = photo(width=400, height=200)
    exif = picture.getexif()
    exif[0x0112] = 6  # turned by 90 degrees
    file = BytesIO()
    picture.save(file, "JPEG", exif=exif)
    made = render(file.getvalue(), {"large": 100})["large"]
    assert (made.width, made.height) == (50, 100)


WRONG = {
    "empty": (b"", "not a picture"),
    "text": (b"hello" * 1000, "not a picture"),
    "html": (b"<html><img src=x>", "not a picture"),
    "zip": (b"PK\x03\x04" + bytes(100), "not a picture"),
    "half a header": (b"\x89PNG\r\n\x1a\n\0\0", "not a picture"),
    "bomb": (png_bomb(60_000, 60_000), "too many pixels"),
    "smaller bomb": (png_bomb(9_000, 9_000), "too many pixels"),
    "rows are missing": (png_bomb(900, 30_000), "damaged"),
    "cut off": (jpeg(photo(width=900, height=900))[:20_000], "damaged"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_picture_is_rejected_with_the_reason(kind):
    data, reason = WRONG[kind]
    with pytest.raises(Reject, match=reason):
        render(data, {"large": 1280})


def test_whatever_is_damaged_in_a_picture_it_is_shown_or_rejected():
    picture, chance = photo(width=120, height=90), random.Random(1)
    exif = picture.getexif()
    exif[0x0112] = 6
    files = [animated_gif(3)]
    for kind in ("JPEG", "PNG", "WEBP"):
        file = BytesIO()
        picture.save(file, kind, exif=exif)
        files.append(file.getvalue())
    outcomes: set[str] = set()
    for _ in range(400):
        data = bytearray(chance.choice(files))
        for _ in range(chance.randint(1, 12)):
            data[chance.randrange(min(len(data), chance.choice((60, 400, 10_000))))] = chance.randrange(256)
        try:
            outcomes.update(render(bytes(data), {"large": 64}))
        except Reject as error:
            outcomes.add(str(error).split(":")[0])
    assert outcomes == {"large", "not a picture", "the picture is damaged", "too many pixels"}


def test_of_an_animation_the_first_frame_is_taken():
    assert shape_of(animated_gif(5)) == ("GIF", 64, 64)
    assert render(animated_gif(5), {"large": 32})["large"].width == 32


async def test_a_gif_of_100_megabytes_is_not_read(tmp_path):
    objects = FileObjects(tmp_path, "photos")
    await objects.put("huge", animated_gif(2))
    with (tmp_path / "huge").open("r+b") as file:
        file.truncate(100 * 2**20)
    with pytest.raises(Reject, match="larger than 10 MB: 100 MB"):
        await Pictures(objects).use("photos", "huge", shape_of)


async def test_an_object_that_is_gone_is_rejected():
    with pytest.raises(Reject, match="gone"):
        await Pictures(MemoryObjects("photos")).use("photos", "nothing", shape_of)


async def test_fifty_photos_at_once_are_two_at_a_time_in_memory():
    class Counting(MemoryObjects):
        held = most = 0

        async def get(self, bucket: str, key: str, *, limit: int) -> bytes | None:
            self.held += 1
            self.most = max(self.most, self.held)
            return await super().get(bucket, key, limit=limit)

    objects = Counting("photos")
    await objects.put("p", jpeg(photo(width=100, height=100)))

    def work(data: bytes) -> None:
        shape_of(data)
        objects.held -= 1

    pictures = Pictures(objects)
    await asyncio.gather(*(pictures.use("photos", "p", work) for _ in range(50)))
    assert (objects.most, objects.held) == (2, 0)


@pytest.mark.parametrize(
    ("kind", "unsafe", "label"),
    [("park", [], "Plant"), ("sky", [], "Sky"), ("person", [], "Person"), ("violence", ["Violence"], "")],
)
async def test_the_stand_in_judges_pixels_always_alike(kind, unsafe, label):
    objects = MemoryObjects("photos")
    await objects.put("p", jpeg(photo(kind, width=400, height=300)))
    judge = PixelJudge(Pictures(objects))
    for _ in range(2):
        assert [each.name for each in await judge.moderate("photos", "p")] == unsafe
        labels = [each.name for each in await judge.labels("photos", "p")]
        assert (label in [*labels, ""], "Person" in labels) == (True, kind == "person")


# Signed URLs, and the object store behind them.


async def test_a_signed_url_is_for_one_object_one_method_one_length_and_five_minutes():
    urls = OwnUrls(b"secret")
    url = await urls.put("uploads/a/1", 7)
    assert urls.allows("PUT", url, "uploads/a/1") == 7
    assert urls.allows("GET", url, "uploads/a/1") is None
    assert urls.allows("PUT", url, "uploads/a/2") is None
    assert urls.allows("PUT", url.replace("length=7", "length=8"), "uploads/a/1") is None
    assert urls.allows("PUT", url.replace("expires=1", "expires=2"), "uploads/a/1") is None
    assert urls.allows("PUT", url + "&signature=x", "uploads/a/1") is None
    assert urls.allows("PUT", "/objects/uploads/a/1", "uploads/a/1") is None
    assert urls.allows("PUT", url.replace("expires=", "expires=x"), "uploads/a/1") is None
    assert OwnUrls(b"other").allows("PUT", url, "uploads/a/1") is None
    later = clock.now() + EXPIRES_S + 1
    with clock.use_clock(lambda: later):
        assert urls.allows("PUT", url, "uploads/a/1") is None


async def test_the_object_store_takes_what_was_signed_and_reports_it(tmp_path):
    events: list[dict] = []

    async def created(event: dict) -> None:
        assert (tmp_path / "uploads/a/1").read_bytes() == b"picture"
        events.append(event)

    urls = OwnUrls(b"secret")
    server = ObjectServer(tmp_path, urls, created)
    app = Starlette(routes=server.routes, exception_handlers=HANDLERS)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://store") as client:
        url = await urls.put("uploads/a/1", 7)
        assert (await client.put(url, content=b"too long for this")).status_code == 403
        assert (await client.put("/objects/uploads/a/1", content=b"picture")).status_code == 403
        assert events == []
        assert not list(tmp_path.rglob("*"))
        answer = await client.put(url, content=b"picture")
        assert (answer.status_code, answer.headers["etag"]) == (200, '"5456fc54c74a297ce994998c2873b370"')
        assert (await client.get(await urls.get("uploads/a/1"))).content == b"picture"
        assert (await client.get(await urls.get("uploads/a/2"))).status_code == 404
        assert (await client.get(url)).status_code == 403
    assert [each["detail"]["object"]["size"] for each in events] == [7]
    await server.objects.report("uploads/")
    assert [each["detail"]["object"]["key"] for each in events] == ["uploads/a/1"] * 2


# The front.


async def a_front(memory: MemoryTransport) -> Front:
    await front_topology("photos").apply(memory)
    await workflow_topology().apply(memory)
    return Front(memory, MemoryStore(), OwnUrls(b"secret"))


async def test_objects_that_nobody_asked_for_are_dead_letters():
    async with MemoryTransport() as memory:
        front = await a_front(memory)
        upload, _ = await front.request("alder-park", 7)
        for key in ("uploads/alder-park/unknown", "uploads/lake-garden/" + upload.photo, "uploads/x", "uploads/a/b/c"):
            with pytest.raises(Reject):
                await front._created(Message(object_created("photos", key, 7)["detail"]))
        with pytest.raises(Reject):
            await front._created(Message({"bucket": "no event"}))
        found = await front.get(upload.photo)
        assert found is not None
        assert found.status == "requested"


async def test_an_object_that_is_reported_twice_is_one_photo():
    async with MemoryTransport() as memory:
        front = await a_front(memory)
        upload, _ = await front.request("alder-park", 7)
        event = Message(object_created("photos", upload.key, 7)["detail"])
        await front._created(event)
        await front._created(event)
        async with memory.bus(BUS).subscription("workflow").receiver() as receiver:
            sent = [each.message for each in await receiver.receive(10)]
        assert [each.id for each in sent] == [upload.photo] * 2
        body = PhotoUploaded.model_validate(sent[0].body)
        assert (body.place, body.key, sent[0].body["placeId"]) == ("alder-park", upload.key, "alder-park")
