"""Tumbling windows: a state that counts each message once, and a report at the window's end."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from eip import Message
from eip.errors import DecodeError, InvalidResult, Reject
from eip.packs import entry_of, pack
from eip.transports.aws.kinesis.aggregation import AggregatedRecord
from eip.transports.aws.kinesis.records import dump_record
from eip.transports.aws.lambda_host import TumblingWindow, current_invocation
from tests.support.lambda_events import (
    Context,
    Recorder,
    dynamodb_record,
    failures,
    kinesis_record,
    sqs,
    sqs_record,
    windowed,
)


async def count(message: Message) -> None:
    window = current_invocation().window
    assert window is not None
    window.state["n"] = window.state.get("n", 0) + 1
    await asyncio.sleep(0)
    if message.body == "fail":
        raise ValueError("no")
    if message.body == "reject":
        raise Reject("no")


def clicks(*bodies: str):
    return [kinesis_record(f'"{body}"'.encode(), number, f"k{number}") for number, body in enumerate(bodies)]


def test_the_state_goes_from_invocation_to_invocation(lambda_handler):
    handler = lambda_handler(count)
    first = handler(windowed(*clicks("a", "b")), Context())
    assert first == {"batchItemFailures": [], "state": {"n": 2}}
    assert handler(windowed(*clicks("c"), state=first["state"]), Context())["state"] == {"n": 3}


def test_what_a_failed_message_changed_does_not_count_and_what_follows_waits(lambda_handler):
    """It comes again with all behind it: counted now, they would be counted twice."""
    answer = lambda_handler(count)(windowed(*clicks("a", "fail", "b", "c")), Context())
    assert failures(answer) == ["1"]
    assert answer["state"] == {"n": 1}


def test_a_message_that_is_put_aside_leaves_no_trace(lambda_handler):
    dead = Recorder()
    answer = lambda_handler(count, dead_letters=dead)(windowed(*clicks("a", "reject", "b")), Context())
    assert answer == {"batchItemFailures": [], "state": {"n": 2}}
    assert len(dead.sent) == 1


def test_user_records_of_an_aggregate_and_messages_of_a_pack_are_counted_one_by_one(lambda_handler):
    aggregate = AggregatedRecord(10_000)
    for number in range(3):
        aggregate.add(f"k{number}", None, b'"x"')
    packed = pack([entry_of(Message("x")) for _ in range(4)], Message(None))
    records = (kinesis_record(aggregate.encode(), 1, "a"), kinesis_record(dump_record(packed), 2, "b"))
    assert lambda_handler(count)(windowed(*records), Context())["state"] == {"n": 7}


def test_an_aggregate_that_fails_in_part_comes_again_as_a_whole(lambda_handler):
    aggregate = AggregatedRecord(10_000)
    for body in (b'"a"', b'"fail"', b'"b"'):
        aggregate.add("k", None, body)
    event = sqs(*clicks("x"), kinesis_record(aggregate.encode(), 1, "a"), kinesis_record(b'"y"', 2, "b"))

    async def handle(body: str) -> None:
        if body == "fail":
            raise ValueError("no")

    assert failures(lambda_handler(handle)(event, Context())) == ["1"]


def test_the_time_running_out_in_a_message_undoes_what_it_did(lambda_handler):
    async def slow(message: Message) -> None:
        await count(message)
        if message.body == "slow":
            await asyncio.Event().wait()

    answer = lambda_handler(slow, margin=0.1)(windowed(*clicks("a", "slow", "b")), Context(0.4))
    assert answer == {"batchItemFailures": [{"itemIdentifier": "1"}], "state": {"n": 1}}


def test_the_end_of_a_window_is_reported_even_without_records(lambda_handler):
    windows: list[TumblingWindow] = []
    output = Recorder()

    async def report(window: TumblingWindow) -> Message:
        windows.append(window)
        return Message(window.state)

    handler = lambda_handler(count, on_window=report, output=output)
    handler(windowed(*clicks("a"), state={"n": 4}), Context())
    assert windows == []
    answer = handler(windowed(state={"n": 5}, final=True), Context())
    assert answer == {"batchItemFailures": [], "state": {"n": 5}}
    assert [each.body for each in output.sent] == [{"n": 5}]
    (window,) = windows
    assert (window.start, window.shard) == (datetime(2026, 1, 1, tzinfo=UTC), "shardId-000000000006")


def test_a_window_is_not_reported_before_its_last_messages_are_done(lambda_handler):
    output = Recorder()
    handler = lambda_handler(count, on_window=lambda window: Message(window.state), output=output)
    assert failures(handler(windowed(*clicks("fail"), final=True), Context())) == ["0"]
    assert output.sent == []


def test_a_report_that_fails_fails_the_invocation(lambda_handler):
    async def report(window: TumblingWindow) -> Message:
        return Message(window.state)

    with pytest.raises(InvalidResult, match="output"):
        lambda_handler(count, on_window=report)(windowed(final=True), Context())

    async def hang(window: TumblingWindow) -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        lambda_handler(count, on_window=hang, margin=0.1)(windowed(final=True), Context(0.3))


def test_a_state_that_is_no_json_is_its_messages_failure(lambda_handler):
    async def spoil(message: Message) -> None:
        window = current_invocation().window
        assert window is not None
        window.state = {"n": 1} if message.body == "a" else {"n": {object()}}

    answer = lambda_handler(spoil)(windowed(*clicks("a", "b")), Context())
    assert answer == {"batchItemFailures": [{"itemIdentifier": "1"}], "state": {"n": 1}}


def test_a_stream_of_changes_has_windows_too(lambda_handler):
    event = windowed(dynamodb_record(1), dynamodb_record(2, "b"))
    event["eventSourceARN"] = event["Records"][0]["eventSourceARN"]
    assert lambda_handler(count)(event, Context())["state"] == {"n": 2}
    assert lambda_handler(count)({**event, "Records": [], "state": {"n": 9}}, Context())["state"] == {"n": 9}


@pytest.mark.parametrize("window", [7, {}, {"start": "x", "end": "y"}, {"start": 1, "end": 2}])
def test_a_window_that_is_none_fails_the_invocation(window, lambda_handler):
    with pytest.raises(DecodeError, match="window"):
        lambda_handler(count)(windowed(*clicks("a")) | {"window": window}, Context())


def test_bisecting_finds_the_record_that_fails_and_loses_none(lambda_handler):
    """As Lambda does it: after a failure, halves of what is left from the first failed record on."""
    done: list[str] = []

    async def handle(body: str) -> None:
        if body == "fail":
            raise ValueError("no")
        done.append(body)

    handler, discarded = lambda_handler(handle, concurrency=1), []

    def invoke(records: list[dict]) -> None:
        failed = failures(handler(sqs(*records), Context()))
        if not failed:
            return
        rest = records[[each["kinesis"]["sequenceNumber"] for each in records].index(failed[0]) :]
        if len(rest) == 1:
            discarded.append(failed[0])
            return
        invoke(rest[: len(rest) // 2])
        invoke(rest[len(rest) // 2 :])

    invoke(clicks(*"abc", "fail", *"defg", "fail", "h"))
    assert sorted(set(done)) == list("abcdefgh")
    assert discarded == ["3", "8"]


def test_without_a_window_there_is_no_state(lambda_handler):
    async def handle(message: Message) -> None:
        assert current_invocation().window is None

    assert lambda_handler(handle)(sqs(sqs_record("1", 1)), Context()) == {"batchItemFailures": []}
