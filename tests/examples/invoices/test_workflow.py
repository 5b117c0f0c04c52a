"""The workflow of invoices in virtual time: every scan ends where it belongs, whatever fails on the way."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from eip import Message, running
from eip.codec import dump_json
from eip.errors import MessageTooLarge, TransportError
from eip.stores import MemoryStore
from eip.stores.objects import MemoryObjects
from eip.testing import FaultPlan, run
from eip.transports.memory import MemoryTransport
from examples.invoices.analysis import COMPLETED, Location, Notice
from examples.invoices.layouts import LAYOUTS
from examples.invoices.model import MAX_SCAN_BYTES, InvoiceItem
from examples.invoices.recorded import RecordedAnalysis
from examples.invoices.recordings import recorded_blocks, scan
from examples.invoices.steps import Buckets, Tables
from examples.invoices.workflow import Invoices, invoices_topology
from examples.object_events import object_created
from tests.examples.invoices.test_reading import FOUND, NOT_FOUND
from tests.examples.killing import live_and_die

SCANS = {name: scan(name) for name in LAYOUTS}


class Reporting(MemoryObjects):
    """A bucket in memory that reports what is put into it."""

    def __init__(self, name: str, created: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        super().__init__(name)
        self.created, self.puts = created, 0

    async def put(self, key: str, data: bytes) -> None:
        await super().put(key, data)
        self.puts += 1
        etag = hashlib.md5(data).hexdigest()
        await self.created(object_created(self.bucket, key, len(data), etag, f"{self.puts:016X}"))


class World:
    """What outlives the workflow's process: channels, objects and tables."""

    def __init__(self, memory: MemoryTransport) -> None:
        self.memory, self.created = memory, memory.bus("default").put_event
        self.scanned, self.analyses, self.processed = (
            Reporting(name, self._created) for name in ("scanned-invoices", "invoice-analyses", "processed-invoices")
        )
        self.buckets = Buckets(self.scanned, self.analyses, self.processed)
        self.tables = Tables(MemoryStore(), MemoryStore(), MemoryStore(), MemoryStore())
        self.takes: Callable[[str], float] = lambda _: 1.0

    def _takes(self, key: str) -> float:
        return self.takes(key)

    async def _created(self, event: dict[str, Any]) -> None:
        await self.created(event)

    def services(self, transport: Any = None, **options: Any) -> list[Any]:
        transport = transport or self.memory
        self.analysis = RecordedAnalysis(self.scanned, self.tables.jobs, transport.topic(COMPLETED), takes=self._takes)
        self.invoices = Invoices(transport, self.buckets, self.tables, self.analysis, **options)
        return [self.analysis.manager, *self.invoices.services]

    async def scan(self, key: str, data: bytes | None = None) -> str:
        """Put a scan into its bucket; the id of its invoice."""
        await self.scanned.put(key, SCANS[key] if data is None else data)
        text = "\0".join(("scanned-invoices", key, f"{self.scanned.puts:016X}"))
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    async def item(self, invoice: str, seconds: float = 3600) -> InvoiceItem:
        async with asyncio.timeout(seconds):
            while (found := await self.tables.invoices.get(invoice)) is None:
                await asyncio.sleep(1)
        return InvoiceItem.model_validate_json(found.value)

    async def dead(self, queue: str) -> list[Message]:
        async with self.memory.queue(queue).receiver() as receiver:
            return [each.message for each in await receiver.receive(10)]


def within(scenario: Callable[[World], Awaitable[Any]], **options: Any) -> Any:
    """Run a scenario while the workflow runs, in virtual time."""

    async def main() -> Any:
        async with MemoryTransport() as memory:
            world = World(memory)
            await invoices_topology(world.buckets).apply(memory)
            async with running(*world.services(**options)):
                return await scenario(world)

    return run(main())


async def ends(world: World, invoices: dict[str, str]) -> None:
    """Check that every layout has ended where it belongs."""
    for name, invoice in invoices.items():
        item = await world.item(invoice)
        review = await world.tables.reviews.get(invoice)
        approved = name in FOUND
        assert item.status == ("Approved for Payment" if approved else "Pending Review"), item
        assert item.invoice_key == name
        assert (name in world.processed.objects, name in world.scanned.objects) == (approved, not approved)
        assert (review is None) == approved
        if approved:
            payee, amount, due, memo = FOUND[name]
            assert (item.payee_name, str(item.amount), item.memo, item.reason) == (payee, amount, memo, None)
            assert name == "foxtrot-phone" or str(item.due_date) == due
        elif name in {"kilo-freight", "oscar-office", "papa-print", "lima-law", "november-notes"}:
            assert item.reason == "; ".join(NOT_FOUND[name])


