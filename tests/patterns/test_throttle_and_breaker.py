"""Throttle and circuit breaker: what they let through, and when."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eip import Consumer, Message
from eip.errors import ConfigurationError, ConnectionLost, Reject, Retry
from eip.patterns.circuit_breaker import CircuitBreaker
from eip.patterns.diagram import diagram
from eip.patterns.throttle import _Turns, limited_by, throttle
from eip.transports.memory import MemoryTransport
from tests.runtime.scripted import running, until


def now() -> float:
    return asyncio.get_running_loop().time()


class Service:
    """Handles messages, or fails, and notes when."""

    def __init__(self, *, broken: bool = False) -> None:
        self.broken, self.takes = broken, 0.0
        self.calls: list[Any] = []
        self.error: Exception = ConnectionLost("gone")

    async def handle(self, message: Message) -> None:
        self.calls.append((now(), message.body))
        await asyncio.sleep(self.takes)
        if self.broken:
            raise self.error

    def break_(self) -> None:
        self.broken = True

    @property
    def times(self) -> list:
        return [pytest.approx(at) for at, _ in self.calls]


async def all_of(handler, *bodies) -> list:
    return await asyncio.gather(*(handler(Message(each)) for each in bodies), return_exceptions=True)


# Throttle.


async def test_messages_are_spaced_evenly_in_their_order():
    service = Service()
    await all_of(throttle(2)(service.handle), *range(5))
    assert service.times == [0, 0.5, 1, 1.5, 2]
    assert [body for _, body in service.calls] == list(range(5))


async def test_a_burst_goes_at_once_after_a_pause():
    service = Service()
    handle = throttle(60, per=60, burst=3)(service.handle)
    await all_of(handle, *range(5))
    assert service.times == [0, 0, 0, 1, 2]
    await asyncio.sleep(10)
    service.calls.clear()
    await all_of(handle, *range(4))
    assert service.times == [12, 12, 12, 13]


async def test_each_key_has_its_own_rate_and_none_is_not_throttled():
    service = Service()
    handle = throttle(1, key=lambda message: message.body)(service.handle)
    await all_of(handle, "a", "a", "b", None, None, "b")
    assert sorted(service.calls, key=str) == sorted(
        [(0, "a"), (1, "a"), (0, "b"), (0, None), (0, None), (1, "b")], key=str
    )


async def test_who_would_wait_too_long_goes_back_until_its_turn():
    service = Service()
    outcomes = await all_of(throttle(1, max_wait=1.5)(service.handle), *range(4))
    assert service.times == [0, 1]
    assert [each.delay for each in outcomes if isinstance(each, Retry)] == [2, 2]


async def test_idle_keys_are_forgotten():
    turns = _Turns(1.0, 1)
    for each in range(10_000):
        turns.take(str(each), 0)
    await asyncio.sleep(1)
    turns.take("one more", 0)
    assert set(turns._next) == {"one more"}


@pytest.mark.parametrize("options", [{"rate": 0}, {"rate": 1, "per": 0}, {"rate": 1, "burst": 0}])
def test_rates_that_cannot_be_are_refused(options):
    with pytest.raises(ConfigurationError):
        throttle(**options)


async def test_any_limiter_will_do():
    service = Service()
    service.takes = 1
    handle = limited_by(asyncio.Semaphore(2))(service.handle)
    await all_of(handle, *range(4))
    assert service.times == [0, 0, 1, 1]
    assert str(diagram(handle)) == "limited_by Semaphore\n  handle"


async def test_a_throttled_consumer_handles_all_and_uses_no_receive_up():
    service = Service()
    async with MemoryTransport() as transport:
        queue = transport.queue("in")
        await queue.send(*(Message(each) for each in range(100)))
        async with running(Consumer(queue, throttle(1)(service.handle), concurrency=10)) as consumer:
            await until(lambda: len(queue) == 0)
        assert consumer.stats.retried == 0
    assert service.calls[-1][0] == pytest.approx(99, abs=1)


# Circuit breaker.


def state(breaker: CircuitBreaker) -> str:
    return breaker.state


async def fail(handle, times: int) -> None:
    for _ in range(times):
        with pytest.raises(ConnectionLost):
            await handle(Message(0))


async def test_it_opens_after_failures_in_a_row_and_closes_when_one_succeeds():
    service, breaker = Service(broken=True), CircuitBreaker(max_failures=3, open_for=30)
    handle = breaker(service.handle)
    await fail(handle, 2)
    service.broken = False
    await handle(Message(0))
    service.break_()
    await fail(handle, 2)
    assert state(breaker) == "closed"
    await fail(handle, 1)
    assert state(breaker) == "open"
    service.broken = False
    await handle(Message(1))
    assert service.calls[-1] == (30, 1)
    assert state(breaker) == "closed"


async def test_while_it_is_open_messages_wait_and_one_tries():
    service, breaker = Service(broken=True), CircuitBreaker(max_failures=1, open_for=30)
    handle = breaker(service.handle)
    await fail(handle, 1)
    service.broken, service.takes = False, 5
    await all_of(handle, 1, 2, 3)
    assert service.times == [0, 30, 35, 35]


async def test_each_failed_trial_doubles_the_pause_up_to_the_longest():
    service, breaker = Service(broken=True), CircuitBreaker(max_failures=1, open_for=10, max_open=40)
    handle = breaker(service.handle)
    await fail(handle, 6)
    assert service.times == [0, 10, 30, 70, 110, 150]


async def test_a_message_that_waits_too_long_goes_back_to_its_channel():
    service, breaker = Service(broken=True), CircuitBreaker(max_failures=1, open_for=60, max_wait=20)
    handle = breaker(service.handle)
    await fail(handle, 1)
    with pytest.raises(Retry) as raised:
        await handle(Message(1))
    assert raised.value.delay == 60
    await asyncio.sleep(45)
    service.takes = 100
    outcomes = await all_of(handle, 1, 2)
    assert [type(each) for each in outcomes] == [ConnectionLost, Retry]


async def test_a_failure_of_the_message_itself_does_not_count():
    service, breaker = Service(broken=True), CircuitBreaker(max_failures=1)
    service.error = Reject("bad")
    with pytest.raises(Reject):
        await breaker(service.handle)(Message(1))
    assert state(breaker) == "closed"


async def test_only_the_given_errors_count():
    service, breaker = Service(broken=True), CircuitBreaker(max_failures=1, on=(TimeoutError,))
    await fail(breaker(service.handle), 3)
    assert state(breaker) == "closed"


async def test_a_cancelled_trial_lets_the_next_one_try():
    service, breaker = Service(broken=True), CircuitBreaker(max_failures=1, open_for=10)
    handle = breaker(service.handle)
    await fail(handle, 1)
    service.broken, service.takes = False, 100
    task = asyncio.ensure_future(handle(Message(1)))
    other = asyncio.ensure_future(handle(Message(2)))
    await asyncio.sleep(15)
    assert state(breaker) == "half-open"
    task.cancel()
    await other
    assert service.times == [0, 10, 15]
    assert state(breaker) == "closed"


async def test_outcomes_of_what_began_before_it_opened_change_nothing():
    service, breaker = Service(), CircuitBreaker(max_failures=1, open_for=50)
    handle = breaker(service.handle)
    service.takes = 20
    slow = asyncio.ensure_future(handle(Message(1)))
    await asyncio.sleep(1)
    service.broken, service.takes = True, 0
    await fail(handle, 1)
    service.broken = False
    await slow
    assert state(breaker) == "open"


async def test_one_breaker_serves_several_handlers():
    service, breaker = Service(broken=True), CircuitBreaker("billing", max_failures=2)
    await fail(breaker(service.handle), 1)
    await fail(breaker(service.handle), 1)
    assert state(breaker) == "open"
    assert repr(breaker) == "<CircuitBreaker billing open>"


@pytest.mark.parametrize("options", [{"max_failures": 0}, {"open_for": 0}, {"open_for": 10, "max_open": 5}])
async def test_breakers_that_cannot_be_are_refused(options):
    with pytest.raises(ConfigurationError):
        CircuitBreaker(**options)


async def test_a_consumer_pauses_while_the_circuit_is_open_and_loses_nothing():
    service, breaker = Service(broken=True), CircuitBreaker(max_failures=3, open_for=30)
    async with MemoryTransport() as transport:
        queue = transport.queue("in")
        await queue.send(*(Message(each) for each in range(50)))
        async with running(Consumer(queue, breaker(service.handle), concurrency=5)):
            await asyncio.sleep(100)
            tried = len(service.calls)
            service.broken = False
            await until(lambda: len(queue) == 0)
    assert tried < 12
    assert {body for _, body in service.calls} == set(range(50))
