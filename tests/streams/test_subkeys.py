"""A hot key is divided into sub-keys that keep their order, and whose key is known again."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eip import Message
from eip.errors import ConfigurationError
from eip.streams import BatchConsumer, KeySubdivider
from tests.runtime.scripted import Outbox

KEYS = st.text(st.sampled_from("ab#01"), max_size=6)


@given(KEYS, st.one_of(st.none(), st.sets(KEYS, max_size=3)), st.integers(2, 12), st.integers(0, 20))
def test_the_reverse_gives_the_key_whatever_it_looks_like(key, keys, parts, seed):
    divide = KeySubdivider(parts, keys=keys, by=lambda _: seed)
    divided = divide.divide(Message(1, group_id=key))
    assert divide.key_of(divided.group_id or "") == key
    assert divide.restore(divided).group_id == key


@given(st.sets(KEYS, min_size=2, max_size=8), st.sets(KEYS, max_size=3))
def test_no_two_keys_share_a_sub_key(all_keys, hot):
    divide = KeySubdivider(3, keys=hot)
    found = [divide.divide(Message(1, group_id=key)).group_id for key in all_keys for _ in range(3)]
    by_key = [set(found[place : place + 3]) for place in range(0, len(found), 3)]
    assert sum(map(len, by_key)) == len(set().union(*by_key))


def test_messages_take_turns_or_go_by_what_they_have_in_common():
    turns = KeySubdivider(3)
    assert [turns.divide(Message(1, group_id="k")).group_id for _ in range(4)] == ["k#0", "k#1", "k#2", "k#0"]
    by_order = KeySubdivider(3, by=lambda message: message.body)
    found = {body: {by_order.divide(Message(body, group_id="k")).group_id for _ in range(3)} for body in range(30)}
    assert {len(each) for each in found.values()} == {1}
    assert set().union(*found.values()) == set(by_order.sub_keys("k")) == {"k#0", "k#1", "k#2"}


def test_what_is_not_divided_stays_the_same_message():
    divide = KeySubdivider(3, keys={"hot"})
    for message in (Message(1), Message(1, group_id="cold"), Message(1, group_id="hot#7"), Message(1, group_id="hot#")):
        assert divide.divide(message) is message
        assert divide.restore(message) is message
    assert divide.divide(Message(1, group_id="hot#1")).group_id == "hot#1#0", "it would be taken for a sub-key"


async def test_a_sender_divides_and_sub_keys_keep_their_order_over_shards(memory):
    """The hot key's messages spread over shards and lanes; each order within the key stays in order."""
    stream = memory.stream("clicks", shards=4)
    divide = KeySubdivider(8, keys={"hot"}, by=lambda message: message.body["order"])
    seen: dict[int, list[int]] = {}
    done = asyncio.Event()

    async def handle(messages):
        await asyncio.sleep(0.01 * len(messages))
        for each in map(divide.restore, messages):
            assert each.group_id == "hot"
            seen.setdefault(each.body["order"], []).append(each.body["step"])
        if sum(map(len, seen.values())) == 400:
            done.set()

    group = stream.group("g", start="trim_horizon")
    async with BatchConsumer(group, handle, batch_size=7, parallelization=10):
        messages = [Message({"order": n % 20, "step": n // 20}, group_id="hot") for n in range(400)]
        await divide.sender(stream).send(*messages)
        await done.wait()
    assert seen == {order: list(range(20)) for order in range(20)}
    assert sum(bool(stream.records(each.id)) for each in stream.shards) > 1


async def test_a_decorated_sender_keeps_its_name():
    out = Outbox()
    sender = KeySubdivider(2).sender(out)
    await sender.send(Message(1, group_id="k"))
    assert (sender.name, out.sent[0].group_id) == (out.name, "k#0")


@pytest.mark.parametrize(
    ("options", "error", "complaint"),
    [
        ({"parts": 1}, ConfigurationError, "parts must be >= 2"),
        ({"parts": 10_001}, ConfigurationError, "parts must be at most 10,000"),
        ({"parts": 2.5}, TypeError, "parts must be an integer"),
        ({"parts": 2, "keys": "hot"}, TypeError, "keys must be a collection"),
        ({"parts": 2, "by": "order"}, TypeError, "by must be a function"),
    ],
)
def test_what_cannot_be_is_refused(options, error, complaint):
    with pytest.raises(error, match=complaint):
        KeySubdivider(**options)
