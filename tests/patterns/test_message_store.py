"""Message store: whole messages as objects, read back by the time of their making."""

from __future__ import annotations

import asyncio

import pytest

from eip import Message
from eip.errors import ConfigurationError, InvalidMessage, PartialSendError, SendError, StoreError
from eip.message import SequenceInfo
from eip.patterns import message_store as module
from eip.patterns.message_store import MessageStore
from eip.patterns.replay import replay_messages
from eip.patterns.wire_tap import wire_tap
from eip.stores.objects import FileObjects, MemoryObjects
from eip.testing import EPOCH
from tests.runtime.scripted import Outbox


@pytest.fixture(params=["memory", "files"])
def objects(request, tmp_path):
    return MemoryObjects() if request.param == "memory" else FileObjects(tmp_path / "audit")


def made(number, at):
    return Message(number, id=f"m{number}", created_at=at)


async def kept(store, start=EPOCH, end=EPOCH + 86_400):
    return [message async for message in store.messages(start, end)]


async def test_a_message_comes_back_whole(objects):
    message = Message(
        {"n": 1},
        type="Sold",
        group_id="g",
        return_address="memory:queue/r",
        sequence=SequenceInfo("s", 0, 1),
        attributes={"kind": b"\x00", "n": 1.5},
        created_at=EPOCH + 0.25,
    )
    store = MessageStore(objects, prefix="shop/orders/")
    await store.send(message)
    assert await kept(store) == [message]


async def test_a_window_is_read_in_order_page_by_page(objects, monkeypatch):
    monkeypatch.setattr(module, "_PAGE", 7)
    store = MessageStore(objects)
    times = {number: EPOCH - 600 + number * 50.5 for number in range(60)}
    await store.send(*(made(number, at) for number, at in reversed(times.items())))
    start, end = EPOCH + 25, EPOCH + 1000  # in the middle of a minute
    assert any(EPOCH <= at < start for at in times.values())
    found = await kept(store, start, end)
    assert [each.body for each in found] == [number for number, at in times.items() if start <= at <= end]
    assert await kept(store, EPOCH + 90_000, EPOCH + 90_001) == []


async def test_the_same_message_twice_is_one_object(objects):
    store = MessageStore(objects)
    for _ in range(2):
        await store.send(made(1, EPOCH), made(1, EPOCH))
    assert len(await kept(store)) == 1


async def test_prefixes_keep_apart_and_what_is_not_ours_is_passed_over(objects):
    one, two = MessageStore(objects, prefix="one/"), MessageStore(objects, prefix="two/")
    await one.send(made(1, EPOCH))
    await two.send(made(2, EPOCH))
    await objects.put("one/2026/01/01/0000/readme", b"not a message")
    assert [each.body for each in await kept(one)] == [1]
    assert [each.body for each in await kept(two)] == [2]


async def test_a_wire_tap_keeps_what_passes_and_it_is_sent_once_more(objects):
    store, handled, out = MessageStore(objects), [], Outbox()

    async def handle(message: Message) -> None:
        handled.append(message.body)

    tapped = wire_tap(store, required=True)(handle)
    for number in range(3):
        await tapped(made(number, EPOCH + number * 60))
    assert await replay_messages(store.messages(EPOCH + 60, EPOCH + 120), out, name="fix") == 2
    assert [(each.body, each.replay_name) for each in out.sent] == [(1, "fix"), (2, "fix")]
    for message in out.sent:
        await tapped(message)
    assert [each.replay_name for each in await kept(store)] == [None] * 3, "what is replayed is not kept again"


async def test_what_was_not_written_is_told_and_the_rest_is_there():
    class Fails(MemoryObjects):
        def __init__(self, some):
            super().__init__()
            self.some, self.at_once, self.most = some, 0, 0

        async def put(self, key, data):
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            await asyncio.sleep(1)
            self.at_once -= 1
            if not self.some or b'"m3"' in data:
                raise StoreError("no room")
            await super().put(key, data)

    messages = [made(number, EPOCH + number) for number in range(30)]
    objects = Fails(some=True)
    with pytest.raises(PartialSendError) as refused:
        await MessageStore(objects).send(*messages)
    assert [each.message.id for each in refused.value.failed] == ["m3"]
    assert refused.value.sent == 29
    assert objects.most == 10
    with pytest.raises(SendError, match="no room"):
        await MessageStore(Fails(some=False)).send(*messages)


async def test_bad_input_is_told(objects):
    store = MessageStore(objects)
    with pytest.raises(ConfigurationError, match="end must be after start"):
        await kept(store, EPOCH, EPOCH)
    with pytest.raises(ConfigurationError, match="prefix"):
        MessageStore(objects, prefix="../")
    with pytest.raises(InvalidMessage, match="created_at"):
        await store.send(made(1, -5.0))


async def test_an_object_that_is_no_message_hides_no_others(objects):
    """It ended the reading, and each replay, at the same place for ever."""
    store = MessageStore(objects, max_bytes=5000)
    await store.send(*(made(number, EPOCH + number) for number in range(4)))
    _, cut, large, _ = await objects.keys("")
    await objects.put(cut, b"cut")
    await objects.put(large, bytes(5001))
    assert [each.id for each in await kept(store)] == ["m0", "m3"]
    assert store.unreadable == 2


async def test_keys_are_listed_in_the_order_of_their_bytes(objects):
    keys = sorted(["a/b", "a-c", "a/b-2/x", "a0", "a/b/c/d", "b", "a/b/c.e", "Z/y"])
    for key in keys:
        if key != "a/b":  # a file is no folder
            await objects.put(key, b"")
    keys.remove("a/b")
    assert list(await objects.keys("")) == keys
    for after in keys:
        assert list(await objects.keys("", after=after)) == [key for key in keys if key > after]
        assert list(await objects.keys("a/", after=after)) == [key for key in keys if key > after and key[:2] == "a/"]
    assert list(await objects.keys("a", limit=2)) == [key for key in keys if key[0] == "a"][:2]
    assert list(await objects.keys("nowhere/")) == []
