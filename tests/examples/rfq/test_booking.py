"""Booking and unicorns in virtual time: completion, lateness, resumption, moving."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partialmethod
from pathlib import Path

import pytest

from eip import Consumer, Message, clock
from eip.console import Console
from eip.console._jobs import ended
from eip.console._processes import gatherings
from eip.console._selection import Selection
from eip.errors import StoreError
from eip.stores import MemoryStore, SqliteStore
from eip.transports.memory import MemoryTransport
from examples.rfq.booking import RideBooking
from examples.rfq.channels import MemoryChannels
from examples.rfq.herd import Herd
from examples.rfq.model import Presence, Quote, RideRequest
from examples.rfq.store import Rfq, States
from examples.rfq.unicorns import Unicorns
from examples.rfq.vicinity import Position, all_zones, located, zones_near
from examples.rfq.wiring import stored
from tests.runtime.scripted import until

RIDE = RideRequest.model_validate({"from": "A", "to": "B", "customer": "C"})


@asynccontextmanager
async def two(*, seconds: float = 60.0):
    """Two booking services on the same channels and state, not running yet."""
    async with MemoryTransport() as transport:
        channels, states = MemoryChannels(transport), States(MemoryStore(), MemoryStore(), MemoryStore())
        await channels.prepare()
        yield RideBooking(channels, states, rfq_seconds=seconds), RideBooking(channels, states), channels


@asynccontextmanager
async def booked(path: Path | str = ":memory:", *, seconds: float = 300.0):
    """A booking service and the channels to play unicorn on."""
    async with MemoryTransport() as transport:
        channels = MemoryChannels(transport)
        await channels.prepare()
        async with stored(str(path)) as states, asyncio.TaskGroup() as tasks:
            booking = RideBooking(channels, states, rfq_seconds=seconds)
            tasks.create_task(booking.run())
            await booking.ready.wait()
            try:
                yield booking, channels
            finally:
                await booking.stop()


async def present(booking: RideBooking, channels: MemoryChannels, *unicorns: str) -> None:
    position = located("A")
    for unicorn in unicorns:
        await channels.presence.send(Message(Presence(unicorn=unicorn, zone=position.zone, position=position)))
    await there(booking, len(unicorns))


async def there(booking: RideBooking, count: int) -> None:
    """Returns once so many unicorns are known."""
    while len(await booking.unicorns()) != count:
        await asyncio.sleep(0.1)


async def answered(booking: RideBooking, rfq: Rfq, responses: int) -> Rfq:
    """The RFQ, once it has so many answers."""
    async for changed in booking.changes(rfq.id):
        if changed.responses == responses:
            return changed
    raise AssertionError(f"complete before it had {responses} responses")


def quote(rfq: Rfq, unicorn: str, **envelope) -> Message:
    body = Quote(unicorn=unicorn, name=unicorn, price=1.0, minutes=1.0)
    return Message(
        envelope.pop("body", body), **{"type": "Quote", "source": unicorn, "correlation_id": rfq.id, **envelope}
    )


async def complete(booking: RideBooking, rfq: Rfq) -> Rfq:
    async for changed in booking.changes(rfq.id):
        last = changed
    return last


async def test_complete_once_every_addressed_unicorn_has_answered():
    async with booked() as (booking, channels):
        await present(booking, channels, "u1", "u2")
        rfq = await booking.request(RIDE)
        await channels.replies.send(quote(rfq, "u1"), quote(rfq, "u2", type="Declined"))
        done = await complete(booking, rfq)
        assert (done.responses, done.expected) == (2, 2)
        assert done.completed_at is not None
        assert done.completed_at < done.eta
        assert [each.unicorn for each in done.quotes] == ["u1"]


async def test_complete_at_the_deadline_whatever_came():
    async with booked(seconds=60) as (booking, channels):
        await present(booking, channels, "u1", "u2")
        rfq = await booking.request(RIDE)
        await channels.replies.send(quote(rfq, "u1"))
        done = await complete(booking, rfq)
        assert done.completed_at == pytest.approx(rfq.eta, abs=0.1)
        await channels.replies.send(quote(rfq, "u2"))
        await until(lambda: booking.late == 1)
        found = await booking.get(rfq.id)
        assert found is not None
        assert len(found.quotes) == 1


async def test_with_nobody_there_it_ends_at_the_deadline():
    async with booked(seconds=60) as (booking, _):
        done = await complete(booking, await booking.request(RIDE))
        assert (done.responses, done.expected) == (0, None)


async def test_answers_are_counted_once_and_strangers_do_no_harm():
    async with booked() as (booking, channels):
        await present(booking, channels, "u1", "u2")
        rfq = await booking.request(RIDE)
        first = quote(rfq, "u1")
        await channels.replies.send(first, first, quote(rfq, "x", correlation_id="unknown"))
        await channels.replies.send(quote(rfq, "u2"))
        assert (await complete(booking, rfq)).responses == 2


async def test_a_new_process_asks_again_and_keeps_what_came(tmp_path):
    state = tmp_path / "rfq.sqlite"
    async with booked(state) as (booking, channels):
        rfq = await booking.request(RIDE)
        await channels.replies.send(quote(rfq, "u1"))
        await answered(booking, rfq, 1)
    async with MemoryTransport() as transport:
        channels = MemoryChannels(transport)
        asked = []

        async def hear(request: Message) -> None:
            asked.append(request.correlation_id)

        listening = Consumer(await channels.enter(located("A").zone, "u2"), hear)
        async with stored(str(state)) as states, asyncio.TaskGroup() as tasks:
            booking = RideBooking(channels, states)
            tasks.create_task(listening.run())
            tasks.create_task(booking.run())
            await until(lambda: asked == [rfq.id])
            await channels.replies.send(quote(rfq, "u1"), quote(rfq, "u2"))
            assert (await answered(booking, rfq, 2)).eta == rfq.eta
            await booking.stop()
            await listening.stop()


async def test_a_herd_answers_and_moves_between_zones():
    async with booked(seconds=30) as (booking, channels):
        unicorns = Unicorns(channels)
        herd = Herd(unicorns, size=80, seed=1)
        async with asyncio.TaskGroup() as tasks:
            for service in (unicorns, herd):
                tasks.create_task(service.run())
            await there(booking, 80)
            before = await booking.unicorns()
            done = await complete(booking, await booking.request(RIDE))
            assert done.responses > 0
            await asyncio.sleep(600)
            moved = sum(before[name].zone != now.zone for name, now in (await booking.unicorns()).items())
            assert moved > 5
            assert (await complete(booking, await booking.request(RIDE))).responses > 0
            await asyncio.gather(herd.stop(), unicorns.stop())
        await there(booking, 0)


def test_places_have_a_position():
    assert located("A") == located("a")
    assert located("A") != located("B")
    assert Position(x=0.99, y=0).zone == "2-0"


async def test_an_answer_that_is_no_quote_counts_for_nobody():
    async with booked(seconds=60) as (booking, channels):
        await present(booking, channels, "u1", "u2")
        rfq = await booking.request(RIDE)
        await channels.replies.send(
            quote(rfq, "u1", body={"price": "none"}),
            quote(rfq, "u2", body=Quote(unicorn="u1", name="forged", price=0.01, minutes=1.0)),
            quote(rfq, "u2", source=None),
        )
        done = await complete(booking, rfq)
        assert (done.responses, done.quotes, done.silent) == (0, [], ["u1", "u2"])


@pytest.mark.parametrize(
    ("radius", "zones"),
    [
        (0.0, ["1-1"]),
        (0.04, ["1-1", "0-1"]),
        (0.2, ["1-1", "0-0", "0-1", "0-2", "1-0", "1-2"]),
        (1.0, ["1-1", *(zone for zone in all_zones() if zone != "1-1")]),
    ],
)
def test_zones_that_begin_within_the_radius_are_near(radius, zones):
    assert zones_near(Position(x=0.37, y=0.5), radius) == zones


def test_on_the_border_of_zones_only_one_is_its_own():
    assert zones_near(Position(x=1 / 3, y=1 / 3), 0) == ["1-1"]


async def test_neighbouring_zones_are_asked_and_each_unicorn_is_counted_once():
    """A unicorn between two zones is in both for a moment; it is asked in both, and counts once."""
    start, beyond = Position(x=0.34, y=0.5), Position(x=0.3, y=0.5)
    ride = RIDE.model_copy(update={"start_position": start, "radius": 0.1})
    async with booked() as (booking, channels):
        heard: list[str] = []

        async def hear(question: Message) -> None:
            heard.append(question.correlation_id or "")

        ears = [Consumer(await channels.enter(zone, "between"), hear) for zone in ("1-1", "0-1")]
        for name, place in [("home", start), ("between", start), ("between", beyond), ("near", beyond)]:
            await booking._presences.note(at(name, place), clock.now())
        async with asyncio.TaskGroup() as tasks:
            for ear in ears:
                tasks.create_task(ear.run())
            rfq = await booking.request(ride)
            assert rfq.addressed == ("between", "home", "near")
            await until(lambda: heard == [rfq.id] * 2)
            await channels.replies.send(*(quote(rfq, name) for name in rfq.addressed))
            done = await complete(booking, rfq)
            assert (done.responses, done.expected) == (3, 3)
            assert done.completed_at is not None
            assert done.completed_at < done.eta
            await asyncio.gather(*(ear.stop() for ear in ears))


def at(unicorn: str, position: Position) -> Presence:
    return Presence(unicorn=unicorn, zone=position.zone, position=position)


QUEUES = ("replies", "presence", "callbacks")
DEAD = "rfq-presence-dead"


async def test_the_console_shows_what_is_going_on_and_redrives_what_failed():
    async with booked() as (booking, channels):
        console = Console(booking.subject())
        await present(booking, channels, "u1", "u2")
        rfq = await booking.request(RIDE)
        await channels.replies.send(quote(rfq, "u1"))
        await channels.presence.send(Message({"zone": "none"}, id="bad", correlation_id="c"))
        await answered(booking, rfq, 1)
        while not (letters := (await console.view.letters.look(DEAD)).letters):
            await asyncio.sleep(0.1)
        await console.view.refresh()
        nodes = console.view.state()["nodes"]
        assert [(name, nodes[f"queue rfq-{name}"]["total"], nodes[f"queue rfq-{name}"]["dead"]) for name in QUEUES] == [
            ("replies", 0, 0),
            ("presence", 0, 1),
            ("callbacks", 0, 0),
        ]
        (gatherer,) = await gatherings(console.subject)
        assert gatherer["taken"] == 1
        assert [(each["id"], each["replies"], each["expected"]) for each in gatherer["requests"]] == [(rfq.id, 1, 2)]
        assert [(each.source, each.id, each.correlation_id) for each in letters] == [("rfq-presence", "bad", "c")]
        assert "Field required" in letters[0].reason
        for key, moved in (("other", 0), (letters[0].key, 1)):
            job = await console.operations.redrive(DEAD, Selection(keys=frozenset((key,))), by="ada")
            assert (await ended(job, within=30)).moved == moved
        while not (await console.view.letters.look(DEAD)).letters:  # it fails again
            await asyncio.sleep(0.1)


async def test_of_several_processes_each_knows_all_and_one_that_dies_is_replaced():
    """On the embedded transport they are tasks; that questions end with a process is another test's matter."""
    async with two() as (first, second, channels), asyncio.TaskGroup() as tasks:
        dying, _ = tasks.create_task(first.run()), tasks.create_task(second.run())
        await asyncio.gather(first.ready.wait(), second.ready.wait())
        await present(first, channels, "u1", "u2")
        rfq = await first.request(RIDE)
        await channels.replies.send(quote(rfq, "u1"))
        assert (await answered(second, rfq, 1)).addressed == ("u1", "u2")
        dying.cancel()
        done = await complete(second, rfq)
        assert done.completed_at == pytest.approx(rfq.eta, abs=1.1)
        assert [each.unicorn for each in done.quotes] == ["u1"]
        await second.stop()


