"""Processes, schedules, requests, conversations and cost, without HTTP."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import pytest

from eip import App, Message, QueueSpec, Reject, Topology
from eip.console import Console, Redaction, Subject
from eip.console._conversation import conversation, latest_conversations
from eip.console._processes import gatherings, process, process_svg, processes, scheduled
from eip.console._service_operations import ServiceOperations
from eip.console.audit import AuditLog
from eip.console.redaction import MASK
from eip.errors import ConfigurationError, StoreError
from eip.patterns import MessageScheduler, Process, ProcessManager, ScatterGather
from eip.stores import MemoryStore
from eip.telemetry.meter import Metered, UsageMeter
from eip.transports.memory import MemoryTransport
from tests.console.shop import ORDERS, make_shop, order

HOSTILE = "<script>alert(1)</script>"
REDACTION = Redaction()


async def reserve(state: dict[str, Any]) -> dict[str, Any]:
    return {**state, "reserved": True}


async def release(state: dict[str, Any]) -> dict[str, Any]:
    if state.get("stuck"):
        raise Reject("password=hunter2 was wrong")
    return state


async def pay(state: dict[str, Any]) -> dict[str, Any]:
    if state.get("poor"):
        raise Reject(HOSTILE)
    await asyncio.sleep(state.get("wait", 0))
    return state


def trip() -> Process[dict[str, Any]]:
    return Process("trip").step(reserve, compensate=release).step(pay, timeout=3600)


class Office(App):
    """An application with each service that the console shows."""

    def __init__(self) -> None:
        topology = Topology(QueueSpec("invoices"), QueueSpec("replies"))
        super().__init__(MemoryTransport(), name="office", topology=topology)
        self.manager = self.add(ProcessManager(MemoryStore(), [trip()], grace=0))
        self.schedules = MemoryStore()
        self.scheduler = self.service(
            lambda: MessageScheduler(self.schedules, {"invoices": self.transport.queue("invoices")})
        )
        self.rides = self.service(
            lambda: ScatterGather(self.transport.topic("rides"), self.transport.queue("replies"), grace=0)
        )


@asynccontextmanager
async def office():
    app = Office()
    async with app:
        console = Console(app)
        yield app, console.subject, ServiceOperations(console.subject, console.operations.audit), console
        await console.aclose()


async def test_processes_are_shown_retried_and_cancelled():
    async with office() as (app, subject, operations, console):
        redaction, manager = console.view.redaction, app.manager
        await manager.start("trip", {"wait": 1000, "card_number": "4111"}, id="slow")
        await manager.start("trip", {"poor": True, "stuck": True}, id=HOSTILE)
        await manager.start("trip", {}, id="done")
        await manager.ended(HOSTILE)
        await manager.ended("done")
        await asyncio.sleep(1)
        ((listed,),) = [await processes(subject, REDACTION)]
        rows = {each["id"]: each for each in listed["instances"]}
        name = listed["manager"]
        assert {each: rows[each]["status"] for each in rows} == {
            "slow": "running",
            HOSTILE: "failed",
            "done": "completed",
        }
        assert (rows["slow"]["step"], rows["slow"]["can_cancel"], rows[HOSTILE]["can_retry"]) == ("pay", True, True)
        (failed,) = await processes(subject, REDACTION, status="failed", process="trip")
        assert [each["id"] for each in failed["instances"]] == [HOSTILE]
        shown = await process(subject, redaction, name, "slow")
        assert MASK in shown["state"]
        assert "4111" not in shown["state"]
        shown = await process(subject, redaction, name, HOSTILE)
        assert [(each["step"], each["undo"]) for each in shown["history"]] == [
            ("reserve", False),
            ("pay", False),
            ("reserve", True),
        ]
        assert "hunter2" not in str(shown)
        picture = await process_svg(subject, REDACTION, name, HOSTILE)
        assert "<script" not in picture
        assert "hunter2" not in picture + str(listed)
        assert picture.startswith("<svg")
        assert not await operations.retry_process(name, "done", by="ada")
        assert await operations.retry_process(name, HOSTILE, by="ada")
        assert await operations.cancel_process(name, "slow", "too slow", by="ada")
        assert not await operations.cancel_process(name, "done", "x", by="ada")
        assert (await manager.get("slow")).cancelled == "too slow"
        for unknown in (operations.retry_process("none", "x", by="ada"), process(subject, redaction, name, "none")):
            with pytest.raises(LookupError):
                await unknown
        with pytest.raises(ConfigurationError, match="status must be one of"):
            await processes(subject, REDACTION, status="odd")
        records = console.operations.audit.latest()
        assert ("cancel process", "slow", True) in {
            (each["action"], each["process_id"], each.get("changed")) for each in records
        }


async def test_scheduled_messages_are_shown_cancelled_and_sent_now():
    async with office() as (app, subject, operations, console):
        scheduler, queue = app.scheduler(), app.transport.queue("invoices")
        bill = Message({"n": 1, "password": "x"}, type="Bill")
        await scheduler.send(bill, to="invoices", delay=1000, key="later")
        await scheduler.send(bill, to="invoices", delay=2000, key="never")
        await scheduler.send(bill, to="invoices", interval=5000, key="often")
        (shown,) = await scheduled(subject, console.view.redaction)
        name = shown["scheduler"]
        assert [each["key"] for each in shown["messages"]] == ["later", "never", "often"]
        assert MASK in shown["messages"][0]["body"]
        assert await operations.cancel_scheduled(name, "never", by="ada")
        assert not await operations.cancel_scheduled(name, "never", by="ada")
        assert await operations.send_scheduled_now(name, "later", by="ada")
        await asyncio.sleep(1)
        assert [each.type for each in queue.messages()] == ["Bill"]
        with pytest.raises(ConfigurationError, match="keeps its timetable"):
            await operations.send_scheduled_now(name, "often", by="ada")


async def test_requests_in_flight_are_shown_with_who_is_missing():
    async with office() as (app, subject, _, __):
        rides = app.rides()
        asked = rides.request("Berlin", deadline=100, expected=["a", "b"])
        await asked.start()
        reply = asked.request.reply("mine", source="a")
        await app.transport.queue("replies").send(reply)
        await asyncio.sleep(1)
        (shown,) = await gatherings(subject)
        (request,) = shown["requests"]
        assert (shown["in_flight"], shown["taken"]) == (1, 1)
        assert (request["id"], request["replies"], request["expected"], request["missing"]) == (asked.id, 1, 2, ["b"])


async def test_a_request_that_cannot_be_read_hides_no_others(monkeypatch):
    async with office() as (app, subject, _, __):
        rides = app.rides()
        keys = [await rides.request(to, deadline=100, expected=["a"]).start() for to in ("Berlin", "Bonn")]
        get = rides.get

        async def read(key: str) -> Any:
            if key == keys[0]:
                raise StoreError("its record is another program's", transient=False)
            return await get(key)

        monkeypatch.setattr(rides, "get", read)
        (shown,) = await gatherings(subject)
        assert [each["id"] for each in shown["requests"]] == keys[1:]


async def test_a_store_that_fails_is_told_where_its_service_is_shown(monkeypatch):
    async def fail(*_: object, **__: object) -> None:
        raise StoreError("the disk is full")

    async with office() as (app, subject, _, console):
        with monkeypatch.context() as broken:
            broken.setattr(app.manager, "instances", fail)
            broken.setattr(app.scheduler(), "pending", fail)
            broken.setattr(app.rides(), "open_requests", fail)
            found = [
                await processes(subject, REDACTION),
                await scheduled(subject, console.view.redaction),
                await gatherings(subject),
            ]
        assert [each[0]["error"] for each in found] == ["StoreError: the disk is full"] * 3


async def test_a_conversation_is_a_sequence_of_what_was_sent_handled_and_failed():
    app = make_shop()
    async with app:
        console = Console(app)
        view = console.view
        await app.sender(ORDERS).send(order(5, id="five"), order(3, id="three"))
        await asyncio.sleep(1)
        await view.letters.look("bills-dead")
        found = conversation(console.subject, view.letters, view.redaction, "five")
        assert [(each["from"], each["to"], each["kind"]) for each in found["steps"]] == [
            ("shop", "orders", "sent"),
            ("orders", "price", "handled"),
            ("price", "bills", "sent"),
            ("bills", "bill", "handled"),
            ("bill", "bills-dead", "dead_letter"),
        ]
        assert found["steps"][3]["error"] == "Reject: customer 'acme' does not pay"
        assert found["participants"] == ["shop", "orders", "price", "bills", "bill", "bills-dead"]
        latest = {each["id"]: (each["steps"], each["failed"]) for each in latest_conversations(console.subject)}
        assert latest == {"five": (4, 1), "three": (2, 1)}
        assert conversation(console.subject, view.letters, view.redaction, "none")["steps"] == []
        await console.aclose()


async def test_cost_is_shown_so_far_and_a_day():
    app = make_shop()
    async with app:
        view = Console(app).view
        meter = UsageMeter()
        assert isinstance(app.transport, Metered)
        app.transport.meter = meter
        await view.refresh()
        assert view.costs.as_dict()["per_day"] is None
        meter.record("sqs", "orders", "SendMessage", messages=10, units=1_000_000)
        await asyncio.sleep(3600)
        await view.refresh()
        cost = view.costs.as_dict()
        assert cost["total"] > 0
        assert cost["per_day"] == pytest.approx(24 * cost["total"])
        assert cost["channels"][0]["channel"] == "orders"
        meter.record("pigeons", "loft", "fly")
        assert view.costs.as_dict()["unpriced"] == ["pigeons"]
        app.transport.meter = None
        assert view.costs.as_dict() == {"metered": False}


async def test_a_program_without_an_application_describes_itself():
    async with MemoryTransport() as transport:
        subject = Subject(name="mine", transport=transport)
        console = Console(subject)
        await console.view.refresh()
        assert console.view.state()["parts"] == [{"name": "transport", "ok": True}]
        assert await processes(subject, REDACTION) == await gatherings(subject) == []
        assert latest_conversations(subject) == []


async def test_the_audit_log_shows_the_latest_and_no_more_than_it_keeps():
    log = AuditLog()
    for number in range(600):
        await log.record(action="x", by="ada", number=number, text="y" * 10_000)
    assert [each["number"] for each in log.latest(2)] == [599, 598]
    assert len(log.latest(10_000)) == 500
    assert len(log.latest(1)[0]["text"]) < 2100
