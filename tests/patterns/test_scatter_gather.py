"""Scatter-gather and request-reply: complete at the first condition, never confused by strangers, bounded."""

from __future__ import annotations

import asyncio
import gc
import random
import warnings
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from eip import Consumer, Message, ReturnAddresses, running
from eip.channels import Sender, Source
from eip.errors import ChannelNotFound, ConfigurationError, ConnectionLost, RequestTimeout
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
        assert len(gather._gatherer._deadlines) <= 1001


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
            task = asyncio.ensure_future(gathering)
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
            task = asyncio.ensure_future(gather.request(Message("?", id="q"), expected=2, deadline=9))
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
                gather.request(name, expected=1, deadline=5, replies=queue)
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
            results = await asyncio.gather(*(gather.request(n, expected=5, deadline=60) for n in range(2000)))
            assert {len(result.replies) for result in results} == {5}
            assert (gather.late, gather.unknown, gather.in_flight) == (0, 0, 0)
            assert len(gather._gatherer._deadlines) <= 2001


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


# Replies find their request by its own id.


class Foreign:
    """A responder that copies only the correlation id; it answers when it is asked to."""

    def __init__(self, transport: MemoryTransport) -> None:
        self.asked, self.replies = transport.queue("asked"), transport.queue("replies")

    async def request(self, number: int) -> Message:
        """The request of that number, from 0, once it was sent."""
        await until(lambda: len(self.asked) > number)
        return self.asked.messages()[number]

    async def answer(self, request: Message, body: Any, **envelope: Any) -> None:
        await self.replies.send(Message(body, correlation_id=request.correlation_id, **envelope))
        await until(lambda: len(self.replies) == 0)


@asynccontextmanager
async def gathering_with_foreigner():
    async with MemoryTransport() as transport:
        foreign = Foreign(transport)
        async with ScatterGather(foreign.asked, foreign.replies) as gather:
            yield gather, foreign


@asynccontextmanager
async def asking():
    """A scatter-gather whose requests nobody answers."""
    async with (
        MemoryTransport() as transport,
        ScatterGather(transport.queue("asked"), transport.queue("replies")) as it,
    ):
        yield it


async def test_two_requests_at_once_may_have_one_correlation_id():
    """Fault 19: each gets its own replies, whatever correlation id the caller chose."""
    async with MemoryTransport() as transport, responders(transport, {"a": 1, "b": 2}) as gather, gather:
        ask = Message("?", correlation_id="order-7")
        one, two = await asyncio.gather(
            *(gather.request(ask, expected=2, deadline=60) for _ in range(2)),
        )
        assert one.correlation_id == two.correlation_id == "order-7"
        assert one.id != two.id
        assert {len(each.replies) for each in (one, two)} == {2}
        assert {reply.id for reply in one.replies}.isdisjoint(reply.id for reply in two.replies)
        assert (gather.late, gather.unknown, gather.ambiguous) == (0, 0, 0)


async def test_a_late_reply_never_answers_a_later_request_of_the_same_correlation_id():
    """Fault 19: the reply to what timed out is late, also while the id is in use again."""
    async with gathering_with_foreigner() as (gather, foreign):
        ask = Message("?", correlation_id="order-7")
        first = await gather.request(ask, expected=1, deadline=5)
        second = asyncio.ensure_future(gather.request(ask, expected=1, deadline=60))
        asked = await foreign.request(1)
        await foreign.replies.send((await foreign.request(0)).reply("late"))
        await until(lambda: gather.late == 1)
        await foreign.replies.send(asked.reply("in time"))
        assert [each.body for each in (await second).replies] == ["in time"]
        assert (first.late, first.replies) == (1, [])


async def test_a_foreign_reply_is_matched_by_its_correlation_id_where_one_request_has_it():
    """Fault 19: responders that know nothing of request ids still work."""
    async with gathering_with_foreigner() as (gather, foreign):
        for number, ask in enumerate(("?", Message("?", id="q"), Message("?", correlation_id="order-7"))):
            gathering = asyncio.ensure_future(gather.request(ask, expected=1, deadline=60))
            await foreign.answer(await foreign.request(number), number)
            assert [each.body for each in (await gathering).replies] == [number]


