"""The log of failed messages: one event for each failed attempt, in the user's words."""

from __future__ import annotations

import logging
from collections import Counter

import pytest
import structlog
from structlog.testing import capture_logs

from eip import Backoff, Consumer, Message, Park, Reject, Retry, running
from eip.patterns.packer import Packer
from eip.transports.memory import MemoryTransport

from .scripted import until

NOW = Backoff(base=0.1, cap=0.1, max_attempts=3)
INTERNAL = ("DelayedRetry", "ImmediateRetry", "DeadLetter(", "ParkGroup", "action")


@pytest.fixture
def logs():
    with capture_logs() as lines:
        yield lines
    structlog.reset_defaults()
    assert not [line for line in lines if any(word in str(line) for word in INTERNAL)]


async def tried(error: Exception | list[Exception], *messages: Message, name: str = "q", dead: bool = True) -> None:
    """Have each message fail with the errors in turn, until all are dead-lettered or every error was raised."""
    errors = error if isinstance(error, list) else [error] * 100
    calls: Counter[str] = Counter()

    async def pay(message: Message) -> None:
        calls[message.id] += 1
        if calls[message.id] <= len(errors):
            raise errors[calls[message.id] - 1]

    async with MemoryTransport() as memory:
        suffix = ".fifo" if name.endswith(".fifo") else ""
        dead_letters = memory.queue(f"dead{suffix}") if dead else None
        queue = memory.queue(name)
        await queue.send(*messages)
        async with running(consumer := Consumer(queue, pay, retry=NOW, dead_letters=dead_letters)):
            stats = consumer.stats
            await until(lambda: stats.dead_lettered + stats.handled + stats.unpacked >= len(messages))


def of(logs, event: str) -> list[dict]:
    return [{**each} for each in logs if each["event"] == event]


async def test_each_failed_attempt_is_one_event_and_the_last_one_has_the_reason(logs):
    await tried(ValueError("no"), Message(1, id="m", correlation_id="c"))
    assert [each["event"] for each in logs] == ["retry_scheduled", "retry_scheduled", "dead_lettered"]
    first, second, dead = logs
    place = {"channel": "q", "message_id": "m", "correlation_id": "c"}
    assert all(each.items() >= place.items() and each["handler"].endswith("pay") for each in logs)
    assert [each["attempt"] for each in logs] == ["1 of 3", "2 of 3", 3]
    assert (first["error"], first["log_level"], dead["reason"], dead["log_level"]) == (
        "ValueError: no",
        "warning",
        "ValueError: no",
        "error",
    )
    assert second["retry_in"] == round(second["retry_in"], 1)
    assert ["exception" in each for each in logs] == [True, False, True]
    assert dead["exception"].startswith("Traceback")


async def test_each_type_of_error_has_one_traceback(logs):
    messages = [Message(each, id=f"m{each}") for each in range(3)]
    await tried([ValueError("a"), KeyError("b")], *messages)
    lines = of(logs, "retry_scheduled")
    assert len(lines) == 6
    assert Counter(each["error"].split(":")[0] for each in lines if "exception" in each) == {
        "ValueError": 1,
        "KeyError": 1,
    }


async def test_without_a_dead_letter_channel_there_is_no_limit(logs):
    await tried([Reject("no")] * 4, Message(1), dead=False)
    assert [each["attempt"] for each in logs] == [1, 2, 3, 4]


async def test_waiting_is_no_failure(logs):
    await tried([Retry(delay=2.04, counted=False)], Message(1))
    (line,) = logs
    assert (line["event"], line["log_level"], line["retry_in"]) == ("handling_postponed", "debug", 2.0)


async def test_a_groups_head_is_tried_in_this_process_and_counts_the_same(logs):
    await tried(ValueError("no"), Message(1, group_id="g"), name="q.fifo")
    assert [each["attempt"] for each in logs] == ["1 of 3", "2 of 3", 3]


async def test_a_parked_group_is_one_event_and_what_follows_is_counted(logs):
    messages = [Message(each, id=f"m{each}", group_id="g") for each in range(5)]
    await tried(Park("broken"), *messages, name="q.fifo")
    (parked,) = of(logs, "group_parked")
    assert (parked["group_id"], parked["reason"]) == ("g", "Park: broken")
    head, follower = of(logs, "dead_lettered")
    assert (head["log_level"], follower["log_level"]) == ("error", "warning")
    assert follower["reason"] == "its message group is parked"


async def test_what_fails_in_a_pack_is_logged_as_if_it_had_come_alone(logs):
    calls: Counter[str] = Counter()

    async def pay(message: Message) -> None:
        calls[message.id] += 1
        if message.id == "m1":
            raise ValueError("no")

    async with MemoryTransport() as memory:
        queue, dead = memory.queue("q"), memory.queue("dead")
        async with Packer(queue) as packer:
            await packer.send(*(Message(each, id=f"m{each}") for each in range(3)))
        async with running(consumer := Consumer(queue, pay, retry=NOW, dead_letters=dead)):
            await until(lambda: consumer.stats.dead_lettered)
    assert {(each["event"], each["message_id"], each["channel"]) for each in logs} == {
        ("retry_scheduled", "m1", "q"),
        ("dead_lettered", "m1", "q"),
    }
    assert logs[0]["attempt"] == "1 of 3"


async def test_a_record_of_the_standard_library_has_the_traceback(caplog):
    with caplog.at_level(logging.WARNING, logger="eip"):
        await tried(Reject("no"), Message(1))
    (record,) = (each for each in caplog.records if each.name == "eip.consumer")
    assert record.getMessage().startswith("dead_lettered channel=q ")
    assert record.exc_info[1].args == ("no",)
