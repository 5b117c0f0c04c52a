"""Unicorns that are signed in, in virtual time: asked, moving, late, abandoned, asked too much."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager

import pytest

from eip import Message
from eip.errors import SendError, StateError
from examples.rfq.model import QuoteRequest, RideRequest, UnicornAnswer
from examples.rfq.questions import AnsweredAlready, NotAsked, TooLate
from examples.rfq.sessions import Full
from examples.rfq.unicorns import Unicorns
from examples.rfq.vicinity import Position
from tests.examples.rfq.test_booking import booked, complete, there

HOME, BEYOND = Position(x=0.34, y=0.5), Position(x=0.3, y=0.5)
RIDE = RideRequest.model_validate({"from": "A", "to": "B", "customer": "C", "from-position": HOME})


@asynccontextmanager
async def managed(**options):
    """A booking service, unicorn management, and the channels between them."""
    async with booked() as (booking, channels), asyncio.TaskGroup() as tasks:
        unicorns = Unicorns(channels, **options)
        tasks.create_task(unicorns.run())
        await unicorns._ready.wait()
        try:
            yield booking, unicorns, channels
        finally:
            await unicorns.stop()


async def signed_in(booking, unicorns, *names, position=HOME):
    sessions = [await unicorns.sign_in(name, position, name.title()) for name in names]
    await there(booking, len(unicorns))
    return sessions


def quoted(rfq, price=7.5):
    return UnicornAnswer(rfq=rfq.id, price=price, minutes=3)


def declined(rfq):
    return UnicornAnswer(rfq=rfq.id, declined="too tired")


async def heard(session, wanted, *, after=""):
    """The events until there is one that is wanted, that one included."""
    found = []
    async with aclosing(session.changes(after)) as changes:
        async for change in changes:
            if change is not None:
                found.append(change)
                if wanted(change):
                    return found
    raise AssertionError(f"only {found}")


def shows(rfq, state):
    return lambda event: event.kind == "rfq" and (event.data["rfq"], event.data["state"]) == (rfq.id, state)


async def asked(session, rfq):
    return (await heard(session, shows(rfq, "open")))[-1].data


async def test_a_unicorn_is_asked_and_its_quote_counts_once():
    async with managed() as (booking, unicorns, _):
        luna, binky = await signed_in(booking, unicorns, "luna", "binky")
        rfq = await booking.request(RIDE)
        question = await asked(luna, rfq)
        assert {question[name] for name in ("from", "to", "customer")} == {"A", "B", "C"}
        assert question["start"] == {"x": 0.34, "y": 0.5}
        await asyncio.gather(*(luna.answer(quoted(rfq)) for _ in range(3)))
        with pytest.raises(AnsweredAlready):
            await luna.answer(quoted(rfq, price=1.0))
        assert (await heard(luna, shows(rfq, "quoted")))[-1].data["price"] == 7.5
        await asked(binky, rfq)
        await binky.answer(declined(rfq))
        done = await complete(booking, rfq)
        assert (done.responses, done.expected, booking.late) == (2, 2, 0)
        assert [(each.unicorn, each.name, each.price) for each in done.quotes] == [("luna", "Luna", 7.5)]
        assert done.completed_at is not None
        assert done.completed_at < done.eta


async def test_an_answer_that_is_late_is_refused_at_once_and_the_customer_sees_that():
    async with managed() as (booking, unicorns, _):
        (luna,) = await signed_in(booking, unicorns, "luna")
        rfq = await booking.request(RIDE.model_copy(update={"duration": 5.0}))
        await asked(luna, rfq)
        await complete(booking, rfq)
        await heard(luna, shows(rfq, "over"))
        for _ in range(2):
            with pytest.raises(TooLate):
                await luna.answer(quoted(rfq))
        while not booking.late:
            await asyncio.sleep(0.1)
        found = await booking.get(rfq.id)
        assert found is not None
        assert (found.quotes, [each.unicorn for each in found.late], booking.late) == ([], ["luna"], 1)
        with pytest.raises(NotAsked):
            await luna.answer(UnicornAnswer(rfq="unknown", declined="no"))


async def test_a_unicorn_that_moves_on_still_answers_and_is_asked_where_it_is():
    async with managed() as (booking, unicorns, _):
        (luna,) = await signed_in(booking, unicorns, "luna")
        before = await booking.request(RIDE)
        await asked(luna, before)
        await luna.move(BEYOND)
        assert (luna.place()["zone"], luna.place()["listening"]) == ("0-1", False)
        while not luna.listening or [each.zone for each in (await booking.unicorns()).values()] != ["0-1"]:
            await asyncio.sleep(0.1)
        there_now = await booking.request(RIDE.model_copy(update={"start_position": BEYOND}))
        await asked(luna, there_now)
        for rfq in (there_now, before):
            await luna.answer(quoted(rfq))
            assert (await complete(booking, rfq)).responses == 1
        elsewhere = await booking.request(RIDE)
        assert elsewhere.addressed == ()


async def test_a_unicorn_that_hears_a_question_in_two_zones_is_asked_once():
    async with managed() as (booking, unicorns, channels):
        (luna,) = await signed_in(booking, unicorns, "luna")
        rfq = await booking.request(RIDE)
        await asked(luna, rfq)
        found = await booking._quotes.get(rfq.id)
        assert found is not None
        assert found.request is not None
        await channels.zone("1-1").send(found.request)
        await asyncio.sleep(1)
        events = await heard(luna, shows(rfq, "open"))
        assert [event.kind for event in events] == ["place", "rfq"]
        await luna.answer(quoted(rfq))
        assert (await complete(booking, rfq)).responses == 1
        assert booking.late == 0


async def test_one_that_comes_back_gets_what_changed_since_its_last_event():
    async with managed() as (booking, unicorns, _):
        luna, _ = await signed_in(booking, unicorns, "luna", "binky")
        first, second = await booking.request(RIDE), await booking.request(RIDE)
        events = await heard(luna, shows(second, "open"))
        last = events[-1].id
        third = await booking.request(RIDE)
        await asked(luna, third)
        await luna.answer(declined(first))
        since = await heard(luna, shows(first, "declined"), after=last)
        assert [(event.data["rfq"], event.data["state"]) for event in since] == [
            (third.id, "open"),
            (first.id, "declined"),
        ]
        for strange in ("", "0-1", "deadbeef-999", last.partition("-")[0] + "-x", "\u0663"):
            again = await heard(luna, shows(first, "declined"), after=strange)
            assert [event.kind for event in again] == ["place", "rfq", "rfq", "rfq"]


async def test_what_a_unicorn_does_not_answer_is_bounded():
    """More RFQs than it may have open, then more that are closed than are shown."""
    async with managed() as (booking, unicorns, _):
        (luna,) = await signed_in(booking, unicorns, "luna")
        following = asyncio.create_task(heard(luna, lambda event: event.kind == "signed-out"))
        rides = [RIDE.model_copy(update={"duration": 60.0 + number / 10}) for number in range(300)]
        rfqs = [await booking.request(ride) for ride in rides]
        await asyncio.sleep(5)
        assert len(luna._board._questions) == 200
        await complete(booking, rfqs[-1])
        await asyncio.sleep(1)
        board = luna._board
        assert len(board._questions) == len(board._closed) == 100
        assert len(board._changes) == 101
        assert not board._timers
        rfq = await booking.request(RIDE)
        await asked(luna, rfq)
        await luna.leave()
        await following


async def test_one_without_an_app_is_signed_out_after_a_while():
    async with managed() as (booking, unicorns, _):
        luna, binky = await signed_in(booking, unicorns, "luna", "binky")
        following = asyncio.create_task(heard(binky, lambda event: event.kind == "signed-out"))
        events = await heard(luna, lambda event: event.kind == "place")
        await there(booking, 1)
        assert unicorns.find("luna") is None
        assert luna.ended.is_set()
        assert (await heard(luna, lambda event: event.kind == "signed-out", after=events[-1].id))[-1].data == {
            "reason": "abandoned"
        }
        await asyncio.sleep(300)
        assert unicorns.find("binky") is binky
        await binky.leave()
        assert (await following)[-1].data == {"reason": "left"}
        await there(booking, 0)


async def test_what_was_not_answered_comes_again_to_one_that_left_and_comes_back():
    async with managed() as (booking, unicorns, _):
        (luna,) = await signed_in(booking, unicorns, "luna")
        rfq = await booking.request(RIDE)
        await asked(luna, rfq)
        leaving = asyncio.create_task(luna.leave())
        await asyncio.sleep(0)
        (again,) = await signed_in(booking, unicorns, "luna")
        await leaving
        assert again is not luna
        await asked(again, rfq)
        await again.answer(quoted(rfq))
        assert (await complete(booking, rfq)).responses == 1


async def test_only_so_many_may_be_there():
    async with managed(most=2) as (booking, unicorns, _):
        luna, _ = await signed_in(booking, unicorns, "luna", "binky")
        with pytest.raises(Full):
            await unicorns.sign_in("pegasus", HOME)
        assert await unicorns.sign_in("luna", BEYOND) is luna
        streams = [luna.changes() for _ in range(4)]
        for stream in streams:
            await anext(stream)
        with pytest.raises(Full):
            luna.changes()
        await streams[0].aclose()
        await anext(luna.changes())
        for stream in streams:
            await stream.aclose()
    with pytest.raises(StateError):
        await unicorns.sign_in("pegasus", HOME)


async def test_channels_that_fail_for_a_while_lose_neither_the_unicorn_nor_its_questions(monkeypatch):
    async with managed() as (booking, unicorns, channels):
        (luna,) = await signed_in(booking, unicorns, "luna")
        rfq = await booking.request(RIDE)
        await asked(luna, rfq)
        failing = True
        send = type(channels.presence).send

        async def fails(queue, *messages, **options):
            if failing:
                raise SendError("the broker is away")
            return await send(queue, *messages, **options)

        monkeypatch.setattr(type(channels.presence), "send", fails)
        with pytest.raises(SendError):
            await luna.answer(quoted(rfq))
        await asyncio.sleep(30)
        assert not luna.listening
        failing = False
        while not luna.listening:
            await asyncio.sleep(0.1)
        await luna.answer(quoted(rfq))
        assert (await complete(booking, rfq)).responses == 1


@pytest.mark.parametrize("address", [None, "memory:queue/loot"])
async def test_a_question_that_may_not_be_answered_is_not_asked(address):
    async with managed() as (booking, unicorns, channels):
        (luna,) = await signed_in(booking, unicorns, "luna")
        question = QuoteRequest(ride=RIDE, start=HOME, to=HOME)
        await channels.zone("1-1").send(Message(question, correlation_id="hostile", return_address=address))
        rfq = await booking.request(RIDE)
        events = await heard(luna, shows(rfq, "open"))
        assert [event.data["rfq"] for event in events if event.kind == "rfq"] == [rfq.id]
        while not sum((await channels.unreadable.depth() or {}).values()):
            await asyncio.sleep(0.1)


async def test_many_moves_are_few_messages(monkeypatch):
    async with managed() as (booking, unicorns, channels):
        (luna,) = await signed_in(booking, unicorns, "luna")
        says = 0
        send = type(channels.presence).send

        async def counted(queue, *messages, **options):
            nonlocal says
            says += 1
            return await send(queue, *messages, **options)

        monkeypatch.setattr(type(channels.presence), "send", counted)
        for number in range(1000):
            await luna.move(HOME if number % 2 else BEYOND)
            await asyncio.sleep(0.001)
        await asyncio.sleep(1)
        assert says < 15
        assert luna.listening


async def test_it_is_ready_while_the_channels_of_its_unicorns_answer():
    async with managed() as (booking, unicorns, _):
        (luna,) = await signed_in(booking, unicorns, "luna")
        assert await unicorns.missing() == []
        consumer = luna._consumers[-1][0]
        consumer._health.failed("the broker is away")
        assert await unicorns.missing() == ["a unicorn's channel (the broker is away)"]
        consumer._health.succeeded()
        assert await unicorns.missing() == []


async def test_what_is_left_of_unicorns_that_are_gone_for_good_is_removed():
    """Each visitor has queues of its own; they are kept as long as what is in them may be answered."""
    async with managed() as (booking, unicorns, channels):
        luna, _ = await signed_in(booking, unicorns, "luna", "binky")
        await luna.leave()
        await asyncio.sleep(1800)
        await unicorns.sign_in("luna", HOME)
        await asyncio.sleep(1900)
        assert [name for name in channels.transport._channels if "luna" in name]
        await unicorns.sign_in("ixion", HOME)
        await asyncio.sleep(3700)
        await unicorns.sign_in("twinkle", HOME)
        await asyncio.sleep(60)
        left = [name for name in channels.transport._channels if name.startswith("queue/rfq-zone")]
        assert {name.rpartition("-")[2] for name in left} == {"twinkle"}
        assert list(unicorns._gone) == ["twinkle"]
