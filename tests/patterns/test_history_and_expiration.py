"""Message history and message expiration."""

from __future__ import annotations

import asyncio

import pytest

from eip import Consumer, Message
from eip.errors import ConfigurationError, ConnectionLost
from eip.patterns.expiration import Expiring, expiration
from eip.patterns.message_history import Hop, history_of, message_history
from eip.patterns.pipeline import around, pipeline
from eip.runtime.handlers import messages_of
from eip.testing import EPOCH
from eip.transports.memory import MemoryTransport
from tests.runtime.scripted import Outbox, running, until


async def derive(message: Message) -> Message:
    return message.derive("made")


async def forward(message: Message) -> Message:
    return message


def names(message: Message) -> list[str]:
    return [hop.name for hop in history_of(message)]


async def test_what_is_made_of_a_message_carries_its_history():
    handle = pipeline(around(message_history("a")), derive, around(message_history("b")), forward)
    (made,) = messages_of(await handle(Message(1)))
    assert history_of(made) == (Hop("a", EPOCH), Hop("b", EPOCH))


async def test_the_handler_sees_its_own_hop_and_other_headers_stay():
    seen = []

    async def see(message: Message) -> None:
        seen.append(message)

    assert not await message_history("a")(see)(Message(1, headers={"h": "1"}))
    assert names(seen[0]) == ["a"]
    assert seen[0].headers["h"] == "1"


@pytest.mark.parametrize("text", ["", "no json", "{}", "3", "[1]", '[["a"]]', '[["a", "b"]]', '[["a", null]]'])
async def test_an_unreadable_history_is_none(text):
    message = Message(1, headers={"history": text})
    assert history_of(message) == ()
    (made,) = messages_of(await message_history("a")(forward)(message))
    assert names(made) == ["a"]


async def test_only_the_latest_hops_are_kept():
    message = Message(1)
    for number in range(150):
        (message,) = messages_of(await message_history(str(number))(forward)(message))
    assert names(message) == [str(number) for number in range(50, 150)]


async def test_a_message_that_goes_in_circles_is_rejected():
    dead = Outbox()
    async with MemoryTransport() as transport:
        queue = transport.queue("round")
        handler = message_history("a", max_visits=3)(forward)
        async with running(Consumer(queue, handler, output=queue, dead_letters=dead)) as consumer:
            await queue.send(Message(1))
            await until(lambda: dead.sent)
        assert consumer.stats.handled == 3


async def test_a_redelivery_is_no_visit():
    failures = [ConnectionLost("gone")] * 3

    async def fragile(message: Message) -> Message:
        if failures:
            raise failures.pop()
        return message

    out = Outbox()
    async with MemoryTransport() as transport:
        queue = transport.queue("in")
        await queue.send(Message(1))
        async with running(Consumer(queue, message_history("a", max_visits=1)(fragile), output=out)):
            await until(lambda: out.sent)
    assert names(out.sent[0]) == ["a"]


def test_visits_are_at_least_one():
    with pytest.raises(ConfigurationError):
        message_history("a", max_visits=0)


async def test_an_expiring_sender_gives_an_expiry_to_those_that_have_none():
    out = Outbox()
    await Expiring(out, after=60).send(Message(1), Message(2, expires_at=EPOCH + 5))
    assert [each.expires_at for each in out.sent] == [EPOCH + 60, EPOCH + 5]


@pytest.mark.parametrize(
    ("message", "options", "handled"),
    [
        (Message(1, created_at=0), {}, True),
        (Message(1, expires_at=EPOCH + 5), {}, True),
        (Message(1, expires_at=EPOCH), {}, False),
        (Message(1, expires_at=EPOCH + 5), {"margin": 5}, False),
        (Message(1, created_at=EPOCH - 61), {"max_age": 60}, False),
        (Message(1, created_at=EPOCH - 59), {"max_age": 60}, True),
        (Message(1, created_at=EPOCH - 59), {"max_age": 60, "margin": 2}, False),
        (Message(1, created_at=EPOCH, expires_at=EPOCH + 900), {"max_age": 60, "margin": 100}, False),
    ],
)
async def test_only_messages_in_time_are_handled(message, options, handled):
    late = Outbox()
    assert bool(await expiration(on_expired=late, **options)(forward)(message)) is handled
    assert late.sent == ([] if handled else [message.replace(expires_at=None)])


async def test_the_work_on_a_message_ends_when_it_expires():
    late, done = Outbox(), []

    async def slow(message: Message) -> None:
        await asyncio.sleep(10)
        done.append(message)

    message = Message(1, expires_at=EPOCH + 5)
    await expiration(on_expired=late, cancel=True)(slow)(message)
    assert (done, len(late.sent)) == ([], 1)
    await expiration(on_expired=late, cancel=True)(slow)(message.replace(expires_at=EPOCH + 60))
    assert (len(done), len(late.sent)) == (1, 1)


async def test_a_timeout_of_the_handler_itself_is_its_failure():
    async def fail(message: Message) -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        await expiration(cancel=True)(fail)(Message(1, expires_at=EPOCH + 5))


@pytest.mark.parametrize("options", [{"max_age": 0}, {"margin": -1}])
def test_times_that_cannot_be_are_refused(options):
    with pytest.raises(ConfigurationError):
        expiration(**options)
    with pytest.raises(ConfigurationError):
        Expiring(Outbox(), after=0)


async def test_a_late_message_is_acknowledged_only_once_it_is_kept_elsewhere():
    late = Outbox()
    late.refuse.append(ConnectionLost("gone"))
    async with MemoryTransport() as transport:
        queue = transport.queue("in")
        await queue.send(Message(1, expires_at=EPOCH))
        consumer = Consumer(queue, expiration(on_expired=late)(forward), on_expired="handle")
        async with running(consumer):
            await until(lambda: len(queue) == 0)
        assert consumer.stats.retried == 1
    assert [each.body for each in late.sent] == [1]


async def test_an_expiry_is_given_with_a_delay():
    """Fault 40: ``Expiring(queue).send(message, delay=5)`` was a TypeError."""
    async with MemoryTransport() as transport:
        queue = transport.queue("q")
        await Expiring(queue, after=60).send(Message(1), delay=5)
        async with queue.receiver() as receiver:
            assert not await receiver.receive(1, wait=4)
            (delivery,) = await receiver.receive(1, wait=2)
            assert delivery.message.expires_at is not None