async def test_a_foreign_reply_that_several_requests_may_mean_is_ambiguous():
    """Fault 19: it answers none of them, whether they are open or one is over."""
    async with gathering_with_foreigner() as (gather, foreign):
        ask = Message("?", correlation_id="order-7")
        open_ones = [asyncio.ensure_future(gather.request(ask, expected=1, deadline=60)) for _ in range(2)]
        await foreign.answer(await foreign.request(1), "?")
        assert (gather.ambiguous, gather.in_flight) == (1, 2)
        for number in range(2):
            await foreign.replies.send((await foreign.request(number)).reply(number))
        assert [(await each).answered for each in open_ones] == [1, 1]
        await foreign.answer(await foreign.request(0), "?")
        assert (gather.ambiguous, gather.late, gather.unknown) == (2, 0, 0)


async def test_a_correlation_id_that_is_another_request_s_id_confuses_nobody():
    """Fault 19: a nested request carries its cause's correlation id, which is a request id of the same requester."""
    async with gathering_with_foreigner() as (gather, foreign):
        outer = asyncio.ensure_future(gather.request("outer", expected=1, deadline=60))
        cause = await foreign.request(0)
        inner = asyncio.ensure_future(gather.request(cause.derive("inner"), expected=1, deadline=60))
        await foreign.replies.send((await foreign.request(1)).reply("to inner"), cause.reply("to outer"))
        assert [(await each).replies[0].body for each in (outer, inner)] == ["to outer", "to inner"]


async def test_forgotten_requests_leave_nothing_behind():
    """Fault 19: the index of correlation ids holds what is remembered, and no more."""
    async with MemoryTransport() as transport, responders(transport, {"a": 0}) as gather, gather:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("eip.patterns._gathering_in_memory._MAX_CLOSED", 10)
            for number in range(100):
                await gather.request(Message("?", correlation_id=f"order-{number % 7}"), expected=1, deadline=60)
        assert len(gather._gatherer._closed) == 10
        assert sum(map(len, gather._gatherer._by_correlation.values())) == 10


# What fails.


class Away(Sender):
    """A channel whose broker is away: it connects for ever, or gives up after a minute."""

    name = address = "away"

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    async def send(self, *messages: Message) -> None:
        await asyncio.sleep(60)
        raise self.error or ConnectionLost("gone")


async def test_the_deadline_bounds_sending():
    """Fault 29: the broker is away, and the caller waits no longer than it asked to."""
    async with MemoryTransport() as transport:
        start = asyncio.get_running_loop().time()
        async with ScatterGather(Away(), transport.queue("replies")) as gather:
            with pytest.raises(RequestTimeout, match="away did not accept the request"):
                await gather.request("?", deadline=5)
            with pytest.raises(RequestTimeout):
                await anext(aiter(gather.request("?", deadline=5)))
        async with RequestReply(Away(), transport.queue("replies")) as ask:
            with pytest.raises(RequestTimeout):
                await ask.request("?", timeout=timedelta(seconds=5))
        assert asyncio.get_running_loop().time() - start == pytest.approx(15, abs=0.1)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0


async def test_what_was_answered_before_the_channel_confirmed_it_was_sent():
    """Fault 29: a confirmation that is lost costs nobody the replies."""

    class Unconfirmed(Away):
        async def send(self, *messages: Message) -> None:
            await transport.queue("replies").send(*(each.reply("yes") for each in messages))
            await super().send(*messages)

    async with MemoryTransport() as transport, ScatterGather(Unconfirmed(), transport.queue("replies")) as gather:
        result = await gather.request("?", deadline=5)
        assert [reply.body for reply in result.replies] == ["yes"]
        assert (await gather.request("?", expected=1, deadline=5)).completed_by == "expected"


async def test_the_deadline_bounds_connecting_to_a_reply_channel():
    """Fault 29: a channel given with the request may take for ever to connect to."""

    class Unreachable(Source):
        name = address = "unreachable"

        def receiver(self, *, capacity: int = 10) -> Any:
            receiver = transport.queue("replies").receiver(capacity=capacity)
            receiver.open = lambda: asyncio.sleep(3600)
            return receiver

    async with MemoryTransport() as transport:
        async with ScatterGather(transport.queue("asked"), transport.queue("replies")) as gather:
            with pytest.raises(RequestTimeout):
                await gather.request("?", deadline=5, replies=Unreachable())
        assert len(transport.queue("asked")) == 0