def test_every_layout_ends_where_it_belongs():
    async def scenario(world: World) -> None:
        invoices = {name: await world.scan(name) for name in LAYOUTS}
        await ends(world, invoices)
        assert (await world.item(invoices["quebec-blank"])).reason == "the analysis has no blocks"
        assert (await world.item(invoices["romeo-torn"])).reason == ("the analysis failed: the document cannot be read")
        assert len(world.analyses.objects) == len(LAYOUTS) - 1

    within(scenario)


@pytest.mark.parametrize("seed", range(6))
def test_under_faults_and_kills_every_layout_ends_where_it_belongs(seed):
    """The workflow is killed three times; notices, events and acknowledgements are lost or come twice."""
    plan = FaultPlan(seed=seed, duplicates=0.2, reordering=0.3, delays=0.2, lost_acks=0.1, send_failures=0.1)

    async def main() -> None:
        async with MemoryTransport() as memory:
            world = World(memory)
            await invoices_topology(world.buckets).apply(memory)
            invoices = {name: await world.scan(name) for name in LAYOUTS}
            await live_and_die(plan, memory, world.services, seconds=12)
            await ends(world, invoices)

    run(main())


def test_a_scan_that_is_reported_twice_and_told_twice_is_one_invoice():
    async def scenario(world: World) -> None:
        invoice = await world.scan("alpha-card")
        event = object_created("scanned-invoices", "alpha-card", 1, sequencer=f"{world.scanned.puts:016X}")
        await world.created(event)
        await world.item(invoice)
        location = Location(bucket="scanned-invoices", key="alpha-card")
        for status in ("SUCCEEDED", "FAILED"):
            await world.memory.topic(COMPLETED).send(
                Message(Notice(job=invoice, status=status, tag=invoice, location=location))
            )
        await world.created(event)
        await asyncio.sleep(60)
        assert (await world.item(invoice)).status == "Approved for Payment"
        assert world.analyses.puts == world.processed.puts == 1

    within(scenario)


def test_a_job_that_tells_nothing_is_asked_for_and_one_that_hangs_is_for_a_person():
    async def scenario(world: World) -> None:
        lost, hanging = {"lost"}, {"hanging"}
        world.takes = lambda key: 1e6 if key in hanging else 1.0
        send = world.analysis._topic.send

        async def losing(*messages: Message) -> None:
            await send(*(each for each in messages if each.body.location.key not in lost))

        world.analysis._topic.send = losing
        invoices = {key: await world.scan(key, SCANS["alpha-card"]) for key in ("lost", "hanging")}
        assert (await world.item(invoices["lost"])).status == "Approved for Payment"
        item = await world.item(invoices["hanging"])
        assert (item.status, item.reason) == ("Pending Review", "the analysis did not answer")

    within(scenario)


HUGE = b"\x89PNG" + bytes(MAX_SCAN_BYTES)


def test_what_is_no_scan_is_for_a_person_with_the_reason():
    async def scenario(world: World) -> None:
        hostile = {
            "<script>alert(1)</script>.png": SCANS["alpha-card"],
            "../../etc/pass wd\n": b"text",
            "x" * 1000: b"",
        }
        invoices = {key: await world.scan(key, data) for key, data in hostile.items()}
        huge = await world.scan("huge", HUGE)
        gone = await world.scan("gone", SCANS["alpha-card"])
        await world.scanned.delete("scanned-invoices", "gone")
        reasons = [(await world.item(each)).reason for each in (*invoices.values(), huge, gone)]
        assert reasons == [
            None,
            *["the analysis failed: the document is neither PDF, PNG, JPEG nor TIFF"] * 2,
            "the scan is larger than 10 MB: 10 MB",
            "the analysis failed: the document is gone",
        ]
        assert [each in world.scanned.objects for each in hostile] == [False, True, True]

    within(scenario)


