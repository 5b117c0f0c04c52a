"""The outbox: full calls without a timer, both limits, outcomes per entry, order within a group, an end."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from eip import Message
from eip.errors import (
    AccessDenied,
    ConnectionLost,
    InvalidMessage,
    PartialSendError,
    SendError,
    Throttled,
)
from eip.limits import Capabilities
from eip.transports.aws._batch_dispatcher import FRUGAL, Batching
from eip.transports.aws._batching import BatchAccumulator
from eip.transports.aws._entry_queue import Entry

LIMITS = Capabilities(batch_entries=10, batch_bytes=1000)


class Service:
    """Accepts everything after a round trip, save what `fate` says of an entry; raised errors are those of all."""

    def __init__(self, *, round_trip=0.01, fate=lambda body: None, batching=FRUGAL, **options):
        self.calls: list[list[Any]] = []
        self.accepted: list[Any] = []
        self.under_way = self.most = 0
        self._round_trip, self._fate = round_trip, fate
        self.outbox = BatchAccumulator(self._call, options.pop("limits", LIMITS), batching=batching, **options)

    async def _call(self, batch):
        self.calls.append([each.message.body for each in batch])
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(self._round_trip(batch) if callable(self._round_trip) else self._round_trip)
        finally:
            self.under_way -= 1
        outcomes = []
        for each in batch:
            outcome = self._fate(each.message.body)
            if isinstance(outcome, BaseException) and getattr(outcome, "of_all", False):
                raise outcome
            outcomes.append(outcome)
            if outcome is None:
                self.accepted.append(each.message.body)
        return outcomes

    async def send(self, *bodies, size=1, group=None):
        await self.outbox.send([Entry(Message(body), {}, size, group) for body in bodies])


def of_all(error):
    error.of_all = True
    return error


async def test_what_comes_alone_goes_at_once():
    service = Service(round_trip=1.0)
    begun = asyncio.get_running_loop().time()
    await service.send("a")
    assert asyncio.get_running_loop().time() - begun == pytest.approx(1.0)


async def test_while_a_call_is_under_way_the_next_one_fills():
    service = Service()
    await asyncio.gather(*(service.send(number) for number in range(25)))
    assert [len(each) for each in service.calls] == [10, 10, 5]
    assert service.accepted == list(range(25))


async def test_full_calls_run_side_by_side_in_bounded_number():
    service = Service(round_trip=1.0)
    await service.send(*range(1000))
    assert {len(each) for each in service.calls} == {10}
    assert service.most == 16


async def test_neither_limit_is_exceeded_whatever_the_sizes():
    dice = random.Random(3)
    sizes = [dice.randrange(1, 1001) for _ in range(300)]
    service = Service()
    await asyncio.gather(*(service.send(number, size=size) for number, size in enumerate(sizes)))
    for call in service.calls:
        assert len(call) <= 10
        assert sum(sizes[number] for number in call) <= 1000
    assert sorted(service.accepted) == list(range(300))


async def test_a_call_that_hangs_holds_nobody_else_up():
    service = Service(round_trip=lambda batch: 1000.0 if batch[0].message.body == "hangs" else 0.01)
    hanging = asyncio.create_task(service.send("hangs"))
    await asyncio.sleep(0.005)
    begun = asyncio.get_running_loop().time()
    await service.send("a")
    assert asyncio.get_running_loop().time() - begun < 0.1
    hanging.cancel()
    await service.outbox.flush()


async def test_a_linger_waits_until_the_call_is_full_or_its_time_is_over():
    service = Service(batching=Batching(5.0))
    loop, begun = asyncio.get_running_loop(), asyncio.get_running_loop().time()
    sends = [asyncio.create_task(service.send(number)) for number in range(3)]
    await asyncio.gather(*sends)
    assert loop.time() - begun == pytest.approx(5.01)
    begun = loop.time()
    await asyncio.gather(*(service.send(number) for number in range(10)))
    assert loop.time() - begun == pytest.approx(0.01)
    await service.send("big", size=1000)
    assert loop.time() - begun == pytest.approx(0.02)
    await asyncio.sleep(60)
    assert [len(each) for each in service.calls] == [3, 10, 1]


async def test_several_calls_that_are_not_full_may_be_under_way():
    """Half the wait for more calls; those of a group still go one after the other."""
    took = {}
    for partial in (1, 3):
        service = Service(batching=Batching(max_partial_calls=partial), round_trip=0.008)
        loop = asyncio.get_running_loop()
        times: list[float] = []

        async def send(number, service=service, loop=loop, times=times):
            begun = loop.time()
            await service.send(number, group=f"g{number % 2}" if number % 5 == 0 else None)
            times.append(loop.time() - begun)

        sends = []
        for number in range(200):
            sends.append(asyncio.create_task(send(number)))
            await asyncio.sleep(0.002)
        await asyncio.gather(*sends)
        took[partial] = (round(sorted(times)[100] * 1000, 1), len(service.calls))
        assert partial <= service.most <= partial + 1  # one more where entries wait for 50 ms
        for group in (0, 5):
            assert [each for each in service.accepted if each % 10 == group] == list(range(group, 200, 10))
    assert (took[1][0], took[3][0]) == (12.0, 10.0)
    assert took[3][1] < 3.5 * took[1][1]


async def test_the_end_of_a_call_does_not_cut_the_linger_of_the_next_one_short():
    service = Service(batching=Batching(5.0), round_trip=1.0)
    first = asyncio.create_task(service.send(*range(10)))
    await asyncio.sleep(0.5)
    begun = asyncio.get_running_loop().time()
    await service.send("late")
    assert asyncio.get_running_loop().time() - begun >= 4.0
    await first


async def test_a_flush_waits_for_no_linger():
    service = Service(batching=Batching(60.0))
    send = asyncio.create_task(service.send("a"))
    await asyncio.sleep(0)
    begun = asyncio.get_running_loop().time()
    await service.outbox.flush()
    assert send.done() or not service.outbox._queue.waiting
    await send
    assert asyncio.get_running_loop().time() - begun < 1


async def test_more_than_may_wait_is_sent_all_the_same():
    service = Service(round_trip=0.0)
    await service.send(*range(25_000))
    assert service.accepted == list(range(25_000))
    await asyncio.gather(*(service.send(number, size=900) for number in range(200)))
    assert len(service.accepted) == 25_200


async def test_what_waits_is_bounded_in_bytes_too():
    service = Service(round_trip=1.0, limits=Capabilities(batch_entries=10, batch_bytes=1 << 20))
    sends = [asyncio.create_task(service.send(number, size=1 << 20)) for number in range(500)]
    await asyncio.sleep(0.1)
    assert service.outbox._queue.size <= 64 << 20
    await asyncio.gather(*sends)
    assert len(service.accepted) == 500


async def test_failures_for_the_moment_are_tried_again_alone():
    failures = {3: 2, 7: 1}

    def fate(body):
        if failures.get(body):
            failures[body] -= 1
            return Throttled("slow down")
        return None

    service = Service(fate=fate)
    await service.send(*range(10))
    assert sorted(service.accepted) == list(range(10))
    assert service.calls[1:] == [[3, 7], [3]]


async def test_the_outcome_of_each_entry_is_told_to_its_own_sender():
    refused = AccessDenied("not you")
    service = Service(fate=lambda body: refused if body in ("x", "y") else None)
    results = await asyncio.gather(
        service.send("a", "x", "b", "y"), service.send("c"), service.send("x"), return_exceptions=True
    )
    partial, fine, single = results
    assert isinstance(partial, PartialSendError)
    assert [each.message.body for each in partial.failed] == ["x", "y"]
    assert partial.sent == 2
    assert fine is None
    assert single is refused


async def test_what_never_succeeds_is_given_up():
    service = Service(fate=lambda _: of_all(ConnectionLost("no answer")))
    with pytest.raises(ConnectionLost):
        await service.send("a", "b")
    assert len(service.calls) == 8


async def test_one_bad_entry_does_not_fail_the_others_of_its_call():
    service = Service(fate=lambda body: of_all(InvalidMessage("no")) if body == "bad" else None)
    results = await asyncio.gather(*(service.send(each) for each in ("a", "bad", "b")), return_exceptions=True)
    assert [type(each) for each in results] == [type(None), InvalidMessage, type(None)]
    assert service.calls == [["a", "bad", "b"], ["a"], ["bad"], ["b"]]


@pytest.mark.parametrize("seed", range(20))
async def test_the_order_of_a_group_survives_failures_and_what_would_break_it_is_reported(seed):
    dice = random.Random(seed)
    accepted: dict[Any, None] = {}

    async def call(batch):
        await asyncio.sleep(dice.random())
        if dice.random() < 0.1:  # nothing has taken effect
            raise ConnectionLost("no answer")
        lost = dice.random() < 0.1
        refused = [not lost and each.message.body not in accepted and dice.random() < 0.2 for each in batch]
        accepted.update({each.message.body: None for each, no in zip(batch, refused, strict=True) if not no})
        if lost:  # all has taken effect; sent again, a FIFO queue knows it
            raise ConnectionLost("no answer")
        return [Throttled("slow down") if no else None for no in refused]

    outbox = BatchAccumulator(call, LIMITS)

    async def produce(group):
        failed = []
        for start in range(0, 60, 6):
            try:
                bodies = [(group, start + each) for each in range(6)]
                await outbox.send([Entry(Message(body), {}, 1, str(group)) for body in bodies])
            except PartialSendError as error:
                failed += [each.message.body for each in error.failed]
        return failed

    for group, failed in enumerate(await asyncio.gather(*(produce(group) for group in range(5)))):
        got = [body for body in accepted if body[0] == group]
        assert got == sorted(got)
        assert sorted([*got, *failed]) == [(group, number) for number in range(60)]


async def test_groups_do_not_wait_for_each_other():
    service = Service(round_trip=lambda batch: 10.0 if batch[0].group == "slow" else 0.01)
    slow = asyncio.create_task(service.send(1, group="slow"))
    await asyncio.sleep(0.005)
    behind = asyncio.create_task(service.send(2, group="slow"))
    begun = asyncio.get_running_loop().time()
    for number in range(5):
        await service.send(number, group="quick")
    assert asyncio.get_running_loop().time() - begun < 1
    await asyncio.gather(slow, behind)
    assert service.accepted[-2:] == [1, 2]


async def test_closing_sends_what_was_accepted_and_fails_what_cannot_be_sent_in_time():
    service = Service(batching=Batching(60.0))
    send = asyncio.create_task(service.send("a"))
    await asyncio.sleep(0)
    await service.outbox.aclose(timeout=5)
    await send
    service = Service(round_trip=1000.0)
    sends = [asyncio.create_task(service.send(number)) for number in range(500)]
    await asyncio.sleep(0.1)
    await service.outbox.aclose(timeout=5)
    results = await asyncio.gather(*sends, return_exceptions=True)
    assert all(isinstance(each, SendError) for each in results)
    assert not service.outbox._calls


async def test_a_cancelled_send_disturbs_nobody():
    service = Service(batching=Batching(1.0))
    cancelled = asyncio.create_task(service.send("a"))
    other = asyncio.create_task(service.send("b"))
    await asyncio.sleep(0)
    cancelled.cancel()
    await other
    assert service.accepted == ["a", "b"]
