"""Scatter-gather and request-reply: complete at the first condition, never confused by strangers, bounded."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from eip import Consumer, Message, ReturnAddresses
from eip.errors import ConfigurationError, ConnectionLost, RequestTimeout
from eip.patterns.request_reply import RequestFailed, RequestReply
from eip.patterns.scatter_gather import ScatterGather
from eip.transports.memory import MemoryTransport
from tests.runtime.scripted import until


@asynccontextmanager
async def responders(transport: MemoryTransport, delays: dict[str, float | None]):
    """Consumers of a topic that answer after a delay, or never."""
    topic = transport.topic("requests")

    def responder(name: str, delay: float | None) -> Consumer:
        async def answer(request: Message) -> Message | None:
            if delay is None:
                return None
            await asyncio.sleep(delay)
            return request.reply({"from": name}, source=name)

        replies = ReturnAddresses(transport, prefix="replies")
        source = topic.subscription(name)
        return Consumer(source, answer, replies=replies, concurrency=1000)

    consumers = [responder(name, delay) for name, delay in delays.items()]
    async with asyncio.TaskGroup() as tasks:
        for consumer in consumers:
            tasks.create_task(consumer.run())
        yield ScatterGather(topic, transport.queue("replies"))
        for consumer in consumers:
            await consumer.stop()


def names(replies: list[Message]) -> list[str]:
    return [reply.body["from"] for reply in replies]


async def test_complete_when_all_expected_have_answered():
    async with MemoryTransport() as transport, responders(transport, {"a": 1, "b": 2, "c": 3}) as gather, gather:
        start = asyncio.get_running_loop().time()
        result = await gather.request("?", expected=3, deadline=timedelta(minutes=5))
        assert names(result.replies) == ["a", "b", "c"]
        assert result.completed_by == "expected"
        assert asyncio.get_running_loop().time() - start == pytest.approx(3, abs=0.1)
        assert gather.in_flight == 0


async def test_one_request_may_be_awaited_and_iterated_over_at_once():
    async with MemoryTransport() as transport, responders(transport, {"a": 1, "b": 2}) as gather, gather:
        request = gather.request("?", expected=2, deadline=60)

        async def watch():
            return names([reply async for reply in request])

        async def wait():
            return await request

        seen, result, same = await asyncio.gather(watch(), wait(), wait())
        assert seen == names(result.replies) == ["a", "b"]
        assert result is same


async def test_what_is_complete_is_not_kept_until_its_deadline():
    async with MemoryTransport() as transport, responders(transport, {"a": 0}) as gather, gather:
        for _ in range(3000):
            await gather.request("?", expected=1, deadline=3600)
        assert len(gather._deadlines) <= 1001


async def test_the_deadline_ends_it_and_says_who_is_missing():
    async with MemoryTransport() as transport, responders(transport, {"a": 1, "b": 9, "c": None}) as gather, gather:
        result = await gather.request("?", expected=["a", "b", "c"], deadline=5)
        assert (names(result.replies), result.completed_by) == (["a"], "deadline")
        assert result.missing == {"b", "c"}


async def test_complete_by_count_or_by_predicate():
    async with MemoryTransport() as transport, responders(transport, {"a": 1, "b": 2, "c": 3}) as gather, gather:
        assert (await gather.request("?", count=2, deadline=9)).completed_by == "count"
        result = await gather.request("?", until=lambda replies: "b" in names(replies), deadline=9)
        assert (names(result.replies), result.completed_by) == (["a", "b"], "predicate")


async def test_replies_as_they_arrive():
    async with MemoryTransport() as transport, responders(transport, {"a": 1, "b": 2, "c": None}) as gather, gather:
        gathering = gather.request("?", expected=3, deadline=5)
        assert [reply.body["from"] async for reply in gathering] == ["a", "b"]
        assert gathering.result.completed_by == "deadline"


async def test_the_request_carries_what_responders_need():
    async with MemoryTransport() as transport:
        asked = transport.queue("asked")
        async with ScatterGather(asked, transport.queue("replies")) as gather:
            await gather.request(Message("?", id="q"), deadline=7)
        (request,) = asked.messages()
        assert (request.correlation_id, request.return_address) == ("q", "memory:queue/replies")
        assert request.expires_at == pytest.approx(request.created_at + 7)


async def test_responders_drop_requests_past_their_deadline():
    async with MemoryTransport() as transport:
        asked, seen = transport.queue("asked"), []

        async def answer(request: Message) -> None:
            seen.append(request)

        async with ScatterGather(asked, transport.queue("replies")) as gather:
            await gather.request("?", deadline=2)
        consumer = Consumer(asked, answer)
        task = asyncio.create_task(consumer.run())
        await until(lambda: consumer.stats.expired == 1)
        await consumer.stop()
        await task
        assert seen == []


async def test_late_unknown_and_duplicate_replies_are_counted_and_acknowledged():
    async with MemoryTransport() as transport:
        asked, replies = transport.queue("asked"), transport.queue("replies")
        async with ScatterGather(asked, replies) as gather:
            gathering = gather.request(Message("?", id="q"), count=2, deadline=60)
            task = asyncio.ensure_future(gathering._gather())
            await until(lambda: gather.in_flight == 1)
            first = Message(1, correlation_id="q")
            await replies.send(first, first, Message(0, correlation_id="nobody"), Message(0))
            await until(lambda: len(replies) == 0)
            assert gather.in_flight == 1
            await replies.send(Message(2, correlation_id="q"))
            result = await task
            await replies.send(Message(3, correlation_id="q"))
            await until(lambda: gather.late == 1)
            assert [reply.body for reply in result.replies] == [1, 2]
            assert (result.late, gather.unknown, len(replies)) == (1, 2, 0)


async def test_responders_that_failed_are_told_from_those_that_answered():
    async with MemoryTransport() as transport:
        asked, replies = transport.queue("asked"), transport.queue("replies")
        async with ScatterGather(asked, replies) as gather:
            task = asyncio.ensure_future(gather.request(Message("?", id="q"), expected=2, deadline=9)._gather())
            await until(lambda: gather.in_flight == 1)
            await replies.send(Message("no", correlation_id="q", type="error"), Message("yes", correlation_id="q"))
            result = await task
        assert [each.body for each in result.errors] == ["no"]
        assert (result.answered, result.completed_by) == (2, "expected")


async def test_a_dedicated_reply_channel_per_customer():
    async with MemoryTransport() as transport, responders(transport, {"a": 1}) as gather, gather:
        mine, yours = transport.queue("replies-mine"), transport.queue("replies-yours")
        results = await asyncio.gather(
            *(
                gather.request(name, expected=1, deadline=5, replies=queue)._gather()
                for name, queue in (("m", mine), ("y", yours))
            )
        )
        assert [each.completed_by for each in results] == ["expected", "expected"]
        await gather.unlisten(mine)
        await mine.send(Message(1, correlation_id=results[0].correlation_id))
        assert len(mine) == 1


async def test_thousands_in_flight_at_once():
    async with MemoryTransport() as transport:
        delays: dict[str, float | None] = {str(number): random.Random(number).random() for number in range(5)}
        async with responders(transport, delays) as gather, gather:
            results = await asyncio.gather(*(gather.request(n, expected=5, deadline=60)._gather() for n in range(2000)))
            assert {len(result.replies) for result in results} == {5}
            assert (gather.late, gather.unknown, gather.in_flight) == (0, 0, 0)
            assert len(gather._deadlines) <= 2001


async def test_a_send_that_fails_is_raised_and_leaves_nothing_behind():
    async with MemoryTransport() as transport:
        asked = transport.queue("asked")

        async def fail(*messages: Any, **options: Any) -> None:
            raise ConnectionLost("gone")

        asked.send = fail
        async with ScatterGather(asked, transport.queue("replies")) as gather:
            with pytest.raises(ConnectionLost):
                await gather.request("?", deadline=5)
            assert gather.in_flight == 0


async def test_a_cancelled_request_leaves_nothing_behind():
    async with MemoryTransport() as transport, responders(transport, {"a": 3}) as gather, gather:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await gather.request("?", expected=1, deadline=60)
        assert gather.in_flight == 0
        await until(lambda: gather.late == 1)


async def test_requests_that_cannot_be():
    async with MemoryTransport() as transport:
        gather = ScatterGather(transport.queue("asked"), transport.queue("replies"))
        with pytest.raises(ConfigurationError, match="async with"):
            gather.request("?", deadline=5)
        async with gather:
            with pytest.raises(ConfigurationError, match="deadline"):
                gather.request("?", deadline=0)
            assert (await gather.request("?", expected=0, deadline=5)).completed_by == "expected"


# Request-reply.


async def answering(transport: MemoryTransport, answer: Any) -> Consumer:
    return Consumer(transport.queue("asked"), answer, replies=ReturnAddresses(transport, prefix="replies"))


async def test_one_question_one_answer():
    async with MemoryTransport() as transport:

        async def answer(request: Message) -> Message:
            return request.reply(request.body * 2)

        consumer = await answering(transport, answer)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(consumer.run())
            async with RequestReply(transport.queue("asked"), transport.queue("replies")) as ask:
                replies = await asyncio.gather(*(ask.request(number, timeout=5) for number in range(100)))
            await consumer.stop()
        assert [reply.body for reply in replies] == [number * 2 for number in range(100)]


async def test_no_answer_is_a_timeout_and_a_late_one_is_counted():
    async with MemoryTransport() as transport:
        asked, replies = transport.queue("asked"), transport.queue("replies")
        async with RequestReply(asked, replies) as ask:
            with pytest.raises(RequestTimeout):
                await ask.request("?", timeout=5)
            await replies.send(asked.messages()[0].reply("late"))
            await until(lambda: ask.late == 1)


async def test_an_answer_that_says_failure_is_raised():
    async with MemoryTransport() as transport:

        async def answer(request: Message) -> Message:
            return request.reply("no", type="error")

        consumer = await answering(transport, answer)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(consumer.run())
            async with RequestReply(transport.queue("asked"), transport.queue("replies")) as ask:
                with pytest.raises(RequestFailed) as caught:
                    await ask.request("?", timeout=5)
            await consumer.stop()
        assert caught.value.reply.body == "no"
