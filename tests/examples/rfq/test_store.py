"""The state of the booking service on each database: what is told once stays true, whoever writes at the same time."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from eip import clock
from eip.stores import MemoryStore, SqliteStore
from examples.rfq.model import Presence, QuoteRequest, RideRequest
from examples.rfq.store import Answer, Choices, Presences, Rfq, States
from examples.rfq.vicinity import Position
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
async def states(request, tmp_path):
    match request.param:
        case "memory":
            yield States(MemoryStore(), MemoryStore(), MemoryStore())
            return
        case "sqlite":
            url, endpoint = f"sqlite:{tmp_path / 'rfq.sqlite'}", None
        case "dynamodb":
            url, endpoint = f"dynamodb:rfq-{uuid.uuid4().hex}", request.getfixturevalue("moto_server").url
        case database:
            url, endpoint = request.getfixturevalue(f"{database}_server").url, None
    async with stored(url, endpoint) as opened:
        yield opened


def rfq() -> Rfq:
    now = clock.now()
    none: tuple[Answer, ...] = ()
    return Rfq(
        id=uuid.uuid4().hex,
        question=QuoteRequest(ride=RIDE, start=RIDE.origin, to=RIDE.destination),
        created_at=now,
        eta=now + 60,
        addressed=("u1",),
        answers=none,
        late=none,
        completed_at=None,
    )


async def test_of_several_choices_the_first_stands(states):
    choices, asked = Choices(states.rides), rfq()
    assert await choices.of(asked.id) is None
    chosen = await asyncio.gather(*(choices.choose(asked, f"u{number}") for number in range(5)))
    assert len(set(chosen)) == 1
    assert await choices.choose(asked, "another") == await choices.of(asked.id) == chosen[0]


async def test_unicorns_are_where_they_said_last_until_they_fall_silent(states):
    presences, now = Presences(states.rides), clock.now()
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
    async with stored(str(tmp_path / "state")) as states:
        assert isinstance(states.rides, SqliteStore)
        assert await Choices(states.rides).of("r") is None
        await states.rides.put("r", b"")  # a file is made at the first write
    assert (tmp_path / "state").exists()
    assert shown("postgresql://eip:secret@host/db") == "postgresql://host/db"