async def test_a_cancellation_from_outside_stays_one():
    """Fault 29: only the deadline's own interruption becomes a timeout."""
    async with MemoryTransport() as transport, ScatterGather(Away(), transport.queue("replies")) as gather:
        task = asyncio.ensure_future(gather.request("?", deadline=5))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert gather.in_flight == 0


@pytest.mark.parametrize("kind", [ScatterGather, RequestReply])
async def test_an_exception_in_the_block_comes_out_as_it_was_raised(kind):
    """Fault 30: no ExceptionGroup."""
    async with MemoryTransport() as transport:
        with pytest.raises(RequestTimeout):
            async with kind(transport.queue("asked"), transport.queue("replies")):
                raise RequestTimeout("mine")
        with pytest.raises(RequestTimeout):
            async with RequestReply(transport.queue("asked"), transport.queue("replies")) as ask:
                await ask.request("?", timeout=1)


async def test_what_connecting_raises_comes_out_as_it_was_raised():
    """Fault 30: the same for a reply channel that cannot be opened."""

    class Missing(Source):
        name = address = "missing"

        def receiver(self, *, capacity: int = 10) -> Any:
            raise ChannelNotFound("missing")

    async with MemoryTransport() as transport:
        for _ in range(2):
            gather = ScatterGather(transport.queue("asked"), Missing())
            with pytest.raises(ChannelNotFound):
                await gather.__aenter__()
            assert not gather.ready.is_set()


async def test_a_request_that_is_never_awaited_warns():
    """Fault 35: as Python does for a coroutine, with the caller's file and line."""
    async with asking() as gather:
        with pytest.warns(RuntimeWarning, match="request to 'asked' .* was never awaited") as caught:
            gather.request("?", deadline=5)
        assert (caught[0].filename, len(caught)) == (__file__, 1)
        with warnings.catch_warnings(record=True) as caught_none:
            warnings.simplefilter("always")
            await gather.request("?", deadline=5)
            await gather.request("?", deadline=5).start()
            async for _ in gather.request("?", deadline=5):
                pass
            gc.collect()
        assert caught_none == []


@pytest.mark.parametrize("raw", [b"Message at 12:00", b"12 o'clock", b"{", b"", b"\xff\xfe", b'{"a":NaN}'])
async def test_replies_that_are_not_json_are_read(raw):
    """Fault 6: plain text is a str, other bytes are bytes; none is tried again."""
    async with gathering_with_foreigner() as (gather, foreign):
        task = asyncio.ensure_future(
            gather.request("?", until=lambda replies: replies[-1].body is not None, deadline=9)
        )
        request = await foreign.request(0)
        await foreign.replies.send(Message.received(raw, correlation_id=request.correlation_id))
        result = await task
        assert result.completed_by == "predicate"
        assert result.replies[0].body == (raw.decode() if raw.isascii() else raw)
        assert result.replies[0].encode() == raw
        await until(lambda: len(foreign.replies) == 0)


