"""The workflow of Happy Path: four versions side by side, on a bus, with a judge and a clock of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from eip import Consumer, Message, running
from eip.codec import load_json
from eip.errors import ConfigurationError, StoreError
from eip.matching import EventPattern
from eip.stores import MemoryStore
from eip.stores.objects import MemoryObjects
from eip.topology import BusSpec, RuleSpec, Topology
from eip.transports.memory import MemoryTransport
from examples.happy_path.model import PLACES, Label, PhotoUploaded
from examples.happy_path.samples import animated_gif, jpeg, photo
from examples.happy_path.steps import Tables
from examples.happy_path.workflow import BUS, Workflow, workflow_topology

PICTURES = {
    "good": jpeg(photo("park", width=1000, height=900)),
    "people": jpeg(photo("person", width=1000, height=900)),
    "violence": jpeg(photo("violence", width=1000, height=900)),
    "small": jpeg(photo("park", width=700, height=900)),
    "animation": animated_gif(2),
    "text": b"no picture",
}


class World:
    """What outlives a workflow's process: channels, objects and tables; with what the bus tells of outcomes."""

    def __init__(self, memory: MemoryTransport) -> None:
        self.memory = memory
        self.objects = MemoryObjects("photos")
        self.tables = Tables(MemoryStore(), MemoryStore(), MemoryStore())
        self.outcomes: dict[str, list[dict]] = {}
        self._changed = asyncio.Condition()

    async def upload(self, name: str, picture: str = "good", place: str = "alder-park") -> None:
        if picture in PICTURES:
            await self.objects.put(f"uploads/{name}", PICTURES[picture])
        event = PhotoUploaded(photo=name, place=place, bucket="photos", key=f"uploads/{name}")
        await self.memory.bus(BUS).send(Message(event, id=name, type="PhotoUploaded", source="happy-path.front"))

    async def note(self, message: Message) -> None:
        self.outcomes.setdefault(message.body["photo"], []).append({"type": message.type, **message.body})
        async with self._changed:
            self._changed.notify_all()

    async def outcome(self, name: str, times: int = 1) -> dict:
        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(lambda: len(self.outcomes.get(name, [])) >= times)
        return self.outcomes[name][-1]

    def workflow(self, **options) -> Workflow:
        return Workflow(self.memory, self.objects, self.tables, **options)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with MemoryTransport() as memory:
        await workflow_topology().apply(memory)
        outcomes = EventPattern({"detail-type": ["PhotoPublished", "PhotoRejected"]})
        await Topology(BusSpec(BUS), RuleSpec(BUS, "test", outcomes)).apply(memory)
        world = World(memory)
        for place in PLACES:
            await world.tables.places.put(place.id, place.model_dump_json().encode())
        async with Consumer(memory.bus(BUS).subscription("test"), world.note):
            yield world


@asynccontextmanager
async def working(workflow: Workflow) -> AsyncIterator[Workflow]:
    async with running(*workflow.services):
        yield workflow


PUBLISHED = None
CASES = {
    1: {
        "good": PUBLISHED,
        "violence": PUBLISHED,
        "small": PUBLISHED,
        "text": "not a picture",
        "gone": "the photo is gone",
    },
    2: {"good": PUBLISHED, "violence": "not fit to be shown: Violence", "small": PUBLISHED, "text": "not a picture"},
    3: {
        "good": PUBLISHED,
        "violence": "not fit to be shown: Violence",
        "small": "too small: 700 x 900, at least 800 pixels each way",
        "animation": "too small: 64 x 64, at least 800 pixels each way",
        "gone": "the photo is gone",
    },
    4: {"good": PUBLISHED, "people": PUBLISHED, "violence": "not fit to be shown: Violence", "text": "not a picture"},
}


@pytest.mark.parametrize("version", CASES)
async def test_each_version_says_what_becomes_of_each_photo(world, version):
    async with working(world.workflow(version=version)):
        for picture in CASES[version]:
            await world.upload(picture, picture)
        for picture, reason in CASES[version].items():
            outcome = await world.outcome(picture)
            assert (outcome.get("reason"), outcome["version"]) == (reason, version), picture
            record = await world.tables.photos.get(picture)
            assert record is not None
            assert load_json(record.value)["status"] == ("published" if reason is None else "rejected")
    sizes = {key for key in world.objects.objects if key.startswith("distribution/")}
    shown = [picture for picture, reason in CASES[version].items() if reason is None]
    assert sizes == {f"distribution/{each}/{size}.jpg" for each in shown for size in ("large", "thumbnail")}


