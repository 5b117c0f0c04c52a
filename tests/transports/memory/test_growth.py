"""What an operation of the embedded queue costs does not grow with what the queue holds. Operations are counted."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import eip
from eip import FilterPolicy, Message
from eip.channels import Filter
from eip.matching.filter_policy import Scope
from eip.transports.memory import MemoryTransport
from eip.transports.memory._ready import StoreDelivery
from eip.transports.memory._store import Store
from eip.transports.memory._subscriptions import Subscription, Subscriptions
from tests.support.operations import operations

SIZES = (200, 3200)
"""16 times as much: what is linear in it shows, what is logarithmic costs a third more."""


def growth(cost: Callable[[int], float]) -> float:
    few, many = map(cost, SIZES)
    return many / few


def holding(count: int, *, fifo: bool = False) -> tuple[Store, list[StoreDelivery]]:
    """A store with so many messages, all leased one by one, as consumers that are busy do."""
    store = Store(fifo=fifo, visibility=30.0)
    for number in range(count):
        store.put(Message(number, group_id=str(number) if fifo else None).at_rest())
    leased = [store.take(None, 1)[0] for _ in range(count)]  # type: ignore[arg-type]
    return store, leased  # type: ignore[return-value]


async def test_a_delay_that_is_over_costs_the_same_however_many_are_leased():
    async def cost(leased: int) -> float:
        store, _ = holding(leased)
        store.visibility = 1000.0
        for number in range(50):
            store.put(Message(number).at_rest(), delay=1 + number * 0.01)
        total = 0
        for _ in range(50):
            await asyncio.sleep(0.01)
            total += operations(store._tick)
        await asyncio.sleep(1)
        return operations(store._tick) + total + 1

    few, many = [await cost(each) for each in SIZES]
    assert many < 1.5 * few


async def test_leases_that_are_kept_cost_the_same_each_however_many_there_are():
    def cost(count: int) -> float:
        store, leased = holding(count)
        now = asyncio.get_running_loop().time()

        def keep() -> None:
            for start in range(0, count, 10):
                store.extend(leased[start : start + 10], 60.0 + start / 1000)
            store._end(store._ends.pop(0)[2], now + 31)

        return operations(keep) / count

    assert growth(cost) < 1.3


async def test_each_end_of_a_lease_looks_only_at_leases_that_end():
    store, leased = holding(1000)
    store.extend(leased[1:], 600.0)
    await asyncio.sleep(30)
    assert store.leased == 999
    await asyncio.sleep(5)
    assert operations(store._tick) < 500  # a thousand are leased


async def test_giving_back_in_random_order_costs_the_same_each():
    def cost(count: int) -> float:
        store, leased = holding(count)
        random.Random(7).shuffle(leased)
        return operations(lambda: [store.nack((each,), 0.0) for each in leased]) / count

    assert growth(cost) < 1.25


async def test_what_was_given_back_comes_again_in_the_order_of_arrival():
    store, leased = holding(50)
    store.put(Message(50).at_rest())
    random.Random(7).shuffle(leased)
    for delivery in leased:
        store.nack((delivery,), 0.0)
    again = store.take(None, 100)  # type: ignore[arg-type]
    assert [each.message.body for each in again] == list(range(51))
    assert [each.receive_count for each in again] == [2] * 50 + [1]


async def test_the_next_of_many_groups_costs_the_same():
    def cost(groups: int) -> float:
        store = Store(fifo=True, visibility=30.0)
        for number in range(groups):
            store.put(Message(number, group_id=str(number)).at_rest())

        def drain() -> None:
            while taken := store.take(None, 1):  # type: ignore[arg-type]
                store.ack(taken)

        return operations(drain) / groups

    assert growth(cost) < 1.25


async def test_settled_deliveries_are_not_kept_until_their_lease_would_have_ended():
    store = Store(fifo=False, visibility=30.0)
    for number in range(20_000):
        store.put(Message(number).at_rest())
        store.ack(store.take(None, 1))  # type: ignore[arg-type]
    assert store._in_ends <= 101


async def test_a_receiver_cannot_change_what_the_next_one_gets():
    store = Store(fifo=False, visibility=30.0)
    store.put(Message({"items": [1]}).at_rest())
    [first] = store.take(None, 1)  # type: ignore[arg-type]
    first.message.body["items"].append(2)
    assert store.messages()[0].body == {"items": [1]}
    store.nack([first], 0.0)
    [second] = store.take(None, 1)  # type: ignore[arg-type]
    assert second.message.body == {"items": [1]}
    assert second.message is not first.message


@pytest.mark.parametrize("scope", ["MessageAttributes", "MessageBody"])
def test_a_topic_matches_many_filter_policies_at_the_cost_of_those_that_accept(scope: Scope):
    def cost(count: int) -> float:
        subscriptions = Subscriptions()
        for number in range(count):
            policy = FilterPolicy({"level": [{"numeric": [">=", number, "<", number + 1]}]}, scope)
            subscriptions.put(str(number), Subscription(queue, policy, None))
        assert len(subscriptions.matching(message)) == 1
        return operations(lambda: subscriptions.matching(message))

    queue = MemoryTransport().queue("all")
    message = Message({"level": 77.5}, attributes={"level": 77.5})
    assert growth(cost) < 1.3


async def test_a_topic_delivers_by_policies_predicates_and_none_in_the_order_of_subscribing():
    topic = MemoryTransport().topic("orders")
    filters: list[Filter | None] = [
        None,
        FilterPolicy({"kind": ["a"]}),
        lambda message: message.body["n"] > 1,
        FilterPolicy({"n": [{"numeric": [">", 1]}]}, "MessageBody"),
        FilterPolicy({}),
        FilterPolicy({"kind": [{"anything-but": "a"}]}),
    ]
    queues = [topic.subscription(str(number), filter=each) for number, each in enumerate(filters)]
    await topic.send(Message({"n": 2}, attributes={"kind": "a"}), Message({"n": 1}), Message({"n": 3}))
    got = [[each.body["n"] for each in queue.messages()] for queue in queues]
    assert got == [[2, 1, 3], [2], [2, 3], [2, 3], [2, 1, 3], []]
    topic.unsubscribe("1")
    topic.resubscribe("5", filter=None, queue=queues[5], dead_letters=None)
    await topic.send(Message({"n": 9}, attributes={"kind": "a"}))
    assert (len(queues[1]), len(queues[5])) == (1, 1)


def test_no_first_of_a_dictionary_is_searched_for_behind_all_that_left():
    """`del d[next(iter(d))]` takes as long as d once was large; `OrderedDict.popitem` does not."""
    root = Path(eip.__file__).parent
    files = [each for folder in (root, root / "patterns", root / "transports") for each in folder.glob("**/*.py")]
    assert len(files) > 100
    assert [each for each in files if re.search(r"\[next\(iter\(", each.read_text(encoding="utf-8"))] == []