async def test_what_a_predicate_raises_is_raised_to_the_caller():
    """A broken predicate is the caller's: the reply is not tried again."""
    async with gathering_with_foreigner() as (gather, foreign):
        task = asyncio.ensure_future(gather.request("?", until=lambda replies: 1 // 0, deadline=9))
        await foreign.answer(await foreign.request(0), 1)
        with pytest.raises(ZeroDivisionError):
            await task
        assert (gather.in_flight, len(foreign.replies)) == (0, 0)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"deadline": -1.0}, ConfigurationError, "deadline must be > 0, got -1.0"),
        ({"deadline": 0}, ConfigurationError, "deadline must be > 0, got 0"),
        ({"deadline": timedelta(seconds=-5)}, ConfigurationError, "deadline must be > 0"),
        ({"deadline": float("nan")}, ConfigurationError, "deadline must be > 0, got nan"),
        ({"deadline": float("inf")}, ConfigurationError, "deadline must be finite, got inf"),
        ({"deadline": "soon"}, TypeError, "deadline must be seconds or a timedelta, got 'soon'"),
        ({"deadline": "5"}, TypeError, "deadline must be seconds or a timedelta, got '5'"),
        ({"deadline": None}, TypeError, "deadline must be seconds or a timedelta, got None"),
        ({"deadline": True}, TypeError, "deadline must be seconds or a timedelta, got True"),
        ({"expected": -1}, ConfigurationError, "expected must be >= 0, got -1"),
        ({"expected": True}, TypeError, "expected must be an integer, got True"),
        ({"expected": "abc"}, TypeError, "expected must be a number or the responders' names, got 'abc'"),
        ({"expected": 1.5}, TypeError, "expected must be a number or the responders' names, got 1.5"),
        ({"expected": [1]}, TypeError, r"expected must hold names \(str\), got 1"),
        ({"count": 0}, ConfigurationError, "count must be >= 1, got 0"),
        ({"count": "2"}, TypeError, "count must be an integer, got '2'"),
        ({"until": 7}, TypeError, "until must be a function, got 7"),
        ({"replies": "queue"}, TypeError, "replies must be a queue"),
        ({"to": "topic"}, TypeError, "to must be a channel to send to, got 'topic'"),
    ],
)
async def test_each_parameter_of_a_request_is_checked(options, error, text):
    """Faults 17 and 18: by name and value, before anything is sent."""
    async with asking() as gather:
        with pytest.raises(error, match=text):
            gather.request("?", **{"deadline": 5, **options})


async def test_each_parameter_of_a_scatter_gather_is_checked():
    """Faults 17, 18 and 34: a string is no channel."""
    async with MemoryTransport() as transport:
        queue = transport.queue("asked")
        make: Any = ScatterGather
        for arguments in (("asked", queue), (queue, "replies"), (queue, None)):
            with pytest.raises(TypeError, match="must be a"):
                make(*arguments)
        for name, value in {"is_error": 1, "until": 1, "dead_letters": "x", "concurrency": "1", "grace": "x"}.items():
            with pytest.raises(TypeError, match=f"{name} must be"):
                make(queue, queue, **{name: value})
        for name, value in {"concurrency": 0, "grace": -1}.items():
            with pytest.raises(ConfigurationError, match=f"{name} must be"):
                make(queue, queue, **{name: value})
        with pytest.raises(ConfigurationError, match=r"timeout must be > 0, got -1\.0"):
            await RequestReply(queue, queue).request("?", timeout=-1.0)


# Starting and stopping.


async def test_health_names_the_reply_channel_that_cannot_be_consumed():
    """Fault 46: of scatter-gather and request-reply alike; both are services."""
    async with MemoryTransport() as transport:
        queue, replies = transport.queue("asked"), transport.queue("replies")
        failing = False
        make = replies.receiver

        def receiver(*, capacity: int = 10) -> Any:
            made = make(capacity=capacity)
            receive = made.receive

            async def failing_receive(*arguments: Any, **options: Any) -> Any:
                if failing:
                    raise ConnectionLost("the broker is away")
                return await receive(*arguments, **{**options, "wait": 0.01})

            made.receive = failing_receive
            return made

        replies.receiver = receiver
        for service in (ScatterGather(queue, replies), RequestReply(queue, replies)):
            assert not service.health().ok
            async with service:
                await until(lambda service=service: service.health().ok)
                failing = True
                await until(lambda service=service: not service.health().ok)
                assert "the broker is away" in (service.health().reason or "")
                failing = False
                await until(lambda service=service: service.health().ok)
            assert service.health().reason == "not running"


async def test_it_runs_as_a_service_beside_others():
    """`running` begins it, and drains it at the end."""
    async with MemoryTransport() as transport, responders(transport, {"a": 1}) as gather, running(gather):
        assert (await gather.request("?", expected=1, deadline=5)).answered == 1
        assert (gather.taken, await gather.open_requests()) == (1, [])
    assert not gather.ready.is_set()
    with pytest.raises(ConfigurationError):
        gather.request("?", deadline=5)