def test_a_scan_that_went_or_changed_after_its_analysis_is_not_paid():
    async def scenario(world: World) -> None:
        gone, changed = await world.scan("alpha-card"), await world.scan("bravo-electric")
        put = world.analyses.put

        async def swapping(key: str, data: bytes) -> None:
            world.scanned.objects.pop("alpha-card", None)
            world.scanned.objects["bravo-electric"] = b"another"
            await put(key, data)

        world.analyses.put = swapping
        items = [await world.item(each) for each in (gone, changed)]
        assert [each.status for each in items] == ["Pending Review"] * 2
        assert [each.reason for each in items] == ["the scan is gone", "another scan has taken its place"]
        assert (items[0].payee_name, str(items[0].amount)) == ("Alpha Card Services", "1284.17")
        assert world.scanned.objects["bravo-electric"] == b"another"

    within(scenario)


def test_an_analysis_that_went_or_is_none_is_for_a_person():
    async def scenario(world: World) -> None:
        invoices = {name: await world.scan(name) for name in ("alpha-card", "bravo-electric", "delta-cable")}
        bad = {invoices["alpha-card"]: None, invoices["bravo-electric"]: b"[" * 100_000, invoices["delta-cable"]: b"{}"}
        put = world.analyses.put

        async def spoiling(key: str, data: bytes) -> None:
            wrong = bad[key.removesuffix(".json")]
            await put(key, data if wrong is None else wrong)
            if wrong is None:
                del world.analyses.objects[key]

        world.analyses.put = spoiling
        reasons = [(await world.item(each)).reason for each in invoices.values()]
        assert reasons == ["the analysis is gone", "the analysis is not JSON", "the analysis has no blocks"]

    within(scenario)


def test_an_analysis_that_somebody_put_there_is_read_for_the_scan_of_its_name():
    async def scenario(world: World) -> None:
        world.scanned.objects["by hand.pdf"] = b"%PDF"
        for key in ("by hand.pdf", "nothing.pdf"):
            await world.analyses.put(f"{key}.json", dump_json({"Blocks": recorded_blocks("echo-gas")}))
        await asyncio.sleep(60)
        ids = [each.id.removesuffix("-reading") for each in await world.invoices.manager.instances("reading")]
        items = {item.invoice_key: item for item in [await world.item(each) for each in ids]}
        assert (items["by hand.pdf"].status, items["by hand.pdf"].payee_name) == ("Approved for Payment", "Echo Gas")
        assert (items["nothing.pdf"].status, items["nothing.pdf"].reason) == ("Pending Review", "the scan is gone")
        assert world.processed.objects["by hand.pdf"] == b"%PDF"

    within(scenario)


def test_notices_and_events_of_strangers_are_dead_letters_and_stop_nobody():
    async def scenario(world: World) -> None:
        location = Location(bucket="b", key="k")
        topic = world.memory.topic(COMPLETED)
        strangers: list[Any] = [
            Notice(job="j", status="SUCCEEDED", tag="unknown", location=location),
            Notice(job="j", status="SUCCEEDED", location=location),
            {"Status": "SUCCEEDED"},
            "text",
            {"JobId": 1, "JobTag": "x" * 5000},
        ]
        await topic.send(*(Message(each) for each in strangers))
        await world.created(
            {**object_created("scanned-invoices", "k", 1), "detail": {"bucket": {"name": "scanned-invoices"}}}
        )
        invoice = await world.scan("alpha-card")
        assert (await world.item(invoice)).status == "Approved for Payment"
        await asyncio.sleep(60)
        assert len(await world.dead(f"{COMPLETED}-invoices-dead")) == len(strangers)
        assert len(await world.dead("default-scanned-invoices-dead")) == 1

    within(scenario)


def test_a_store_that_is_away_for_minutes_sends_nothing_to_review():
    async def scenario(world: World) -> None:
        get, until = world.analyses.get, asyncio.get_running_loop().time() + 180

        async def failing(bucket: str, key: str, *, limit: int) -> bytes | None:
            if asyncio.get_running_loop().time() < until:
                raise TransportError("away")
            return await get(bucket, key, limit=limit)

        world.analyses.get = failing
        assert (await world.item(await world.scan("alpha-card"))).status == "Approved for Payment"

    within(scenario)


def test_an_analysis_that_is_too_large_is_never_read():
    async def scenario(world: World) -> None:
        async def large(bucket: str, key: str, *, limit: int) -> bytes | None:
            raise MessageTooLarge(100 * 2**20, limit)

        world.analyses.get = large
        item = await world.item(await world.scan("alpha-card"))
        assert item.reason == "the analysis is too large: 100 MB"

    within(scenario)