async def test_a_store_that_fails_for_a_while_stops_nobody(monkeypatch):
    async with booked(seconds=30) as (booking, channels):
        await present(booking, channels, "u1", "u2")
        rfq, other = await booking.request(RIDE), await booking.request(RIDE)
        failing = True

        async def call(store, *arguments, work, **options):
            if failing:
                raise StoreError("the database is down")
            return await work(store, *arguments, **options)

        for name in ("get", "put", "put_part", "parts", "due"):
            monkeypatch.setattr(SqliteStore, name, partialmethod(call, work=getattr(SqliteStore, name)))
        await channels.replies.send(quote(rfq, "u1"), quote(rfq, "u2"))
        with pytest.raises(StoreError):
            await booking.get(rfq.id)
        await asyncio.sleep(3)
        failing = False
        assert (await complete(booking, rfq)).responses == 2
        assert (await complete(booking, other)).completed_at == pytest.approx(other.eta, abs=1.1)


async def test_a_customer_may_have_a_reply_queue_of_its_own():
    async with MemoryTransport() as transport:
        channels = MemoryChannels(transport)
        await channels.prepare()
        states = States(MemoryStore(), MemoryStore(), MemoryStore())
        booking = RideBooking(channels, states, own_replies=["C"])
        asked = await channels.enter(located("A").zone, "u1")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(booking.run())
            await booking.ready.wait()
            await present(booking, channels, "u1")
            rfq = await booking.request(RIDE)
            await booking.request(RIDE.model_copy(update={"customer": "D"}))
            async with asked.receiver() as receiver:
                own, shared = await receiver.receive(2)
            assert own.message.return_address != shared.message.return_address
            assert own.message.return_address is not None
            await channels.return_addresses.resolve(own.message.return_address).send(quote(rfq, "u1"))
            assert (await complete(booking, rfq)).responses == 1
            name = own.message.return_address.partition("/")[2]
            assert transport.knows("queue", name)
            await asyncio.sleep(700)  # over, and idle for long enough
            assert not transport.knows("queue", name)
            await booking.stop()