async def test_stopped_while_it_connects():
    """A broker that is away delays no end."""
    async with MemoryTransport() as transport:
        replies = transport.queue("replies")
        gather = ScatterGather(transport.queue("asked"), replies)
        make = replies.receiver

        def receiver(*, capacity: int = 10) -> Any:
            made = make(capacity=capacity)
            made.open = lambda: asyncio.sleep(3600)
            return made

        replies.receiver = receiver
        running_it = asyncio.create_task(gather.run())
        await asyncio.sleep(1)
        await asyncio.wait_for(gather.stop(grace=2), 5)
        await running_it


async def test_open_requests_end_with_an_error_when_the_block_ends():
    """Nobody waits for ever for replies that are not taken any more."""
    async with MemoryTransport() as transport:
        async with ScatterGather(transport.queue("asked"), transport.queue("replies")) as gather:
            tasks = [asyncio.ensure_future(gather.request("?", deadline=99)) for _ in range(3)]
            await until(lambda: gather.in_flight == 3)
        for task in tasks:
            with pytest.raises(ConfigurationError, match="closed"):
                await task
        with pytest.raises(ConfigurationError, match="async with"):
            gather.request("?", deadline=5)


async def test_one_of_two_waiters_may_leave():
    """The request ends when its last waiter is cancelled."""
    async with MemoryTransport() as transport, responders(transport, {"a": 5}) as gather, gather:
        request = gather.request("?", expected=1, deadline=60)
        tasks = [asyncio.ensure_future(request) for _ in range(3)]
        await asyncio.sleep(1)
        tasks[0].cancel()
        await asyncio.sleep(1)
        assert gather.in_flight == 1
        assert (await tasks[1]).answered == (await tasks[2]).answered == 1


async def test_a_started_request_goes_on_by_itself():
    """Its result can be asked for, awaited and watched by its id."""
    async with MemoryTransport() as transport, responders(transport, {"a": 1, "b": 2}) as gather, gather:
        key = await gather.request("?", expected=2, deadline=60).start()
        running = await gather.get(key)
        assert running is not None
        assert (running.completed_by, running.answered) == (None, 0)
        assert names([reply async for reply in gather.watch(key)]) == ["a", "b"]
        assert names((await gather.result(key)).replies) == ["a", "b"]
        assert names([reply async for reply in gather.watch(key)]) == ["a", "b"]
        assert await gather.get("unknown") is None
        with pytest.raises(KeyError):
            await gather.result("unknown")


async def test_stopping_takes_no_longer_than_its_grace():
    """Fault 41: also where the reply channel hangs while it closes."""

    class Hanging(Source):
        name = address = "hanging"

        def receiver(self, *, capacity: int = 10) -> Any:
            receiver = transport.queue("replies").receiver(capacity=capacity)
            receiver.aclose = lambda: asyncio.sleep(3600)
            return receiver

    async with MemoryTransport() as transport:
        start = asyncio.get_running_loop().time()
        async with ScatterGather(transport.queue("asked"), Hanging(), grace=3):
            pass
        assert asyncio.get_running_loop().time() - start <= 5


async def test_a_reply_channel_that_fails_later_is_consumed_again():
    """Fault 46: the failure is known, and ends by itself."""
    async with MemoryTransport() as transport:
        failures = iter([None, ConnectionLost("gone"), ConnectionLost("still gone"), None])
        broken = asyncio.Event()

        class Breaking(Source):
            name = address = "breaking"

            def receiver(self, *, capacity: int = 10) -> Any:
                error = next(failures)
                if error is not None:
                    raise error
                receiver = transport.queue("replies").receiver(capacity=capacity)
                receive = receiver.receive

                async def breaking(limit: int, **options: Any) -> Any:
                    if not broken.is_set():
                        broken.set()
                        raise SystemError("the driver is broken")
                    return await receive(limit, **options)

                receiver.receive = breaking
                return receiver

        async with ScatterGather(transport.queue("asked"), Breaking()) as gather:
            await broken.wait()
            await asyncio.sleep(120)
            assert gather.ready.is_set()
            task = asyncio.ensure_future(gather.request("?", expected=1, deadline=60))
            await until(lambda: gather.in_flight == 1)
            await transport.queue("replies").send(transport.queue("asked").messages()[0].reply(1))
            assert (await task).answered == 1


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