async def test_the_place_decides_in_the_fourth_version(world):
    async with working(world.workflow()):
        for place in ("blue-spoon", "clock-museum", "nowhere"):
            await world.upload(place, "people", place)
        assert (await world.outcome("blue-spoon"))["reason"] == "people are in the photo"
        assert "Person" in [each["name"] for each in (await world.outcome("blue-spoon"))["labels"]]
        assert (await world.outcome("clock-museum"))["reason"] == "no photos of a museum are shown"
        assert (await world.outcome("nowhere"))["reason"] == "there is no place nowhere"
        await world.upload("empty spoon", "good", "blue-spoon")
        assert (await world.outcome("empty spoon"))["type"] == "PhotoPublished"


class Slow:
    """Looks at photos when the test lets it."""

    def __init__(self) -> None:
        self.looks = asyncio.Event()
        self.asked = asyncio.Semaphore(0)

    async def moderate(self, bucket: str, key: str) -> list[Label]:
        self.asked.release()
        await self.looks.wait()
        return [Label(name="Violence", confidence=99.0)] if "bad" in key else []

    async def labels(self, bucket: str, key: str) -> list[Label]:
        return []


async def test_versions_run_side_by_side_and_are_deployed_under_way(world):
    judge = Slow()
    async with working(world.workflow(judge=judge, version=2)) as workflow:
        await world.upload("old small", "small")
        await judge.asked.acquire()
        workflow.deploy(3)
        await world.upload("new small", "small")
        await world.upload("new bad")
        assert (await world.outcome("new small"))["version"] == 3
        await judge.asked.acquire()
        found = {each.id: (each.version, each.status) for each in await workflow.manager.instances()}
        assert found == {"old small": (2, "running"), "new small": (3, "completed"), "new bad": (3, "running")}
        judge.looks.set()
        assert (await world.outcome("new bad"))["reason"] == "not fit to be shown: Violence"
        assert (await world.outcome("old small"))["type"] == "PhotoPublished"
        assert (await world.outcome("old small"))["version"] == 2
        with pytest.raises(ConfigurationError):
            workflow.deploy(5)


async def test_a_photo_goes_on_with_its_version_in_another_process(world):
    judge = Slow()
    async with working(world.workflow(judge=judge, version=1)) as first:
        await first.manager.start("photo", {"photo": "p", "place": "x", "bucket": "photos", "key": "uploads/p"}, id="p")
        await world.outcome("p")  # the first version asks nobody
    async with working(world.workflow(judge=judge, version=2)) as second:
        await world.upload("q", "small")
        await judge.asked.acquire()
        for service in second.services:
            await service.stop(grace=0.1)  # type: ignore[call-arg]
    judge.looks.set()
    async with working(world.workflow(judge=judge, version=4)):
        assert (await world.outcome("q"))["version"] == 2


async def test_what_is_reported_twice_is_made_once_and_its_outcome_told_again(world):
    async with working(world.workflow()) as workflow:
        await world.upload("p")
        first = await world.outcome("p")
        await world.upload("p")
        assert await world.outcome("p", times=2) == first
        assert len(await workflow.manager.instances()) == 1


async def test_a_store_that_fails_now_and_then_rejects_no_photo(world):
    failures = iter([True])
    put = world.objects.put

    async def failing(key: str, data: bytes) -> None:
        if key.startswith("distribution/") and next(failures, False):
            raise StoreError("away")
        await put(key, data)

    world.objects.put = failing
    async with working(world.workflow(version=1)):
        await world.upload("p")
        assert (await world.outcome("p"))["type"] == "PhotoPublished"


async def test_the_versions_and_a_photos_way_are_drawn(world):
    async with working(world.workflow()) as workflow:
        await world.upload("p", "violence")
        await world.outcome("p")
        await workflow.manager.ended("p")
        picture = await workflow.picture("p")
        assert picture is not None
        assert "record_fail_state" in picture
        assert "not fit to be shown: Violence" in picture
        assert await workflow.picture("q") is None
