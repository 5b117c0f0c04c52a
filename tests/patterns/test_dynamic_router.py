"""Dynamic router: recipients come and go by what they announce; strangers choose nothing."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import pytest

from eip import Consumer, Message, ReturnAddresses
from eip.errors import (
    AddressRefused,
    ConfigurationError,
    ConnectionLost,
    DecodeError,
    InvalidMessage,
    Reject,
    Retry,
)
from eip.patterns.diagram import diagram
from eip.patterns.dynamic_router import DynamicRouter
from eip.transports.memory import MemoryTransport
from tests.runtime.scripted import Outbox, running, until

RED = Message({"n": 1}, type="Paint", attributes={"colour": "red"})


class Yard:
    """A router and the channels that it can reach."""

    def __init__(self, **options) -> None:
        self.out = {name: Outbox(name) for name in ("a", "b", "c")}
        self.router = DynamicRouter(self.out.__getitem__, **options)

    async def say(self, recipient: str, **fields) -> None:
        await self.router.control(Message({"recipient": recipient, "address": recipient, **fields}))

    @property
    def sent(self) -> dict[str, int]:
        return {name: len(each.sent) for name, each in self.out.items()}


async def test_a_message_goes_to_the_first_of_the_highest_priority_that_wants_it():
    yard = Yard()
    await yard.say("b")
    await yard.say("a", priority=-1)
    await yard.say("c", policy={"colour": ["blue"]}, priority=9)
    await yard.router(RED)
    assert yard.sent == {"a": 0, "b": 1, "c": 0}
    await yard.say("a", pattern={"detail-type": ["Paint"]}, priority=1)
    await yard.router(RED)
    assert yard.sent == {"a": 1, "b": 1, "c": 0}


async def test_or_to_all_that_want_it():
    yard = Yard(to="all")
    await yard.say("a", policy={"colour": ["red"]})
    await yard.say("b", policy={"colour": ["blue"]})
    await yard.say("c")
    await yard.router(RED)
    assert yard.sent == {"a": 1, "b": 0, "c": 1}


async def test_a_recipient_leaves():
    yard = Yard()
    await yard.say("a")
    await yard.say("a", address=None)
    await yard.say("b", address=None)
    with pytest.raises(Retry):
        await yard.router(RED)


async def test_an_announcement_ends_unless_it_is_repeated():
    yard = Yard()
    await yard.say("a", lasts=60)
    await yard.say("b", lasts=60)
    await asyncio.sleep(50)
    await yard.say("b", lasts=60)
    await asyncio.sleep(20)
    assert yard.router.recipients == {"b": "b"}
    await yard.router(RED)
    assert yard.sent == {"a": 0, "b": 1, "c": 0}


@pytest.mark.parametrize(("unwanted", "error"), [("retry", Retry), ("reject", Reject)])
async def test_what_none_wants(unwanted, error):
    with pytest.raises(error):
        await Yard(unwanted=unwanted).router(RED)
    other = Outbox("other")
    await Yard(unwanted=unwanted, otherwise=other).router(RED)
    assert other.sent == [RED]


@pytest.mark.parametrize("options", [{"to": "some"}, {"unwanted": "drop"}, {"capacity": 0}])
def test_options_that_cannot_be_are_refused(options):
    with pytest.raises(ConfigurationError):
        DynamicRouter(lambda address: Outbox(), **options)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"policy": {"colour": "red"}}, Reject),
        ({"policy": {"colour": ["red"]}, "pattern": {"source": ["a"]}}, Reject),
        ({"pattern": {}}, Reject),
        ({"lasts": 0}, DecodeError),
        ({"lasts": 1e9}, DecodeError),
        ({"recipient": ""}, DecodeError),
        ({"address": 3}, DecodeError),
    ],
)
async def test_an_announcement_that_makes_no_sense_changes_nothing(said, error):
    yard = Yard()
    await yard.say("a")
    with pytest.raises(error):
        await yard.say(**{"recipient": "a", **said})
    assert yard.router.recipients == {"a": "a"}


@pytest.mark.parametrize(
    "fields",
    [
        {"pattern": {"detail": {"a": [{"wildcard": "*" + "ab" * 2000 + "*"}, {"wildcard": "x" * 20_000}]}}},
        {"pattern": {"detail": {f"k{n}": {"$or": [{"x": ["1"]}, {"y": ["2"]}]} for n in range(12)}}},
        {"policy": {"colour": [{"suffix": "a" * 40_000}]}},
        {"pattern": {"a.": [{"exists": True}], "a": {"": {"": ["x"]}}}},
        {"priority": 10**400},
        {"lasts": "nan"},
        {"address": "\x00"},
    ],
)
async def test_garbage_that_is_announced_stops_nobody(fields):
    """Fault 9a: whatever a stranger announces is refused or takes bounded work, and the router goes on."""
    yard = Yard()
    await yard.say("a")
    begun = time.process_time()
    with suppress(Reject, DecodeError, KeyError, InvalidMessage):
        await yard.say(**{"recipient": "b", **fields})
    await yard.router(Message({"a": "ab" * 500_000}, attributes={"colour": "a" * 200_000}))
    assert time.process_time() - begun < 2
    assert sum(yard.sent.values()) == 1


@pytest.mark.parametrize("raw", [b"Message at 12:00", b"\xff", b'{"a":'])
async def test_a_body_that_is_no_json_is_routed_by_what_can_be_read(raw):
    """Fault 6: patterns see type and source of it, and no detail."""
    yard = Yard()
    await yard.say("a", pattern={"detail": {"a": [{"exists": True}]}})
    await yard.say("b", pattern={"detail-type": ["Paint"]})
    await yard.router(Message.received(raw, type="Paint", headers={"event-resources": "{"}))
    assert yard.sent == {"a": 0, "b": 1, "c": 0}


async def test_recipients_that_are_costly_leave_others_their_turn():
    """Fault 9a: a thousand of them do not hold the loop for the time that all take."""
    yard, turns = Yard(), 0
    for number in range(100):
        await yard.say(f"r{number:03}", address="a", policy={"colour": ["blue"]})
    await yard.say("z", address="b")

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    await yard.router(RED)
    task.cancel()
    assert (turns >= 10, yard.sent["b"]) == (True, 1)


async def test_the_number_of_recipients_is_bounded():
    yard = Yard(capacity=2)
    for name in ("a", "b", "a"):
        await yard.say(name)
    with pytest.raises(Reject):
        await yard.say("c")


async def test_a_stranger_cannot_have_messages_sent_anywhere():
    async with MemoryTransport() as transport:
        router = DynamicRouter(ReturnAddresses(transport, prefix="workers-").resolve)
        await router.control(Message({"recipient": "w", "address": transport.queue("workers-1").address}))
        with pytest.raises(AddressRefused):
            await router.control(Message({"recipient": "w", "address": transport.queue("payroll").address}))
        await router(RED)
        assert len(transport.queue("workers-1")) == 1


async def test_a_recipient_that_fails_brings_the_message_back_to_all():
    yard = Yard(to="all")
    await yard.say("a")
    await yard.say("b")
    yard.out["a"].refuse.append(ConnectionLost("gone"))
    with pytest.raises(ConnectionLost, match="gone"):
        await yard.router(RED)
    await yard.router(RED)
    assert yard.sent == {"a": 1, "b": 2, "c": 0}


async def test_messages_wait_in_their_queue_for_a_recipient():
    async with MemoryTransport() as transport:
        jobs, control, work = transport.queue("jobs"), transport.topic("control"), transport.queue("workers-1")
        router = DynamicRouter(ReturnAddresses(transport, prefix="workers-").resolve)
        announcements = control.subscription("router")
        await jobs.send(RED)
        async with running(Consumer(jobs, router)) as consumer, running(Consumer(announcements, router.control)):
            await until(lambda: consumer.stats.retried)
            await control.send(Message({"recipient": "w1", "address": work.address}))
            await until(lambda: len(work) == 1)


async def test_a_router_tells_its_recipients():
    yard = Yard(otherwise=Outbox("rest"))
    await yard.say("b")
    assert str(diagram(yard.router)) == "dynamic_router\n  -> b (b)\n  -> rest (otherwise)"
