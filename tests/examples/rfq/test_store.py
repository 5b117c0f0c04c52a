"""The state of the booking service on each database: what is told once stays true, whoever writes at the same time."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from eip import Message, clock
from eip.stores import MemoryStore, SqliteStore
from examples.rfq.model import Position, Presence, Quote, RideRequest
from examples.rfq.store import Answer, Presences, Rfq, Rfqs
from examples.rfq.wiring import shown, stored

RIDE = RideRequest.model_validate({"from": "A", "to": "B", "customer": "C"})


@pytest.fixture(
    params=[
        "memory",
        "sqlite",
        pytest.param("dynamodb", marks=pytest.mark.aws),
        pytest.param("postgres", marks=pytest.mark.postgres),
        pytest.param("redis", marks=pytest.mark.redis),
    ]
)
async def store(request, tmp_path):
    match request.param:
        case "memory":
            yield MemoryStore()
            return
        case "sqlite":
            url, endpoint = f"sqlite:{tmp_path / 'rfq.sqlite'}", None
        case "dynamodb":
            url, endpoint = f"dynamodb:rfq-{uuid.uuid4().hex}", request.getfixturevalue("moto_server").url
        case database:
            url, endpoint = request.getfixturevalue(f"{database}_server").url, None
    async with stored(url, endpoint) as opened:
        yield opened


@pytest.fixture
def rfq():
    return uuid.uuid4().hex


async def known(rfqs: Rfqs, rfq: str) -> Rfq:
    found = await rfqs.get(rfq)
    assert found is not None
    return found


async def noted(rfqs: Rfqs, rfq: str, given: tuple[Message, Answer]) -> Rfq:
    assert await rfqs.answer(rfq, *given) is True
    return await known(rfqs, rfq)


def answer(unicorn: str, *, price: float | None = 1.0, at: float | None = None) -> tuple[Message, Answer]:
    reply: Message = Message({}, created_at=clock.now() if at is None else at)
    quote = None if price is None else Quote(unicorn=unicorn, name=unicorn, price=price, minutes=1.0)
    return reply, Answer(unicorn=unicorn, quote=quote, sent_at=reply.created_at)


async def test_an_rfq_from_its_creation_to_its_end(store, rfq):
    rfqs, eta = Rfqs(store), clock.now() + 60
    assert await rfqs.get(rfq) is None
    await rfqs.create(rfq, RIDE, eta)
    found = await known(rfqs, rfq)
    assert (found.request, found.eta, found.expected, found.responses, found.completed_at) == (RIDE, eta, None, 0, None)
    await rfqs.asked(rfq, ["u1", "u2"])
    await rfqs.asked(rfq, ["another"])
    assert (await noted(rfqs, rfq, answer("u1"))).responses == 1
    last = await noted(rfqs, rfq, answer("u2", price=None))
    assert (last.addressed, last.responses, last.answered) == (("u1", "u2"), 2, True)
    assert [quote.unicorn for quote in last.quotes] == ["u1"]
    assert await rfqs.complete(rfq, 5.0) is True
    assert await rfqs.complete(rfq, 6.0) is False
    assert await rfqs.answer(rfq, *answer("late")) is False
    done = await known(rfqs, rfq)
    assert (done.completed_at, done.responses) == (5.0, 2)


async def test_a_unicorns_first_answer_counts_and_a_redelivered_one_is_the_same(store, rfq):
    rfqs, now = Rfqs(store), clock.now()
    await rfqs.create(rfq, RIDE, now + 60)
    first = answer("u1", price=10.0, at=now)
    assert (await noted(rfqs, rfq, first)).responses == 1
    assert (await noted(rfqs, rfq, answer("u1", price=1.0, at=now + 1))).responses == 1
    assert (await noted(rfqs, rfq, first)).responses == 1
    assert [quote.price for quote in (await known(rfqs, rfq)).quotes] == [10.0]
    assert await rfqs.answer("unknown", *answer("u1")) is False
    assert await rfqs.get("unknown") is None


async def test_due_to_be_asked_again_until_it_was_and_then_at_its_end(store, rfq):
    rfqs, now = Rfqs(store), clock.now()

    async def due(seconds: float) -> bool:
        return rfq in await rfqs.due(now + seconds)

    await rfqs.create(rfq, RIDE, now + 60)
    assert (await due(1), await due(7)) == (False, True)
    await rfqs.asked(rfq, [])
    assert (await due(7), await due(59), await due(60)) == (False, False, True)
    assert rfq in await rfqs.running()
    await rfqs.complete(rfq, now)
    assert not await due(100)


async def test_what_was_seen_before_the_end_is_in_the_result_whoever_ends_it(store):
    """Answers, readers and three that complete, all at once."""
    rfqs = Rfqs(store)

    async def race(number: int) -> None:
        rfq = uuid.uuid4().hex
        await rfqs.create(rfq, RIDE, clock.now() + 60)
        seen: list[Answer] = []

        async def give(unicorn: int) -> None:
            if await rfqs.answer(rfq, *answer(f"u{unicorn}")):
                seen.extend((await known(rfqs, rfq)).answers)

        async def read() -> None:
            for _ in range(5):
                seen.extend((await known(rfqs, rfq)).answers)

        async def end(turns: int) -> bool:
            for _ in range(turns):
                await rfqs.get(rfq)
            return await rfqs.complete(rfq, float(turns))

        async with asyncio.TaskGroup() as tasks:
            ends = [tasks.create_task(end(number + more)) for more in range(3)]
            for each in range(8):
                tasks.create_task(give(each))
            tasks.create_task(read())
            tasks.create_task(read())
        assert sum(each.result() for each in ends) == 1
        result = await known(rfqs, rfq)
        assert all(each in result.answers for each in seen)
        assert await rfqs.answer(rfq, *answer("late")) is False
        assert (await known(rfqs, rfq)).answers == result.answers

    await asyncio.gather(*(race(number) for number in range(6)))


class Pausing:
    """A store whose user is held up after so many calls, until `go`."""

    def __init__(self, store, calls: int) -> None:
        self._store, self._calls = store, calls
        self.paused, self.go = asyncio.Event(), asyncio.Event()

    def __getattr__(self, name):
        async def call(*arguments, **options):
            answer = await getattr(self._store, name)(*arguments, **options)
            self._calls -= 1
            if self._calls == 0:
                self.paused.set()
                await self.go.wait()
            return answer

        return call


@pytest.mark.parametrize("calls", [1, 2, 3, 4])
async def test_an_answer_noted_while_another_process_completes_counts_or_is_late(calls):
    store = MemoryStore()
    rfqs, slow = Rfqs(store), Pausing(store, calls)
    await rfqs.create("r", RIDE, clock.now() + 60)
    ending = asyncio.create_task(Rfqs(slow).complete("r", 5.0))
    await slow.paused.wait()
    told = (await known(rfqs, "r")).completed_at is None and await rfqs.answer("r", *answer("u1"))
    seen = (await known(rfqs, "r")).answers if told else ()
    slow.go.set()
    await ending
    assert (await known(rfqs, "r")).answers == seen


@pytest.mark.parametrize("calls", [1, 2])
async def test_a_reader_held_up_in_the_end_of_an_rfq_tells_of_no_answer_that_came_too_late(calls):
    store = MemoryStore()
    rfqs, reading, answering = Rfqs(store), Pausing(store, calls), Pausing(store, 1)
    await rfqs.create("r", RIDE, clock.now() + 60)
    reader = asyncio.create_task(Rfqs(reading).get("r"))
    late = asyncio.create_task(Rfqs(answering).answer("r", *answer("u1")))
    await asyncio.gather(reading.paused.wait(), answering.paused.wait())
    await rfqs.complete("r", 5.0)
    answering.go.set()
    assert await late is True  # noted, and not counted
    reading.go.set()
    told = await reader
    assert told is not None
    assert told.answers == (await known(rfqs, "r")).answers == ()


async def test_one_that_died_while_completing_is_completed_by_whoever_looks(store, rfq, monkeypatch):
    rfqs = Rfqs(store)
    await rfqs.create(rfq, RIDE, clock.now())
    await rfqs.answer(rfq, *answer("u1"))

    async def dies(*_):
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(rfqs, "_settle", dies)
        with pytest.raises(RuntimeError):
            await rfqs.complete(rfq, 5.0)
    assert rfq in await rfqs.due(clock.now())
    assert await rfqs.complete(rfq, 6.0) is False
    found = await known(rfqs, rfq)
    assert (found.completed_at, found.responses) == (5.0, 1)
    assert rfq not in await rfqs.due(clock.now())


async def test_unicorns_are_where_they_said_last_until_they_fall_silent(store):
    presences, now = Presences(store), clock.now()
    zone, other = Position(x=0.1, y=0.1), Position(x=0.9, y=0.1)
    unicorn = uuid.uuid4().hex

    async def where() -> str | None:
        found = (await presences.everywhere()).get(unicorn)
        return None if found is None else found.zone

    await presences.note(Presence(unicorn=unicorn, zone=zone.zone, position=zone), now)
    assert await where() == zone.zone
    await presences.note(Presence(unicorn=unicorn, zone=other.zone, left=zone.zone, position=other), now)
    assert await where() == other.zone
    assert unicorn not in {each.unicorn for each in await presences.near(zone.zone)}
    with clock.use_clock(lambda: now + 31):
        assert await where() is None
    await presences.note(Presence(unicorn=unicorn, zone=None, left=other.zone, position=other), now)
    assert await where() is None


async def test_a_path_is_an_sqlite_file_and_passwords_are_not_shown(tmp_path):
    async with stored(str(tmp_path / "state")) as store:
        assert isinstance(store, SqliteStore)
    assert (tmp_path / "state").exists()
    assert shown("postgresql://eip:secret@host/db") == "postgresql://host/db"
