"""The order of work: receive, handle, send results, acknowledge; and what becomes of failures."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Any

import pytest
from pydantic import BaseModel

from eip import Backoff, Consumer, Message, ReturnAddresses, current_delivery
from eip.errors import (
    AddressRefused,
    ConfigurationError,
    ConnectionLost,
    DecodeError,
    MessageTooLarge,
    Park,
    Reject,
    Retry,
    SendError,
)
from eip.runtime._backlog import Backlog
from eip.transports._capabilities import SQS

from .scripted import Outbox, Scripted, running, until

NOW = Backoff(base=0)


class Order(BaseModel):
    number: int


def message(number: int = 1, **envelope: Any) -> Message[Any]:
    return Message({"number": number}, id=f"m{number}", **envelope)


async def test_results_are_sent_before_the_message_is_acknowledged():
    source, out = Scripted(message()), Outbox()
    seen = []

    async def send(*messages: Message[Any]) -> None:
        await asyncio.sleep(1)
        seen.append(list(source.acked))

    out.send = send

    async def handle(received: Message) -> Message:
        return received.derive("done")

    async with running(Consumer(source, handle, output=out)):
        await until(lambda: source.acked)
    assert seen == [[]]


async def test_a_send_that_fails_leaves_the_message_unacknowledged_and_it_comes_again():
    source, out = Scripted(message()), Outbox()
    out.refuse.append(SendError("no"))

    async def handle(received: Message) -> Message:
        return received.derive("done")

    async with running(Consumer(source, handle, output=out)) as consumer:
        await until(lambda: source.acked)
    assert [ids for ids, _ in source.nacked] == [["m1"]]
    assert len(out.sent) == 1
    assert (consumer.stats.retried, consumer.stats.handled) == (1, 1)


async def test_results_carry_the_trace_of_the_message_unless_they_have_their_own():
    source, out = Scripted(message(traceparent="00-a-b-01")), Outbox()

    async def handle(_: Message) -> list[Message]:
        return [Message(1), Message(2, traceparent="own")]

    async with running(Consumer(source, handle, output=out)):
        await until(lambda: source.acked)
    assert [each.traceparent for each in out.sent] == ["00-a-b-01", "own"]


class Directory:
    """The part of a transport that return addresses need."""

    def __init__(self, **senders: Outbox) -> None:
        self.senders = senders

    def resolve(self, address: str) -> Outbox:
        return self.senders[address]

    def queue_addresses(self, prefix: str) -> str:
        return f"{prefix}*"


async def test_results_go_to_the_return_address_where_there_is_one_otherwise_to_the_output():
    asked, out = Outbox(), Outbox()
    replies = ReturnAddresses(Directory(asked=asked), prefix="ask")  # type: ignore[arg-type]
    source = Scripted(message(1, return_address="asked"), message(2))

    async def handle(received: Message) -> Message:
        return received.reply("yes")

    async with running(Consumer(source, handle, output=out, replies=replies)):
        await until(lambda: len(source.acked_ids) == 2)
    assert [each.correlation_id for each in asked.sent] == ["m1"]
    assert [each.correlation_id for each in out.sent] == ["m2"]


async def test_a_refused_return_address_is_dead_lettered_at_once():
    dead = Outbox("dead")
    replies = ReturnAddresses(Directory(), prefix="ask")  # type: ignore[arg-type]
    source = Scripted(message(1, return_address="elsewhere"))

    async def handle(received: Message) -> Message:
        return received.reply("yes")

    async with running(Consumer(source, handle, replies=replies, dead_letters=dead)):
        await until(lambda: source.acked)
    assert dead.sent[0].headers["dead-letter-reason"].startswith(AddressRefused.__name__)


async def test_results_with_nowhere_to_go_are_a_failure_that_says_what_to_do():
    """Fault 28: a fault of the program is not tried again."""
    source, dead = Scripted(message()), Outbox("dead")

    async def handle(received):
        return received.reply("yes")

    async with running(Consumer(source, handle, dead_letters=dead)):
        await until(lambda: dead.sent)
    assert source.nacked == []
    assert "give it output=... or replies=..." in dead.sent[0].headers["dead-letter-reason"]


async def test_no_more_than_concurrency_are_handled_or_fetched_at_once():
    source = Scripted(*(message(number) for number in range(50)))
    busy = most = 0

    async def handle(_: Message) -> None:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(1)
        busy -= 1

    async with running(Consumer(source, handle, concurrency=4)) as consumer:
        await asyncio.sleep(0.5)
        assert (len(source.waiting), consumer.stats.in_flight) == (46, 4)
        await until(lambda: len(source.acked_ids) == 50)
    assert most == 4
    assert max(source.asked) == 4


async def test_a_slow_message_does_not_hold_up_the_polling_for_others():
    source = Scripted(message(0), *(message(number) for number in range(1, 30)))

    async def handle(received: Message) -> None:
        await asyncio.sleep(1000 if received.id == "m0" else 1)

    async with running(Consumer(source, handle, concurrency=2, max_processing=5000)):
        await asyncio.sleep(100)
        assert len(source.acked_ids) == 29


async def test_several_polls_when_idle_also_after_a_failure_and_only_as_many_as_there_is_room_for():
    source = Scripted()

    async def handle(_: Message) -> None:
        await asyncio.sleep(0.01)

    async with running(Consumer(source, handle, concurrency=100, polls=3)):
        await asyncio.sleep(60)
        assert source.polling == 3
        source.put(*(message(number) for number in range(50)))
        await until(lambda: len(source.acked_ids) == 50)
        await asyncio.sleep(60)
        assert source.polling == 3
        source.receive_errors.extend(ConnectionLost("away") for _ in range(5))
        await asyncio.sleep(200)
        assert source.polling == 3
    small = Scripted()
    async with running(Consumer(small, handle, concurrency=10, polls=3)):
        await asyncio.sleep(60)
        assert small.polling == 1
    with pytest.raises(ConfigurationError, match="polls must be >= 1, got 0"):
        Consumer(source, handle, polls=0)


async def test_one_poll_when_idle_and_more_under_load():
    source = Scripted()

    async def handle(_: Message) -> None:
        await asyncio.sleep(0.01)

    async with running(Consumer(source, handle, concurrency=100)):
        await asyncio.sleep(120)
        assert source.most_polls == 1
        source.put(*(message(number) for number in range(500)))
        await until(lambda: len(source.acked_ids) == 500)
        assert source.most_polls > 3
        await asyncio.sleep(120)
        assert source.polling == 1


@pytest.mark.parametrize(("concurrency", "most"), [(10, 0.6), (50, 0.15), (200, 0.12)])
async def test_slots_that_become_free_one_by_one_are_asked_for_together(concurrency, most):
    """A receive costs the same for one message as for ten. Each free slot had its own: 0.95 a message."""
    source = Scripted(*(message(number) for number in range(500)))
    dice = random.Random(1)

    async def handle(_: Message) -> None:
        await asyncio.sleep(dice.uniform(0.1, 0.3))

    began = asyncio.get_running_loop().time()
    async with running(Consumer(source, handle, concurrency=concurrency)):
        await until(lambda: len(source.acked_ids) == 500)
        assert len(source.asked) <= most * 500 + 20
        took = asyncio.get_running_loop().time() - began
    assert took < 1.2 * 500 * 0.2 / concurrency + 1


async def test_a_free_slot_waits_a_moment_for_others_and_not_where_polls_are_to_be_quick():
    async def delay(**options: Any) -> float:
        source = Scripted(*(message(number) for number in range(11)))
        turns = asyncio.Semaphore(0)

        async def handle(_: Message) -> None:
            await turns.acquire()

        async with running(Consumer(source, handle, concurrency=10, **options)):
            await asyncio.sleep(1)
            began = asyncio.get_running_loop().time()
            turns.release()
            await until(lambda: not source.waiting)
            took = asyncio.get_running_loop().time() - began
            for _ in range(10):
                turns.release()
        return took

    assert 0.05 <= await delay() < 0.06
    assert await delay(polls=2) < 0.01


async def test_a_free_slot_wakes_one_of_the_polls_that_wait_for_it(monkeypatch):
    looks = 0
    free = Backlog.free

    def counted(backlog: Backlog) -> int:
        nonlocal looks
        looks += 1
        return free(backlog)

    monkeypatch.setattr(Backlog, "free", counted)
    source = Scripted(*(message(number) for number in range(400)))
    turns = asyncio.Semaphore(0)

    async def handle(_: Message) -> None:
        await turns.acquire()

    async with running(Consumer(source, handle, concurrency=160, polls=20)):
        await until(lambda: len(source.waiting) == 240)
        assert source.most_polls > 5
        await asyncio.sleep(1)
        before, asked = looks, len(source.asked)
        for _ in range(100):
            turns.release()
            await asyncio.sleep(0.1)
        assert len(source.asked) - asked == 100
        assert looks - before <= 1_000  # a look by each of twenty polls would be 2,000 more
        for _ in range(300):
            turns.release()
        await until(lambda: len(source.acked_ids) == 400)


async def test_slots_that_one_call_can_ask_for_are_not_spread_over_several_polls():
    """Five polls for a message each: on a lossy network, each lost answer costs its messages an attempt."""
    source, dice = Scripted(), random.Random(1)

    async def handle(_: Message) -> None:
        await asyncio.sleep(dice.uniform(0.01, 0.05))

    async with running(Consumer(source, handle, concurrency=5)):
        source.put(*(message(number) for number in range(100)))
        await until(lambda: len(source.acked_ids) == 100)
        assert source.most_polls == 1


async def test_a_receive_that_fails_is_tried_again_with_backoff():
    source = Scripted(message())
    source.receive_errors.extend([ConnectionLost("gone"), RuntimeError("a bug in a driver"), ConnectionLost("gone")])

    async def handle(_: Message) -> None:
        return

    async with running(Consumer(source, handle)):
        await until(lambda: source.acked)
    assert len(source.asked) >= 4


async def test_typed_handlers_get_validated_bodies():
    source = Scripted(message(7), message(8))
    seen: list[int] = []

    async def handle(order: Order) -> None:
        seen.append(order.number)

    async with running(Consumer(source, handle)):
        await until(lambda: len(source.acked_ids) == 2)
    assert sorted(seen) == [7, 8]


async def test_an_invalid_body_goes_to_the_dead_letter_channel_without_retries():
    source, dead = Scripted(Message({"number": "many"}, id="bad"), message(2)), Outbox("dead")

    async def handle(order: Order) -> None:
        assert order.number == 2

    async with running(Consumer(source, handle, dead_letters=dead)) as consumer:
        await until(lambda: len(source.acked_ids) == 2)
    assert [each.id for each in dead.sent] == ["bad"]
    assert dead.sent[0].headers["dead-letter-source"] == "scripted"
    assert "many" not in dead.sent[0].headers["dead-letter-reason"]
    assert consumer.stats.dead_lettered == 1


async def test_what_the_driver_cannot_decode_keeps_its_raw_body_on_the_way_out():
    source, dead = Scripted(Message.received(b"\xff not JSON", id="bad")), Outbox("dead")
    source.errors["bad"] = DecodeError("envelope is not JSON")

    async def handle(_: Message) -> None:
        raise AssertionError

    async with running(Consumer(source, handle, dead_letters=dead)):
        await until(lambda: source.acked)
    assert dead.sent[0].encode() == b"\xff not JSON"
    assert "envelope is not JSON" in dead.sent[0].headers["dead-letter-reason"]


async def test_without_a_dead_letter_channel_an_undecodable_message_stays_with_backoff():
    source = Scripted(Message.received(b"{", id="bad"))

    async def handle(received: Message) -> None:
        received.body  # noqa: B018 - the look decodes it

    async with running(Consumer(source, handle)):
        await until(lambda: len(source.nacked) == 6)
    assert source.acked == []
    assert sum(delay for _, delay in source.nacked) > 1


async def test_a_failing_message_comes_again_and_again_and_stops_nobody():
    source = Scripted(*(message(number) for number in range(10)))

    async def handle(received: Message) -> None:
        if received.id == "m3":
            raise ValueError("never")

    async with running(Consumer(source, handle)) as consumer:
        await until(lambda: len(source.nacked) == 5)
        assert sorted(source.acked_ids) == sorted(f"m{number}" for number in range(10) if number != 3)
        assert consumer.stats.retried == 5
    delays = [delay for _, delay in source.nacked]
    assert all(0 <= delay <= 2**attempt for attempt, delay in enumerate(delays))


@pytest.mark.parametrize("error", [Reject("broken"), MessageTooLarge(2, 1), Park("aside"), DecodeError("what")])
async def test_permanent_failures_are_dead_lettered_at_once(error):
    source, dead = Scripted(message()), Outbox("dead")

    async def handle(_: Message) -> None:
        raise error

    async with running(Consumer(source, handle, dead_letters=dead)):
        await until(lambda: source.acked)
    assert source.nacked == []
    assert str(error) in dead.sent[0].headers["dead-letter-reason"]
    assert dead.sent[0].headers["dead-letter-count"] == "1"


async def test_a_rejected_message_without_dead_letter_channel_is_not_deleted():
    source = Scripted(message())

    async def handle(_: Message) -> None:
        raise Reject("broken")

    async with running(Consumer(source, handle)):
        await until(lambda: len(source.nacked) == 2)
    assert source.acked == []


async def test_the_handler_chooses_the_delay_of_a_retry():
    source = Scripted(message())

    async def handle(_: Message) -> None:
        if current_delivery().receive_count == 1:
            raise Retry("busy", delay=77)

    async with running(Consumer(source, handle)):
        await until(lambda: source.acked)
    assert source.nacked == [(["m1"], 77)]


async def test_max_attempts_gives_up_to_the_dead_letter_channel():
    source, dead = Scripted(message()), Outbox("dead")

    async def handle(_: Message) -> None:
        raise ValueError("never")

    async with running(Consumer(source, handle, dead_letters=dead, retry=Backoff(max_attempts=3))):
        await until(lambda: dead.sent)
    assert len(source.nacked) == 2


async def test_a_dead_letter_channel_that_fails_keeps_the_message():
    source, dead = Scripted(message()), Outbox("dead")
    dead.refuse.append(ConnectionLost("gone"))

    async def handle(_: Message) -> None:
        raise Reject("broken")

    async with running(Consumer(source, handle, dead_letters=dead)):
        await until(lambda: dead.sent)
    assert [ids for ids, _ in source.nacked] == [["m1"]]


async def test_a_handler_that_is_cancelled_from_within_has_failed_and_nobody_else():
    source = Scripted(message(1), message(2))

    async def handle(received: Message) -> None:
        if received.id == "m1" and current_delivery().receive_count == 1:
            raise asyncio.CancelledError

    async with running(Consumer(source, handle, concurrency=1)):
        await until(lambda: sorted(source.acked_ids) == ["m1", "m2"])


async def test_a_handler_that_returns_nonsense_has_failed():
    source, dead = Scripted(message()), Outbox("dead")

    async def handle(_: Message) -> Any:
        return 42

    async with running(Consumer(source, handle, dead_letters=dead, retry=Backoff(base=0, max_attempts=1))):
        await until(lambda: dead.sent)
    assert "not int" in dead.sent[0].headers["dead-letter-reason"]


async def test_an_expired_message_is_handled_where_that_is_wanted():
    source, seen = Scripted(message(1, expires_at=1.0)), []

    async def handle(received: Message) -> None:
        seen.append(received.id)

    async with running(Consumer(source, handle, on_expired="handle")):
        await until(lambda: source.acked)
    assert seen == ["m1"]


@pytest.mark.parametrize("policy", ["drop", "dead_letter"])
async def test_an_expired_message_is_never_handled(policy):
    source, dead = Scripted(message(1, expires_at=1.0), message(2)), Outbox("dead")
    seen = []

    async def handle(received: Message) -> None:
        seen.append(received.id)

    async with running(Consumer(source, handle, on_expired=policy, dead_letters=dead)) as consumer:
        await until(lambda: len(source.acked_ids) == 2)
    assert seen == ["m2"]
    assert consumer.stats.expired == 1
    assert [each.id for each in dead.sent] == (["m1"] if policy == "dead_letter" else [])


async def test_the_running_handler_knows_its_delivery():
    source = Scripted(message())
    seen = []

    async def handle(received: Message) -> None:
        seen.append((current_delivery().message is received, current_delivery().receive_count))

    async with running(Consumer(source, handle)):
        await until(lambda: source.acked)
    assert seen == [(True, 1)]
    with pytest.raises(LookupError):
        current_delivery()


async def test_it_stops_before_it_started_and_runs_again():
    source = Scripted(message())

    async def handle(_: Message) -> None:
        return

    consumer = Consumer(source, handle)
    await consumer.stop()
    await consumer.run()
    assert source.asked == []
    async with running(consumer):
        await until(lambda: source.acked)
        with pytest.raises(ConfigurationError, match="running already"):
            await consumer.run()


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 0},
        {"max_processing": 0},
        {"grace": -1},
        {"local_retries": -1},
        {"on_group_failure": "shrug"},
        {"on_expired": "shrug"},
    ],
)
async def test_options_that_cannot_be_are_refused(options):
    async def handle(_: Message) -> None:
        return

    with pytest.raises(ConfigurationError):
        Consumer(Scripted(), handle, **options)


async def test_max_processing_is_at_most_the_longest_lease_of_the_channel():
    async def handle(_: Message) -> None:
        return

    source = Scripted()
    Consumer(source, handle, max_processing=50_000)
    source.limits = SQS
    with pytest.raises(ConfigurationError, match="max_processing must be at most 43200 seconds, got 50000"):
        Consumer(source, handle, max_processing=50_000)


async def test_the_earlier_name_of_dead_letters_works_for_one_more_release():
    source, dead = Scripted(Message(1, id="m0")), Outbox()

    async def handle(_: Message) -> None:
        raise Reject("no")

    async with running(Consumer(source, handle, dead_letter=dead)):
        await until(lambda: source.acked_ids == ["m0"])
    assert [each.id for each in dead.sent] == ["m0"]


async def test_bodies_do_not_reach_logs_or_reprs(caplog, capsys):
    source, dead = Scripted(Message({"number": "secret-sauce"}, id="bad")), Outbox("dead")

    async def handle(order: Order) -> None:
        return

    with caplog.at_level(logging.DEBUG):
        async with running(Consumer(source, handle, dead_letters=dead)) as consumer:
            await until(lambda: dead.sent)
    out, err = capsys.readouterr()
    assert "dead_lettered" in out + err + caplog.text
    assert "secret-sauce" not in out + err + caplog.text + repr(consumer) + repr(dead.sent)
