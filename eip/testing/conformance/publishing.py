"""Cases of topics, event buses and streams."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eip.errors import ChannelNotFound, InvalidMessage
from eip.message import Message, SequenceInfo
from eip.runtime.consumer import Consumer
from eip.testing.conformance.harness import Cases, Harness, bodies
from eip.topology.archives import HasArchives

__all__ = ["BusCases", "StreamCases", "TopicCases"]


class TopicCases(Cases):
    """Publish-subscribe: every subscription gets its own copy."""

    async def test_every_subscription_gets_every_message(self, harness: Harness) -> None:
        """Fan-out: subscriptions do not share, consumers of one subscription do."""
        self.needs("topic")
        topic = await harness.topic()
        sources = [await harness.subscription(topic, name) for name in ("one", "two")]
        await topic.send(*(Message(number) for number in range(5)))
        for source in sources:
            async with source.receiver() as receiver:
                assert sorted(bodies(await harness.take_and_ack(receiver, 5))) == list(range(5))

    async def test_subscribers_share_nothing(self, harness: Harness) -> None:
        """What one subscriber does to a body, another does not see."""
        self.needs("topic")
        topic = await harness.topic()
        one, two = [await harness.subscription(topic, name) for name in ("one", "two")]
        await topic.send(Message({"items": [1]}))
        async with one.receiver() as receiver:
            (got,) = await harness.take_and_ack(receiver)
            got.body["items"].append(2)
        async with two.receiver() as receiver:
            (got,) = await harness.take_and_ack(receiver)
            assert got.body == {"items": [1]}

    async def test_a_subscription_gets_only_what_its_filter_lets_through(self, harness: Harness) -> None:
        """A filter narrows a subscription, and no other."""
        self.needs("topic", "filters")
        topic = await harness.topic()
        some = await harness.subscription(topic, "some", filter=harness.wanting("a"))
        every = await harness.subscription(topic, "every")
        await topic.send(Message(1, attributes={"kind": "a"}), Message(2, attributes={"kind": "b"}), Message(3))
        async with some.receiver() as narrow, every.receiver() as wide:
            assert bodies(await harness.take_and_ack(narrow)) == [1]
            await harness.assert_quiet(narrow)
            assert sorted(bodies(await harness.take_and_ack(wide, 3))) == [1, 2, 3]

    async def test_a_fifo_topic_keeps_the_order_of_groups(self, harness: Harness) -> None:
        """Order and deduplication reach through a FIFO topic."""
        self.needs("topic", "fifo_topics")
        topic = await harness.topic(fifo=True)
        source = await harness.subscription(topic, "one")
        first = Message(0, group_id="a", deduplication_id="d0")
        await topic.send(first)
        await topic.send(first, *(Message(n, group_id="a", deduplication_id=f"d{n}") for n in range(1, 5)))
        async with source.receiver() as receiver:
            assert bodies(await harness.take_and_ack(receiver, 5)) == list(range(5))
            await harness.assert_quiet(receiver)


class BusCases(Cases):
    """Event buses: rules route by pattern."""

    async def test_a_rule_gets_what_its_pattern_matches(self, harness: Harness) -> None:
        """Type, source and attributes arrive; other types do not."""
        self.needs("bus")
        bus = await harness.bus()
        rule = await harness.rule(bus, "sold", pattern=harness.wanting_type("Sold"))
        await bus.send(Message({"n": 1}, type="Sold", source="shop"), Message({"n": 2}, type="Lost", source="shop"))
        async with rule.receiver() as receiver:
            (got,) = await harness.take_and_ack(receiver)
            assert (got.body, got.type, got.source) == ({"n": 1}, "Sold", "shop")
            await harness.assert_quiet(receiver)

    async def test_every_rule_gets_every_event_it_matches(self, harness: Harness) -> None:
        """Rules do not share; attributes, correlation and group arrive with each copy."""
        self.needs("bus")
        bus = await harness.bus()
        rules = [await harness.rule(bus, name) for name in ("one", "two")]
        message = Message(
            {"n": 1}, type="Sold", source="shop", group_id="g", correlation_id="c", attributes={"kind": "a"}
        )
        await bus.send(message)
        for rule in rules:
            async with rule.receiver() as receiver:
                (got,) = await harness.take_and_ack(receiver)
                assert (got.id, got.correlation_id, got.group_id) == (message.id, "c", "g")
                assert dict(got.attributes) == {"kind": "a"}
                assert got.replay_name is None

    async def test_what_is_no_event_is_refused_before_sending(self, harness: Harness) -> None:
        """A body that is not an object, a missing type, a missing source: refused, and with it the whole call."""
        self.needs("bus")
        bus = await harness.bus()
        rule = await harness.rule(bus, "all")
        fits: Message[Any] = Message({"n": 1}, type="Sold", source="shop")
        wrong: list[Message[Any]] = [Message([1], type="Sold", source="shop"), Message({}, type="Sold"), Message({})]
        for each in wrong:
            with pytest.raises(InvalidMessage):
                await bus.send(fits, each)
        async with rule.receiver() as receiver:
            await harness.assert_quiet(receiver)

    async def test_a_replay_brings_archived_events_back(self, harness: Harness) -> None:
        """Each with its id and the replay's name, and none of them is archived again."""
        self.needs("bus", "archives")
        bus = await harness.bus()
        assert isinstance(bus, HasArchives)
        rule, name = await harness.rule(bus, "all"), harness.fresh("archive")
        await bus.archives.create(name)
        sent: list[Message[Any]] = [Message({"n": n}, type="Sold", source="shop") for n in range(3)]
        await bus.send(*sent)
        first = min(message.created_at for message in sent)
        async with rule.receiver() as receiver:
            originals = await harness.take_and_ack(receiver, 3)
            for replay in (harness.fresh("replay"), harness.fresh("replay")):
                await bus.archives.start_replay(replay, archive=name, start=first - 60, end=first + 60)
                replayed = await harness.take_and_ack(receiver, 3)
                assert {each.replay_name for each in replayed} == {replay}
                assert sorted(each.id for each in replayed) == sorted(message.id for message in sent)
            await harness.assert_quiet(receiver)
        assert {each.replay_name for each in originals} == {None}
        await bus.archives.delete(name)
        with pytest.raises(ChannelNotFound):
            await bus.archives.describe(name)


class StreamCases(Cases):
    """Streams: order per key, groups independent of each other."""

    async def test_keys_keep_their_order_and_groups_do_not_share(self, harness: Harness) -> None:
        """Each group reads everything, each key in order."""
        self.needs("stream")
        stream = await harness.stream()
        groups = [await harness.group(stream, name) for name in ("one", "two")]
        await stream.send(*(Message((key, number), group_id=key) for number in range(5) for key in "abc"))
        for group in groups:
            seen: dict[str, list[int]] = {}
            async with group.receiver() as receiver:
                for key, number in bodies(await harness.take_and_ack(receiver, 15)):
                    seen.setdefault(key, []).append(number)
            assert seen == {key: list(range(5)) for key in "abc"}

    async def test_a_group_goes_on_where_it_was(self, harness: Harness) -> None:
        """What was acknowledged does not come to the next worker of the group; what was not does."""
        self.needs("stream")
        stream = await harness.stream()
        group = await harness.group(stream, "one")
        await stream.send(*(Message(number, group_id="k") for number in range(4)))
        async with group.receiver() as first:
            await harness.take_and_ack(first, 2)
            (left,) = await harness.take(first)
            assert left.message.body == 2
        await stream.send(Message(4, group_id="k"))
        async with group.receiver() as second:
            assert bodies(await harness.take_and_ack(second, 3)) == [2, 3, 4]
            await harness.assert_quiet(second)

    async def test_a_key_is_held_back_by_its_first_message_and_no_other(self, harness: Harness) -> None:
        """While a message is out, nothing of its key comes; given back it is first, with its receive count raised."""
        self.needs("stream")
        stream = await harness.stream()
        group = await harness.group(stream, "one")
        await stream.send(Message("a1", group_id="a"), Message("a2", group_id="a"), Message("b1", group_id="b"))
        async with group.receiver() as receiver:
            taken = {each.message.body: each for each in await harness.take(receiver, 2)}
            assert set(taken) == {"a1", "b1"}
            await harness.assert_quiet(receiver)
            await taken["a1"].nack(delay=0.1)
            (again,) = await harness.take(receiver)
            assert (again.message.body, again.receive_count) == ("a1", 2)
            await again.ack()
            assert bodies(await harness.take_and_ack(receiver)) == ["a2"]

    async def test_the_whole_envelope_arrives(self, harness: Harness) -> None:
        """Every field of the envelope, attributes with their types, and any JSON body."""
        self.needs("stream")
        stream = await harness.stream()
        group = await harness.group(stream, "one")
        sent = Message(
            {"text": "ä", "eip": 1},
            type="Said",
            source="test",
            correlation_id="c",
            return_address="memory:queue/r",
            group_id="k",
            sequence=SequenceInfo("s", 0, 2),
            expires_at=4e9,
            attributes={"flag": True, "ratio": 0.5, "raw": b"\x00", "tags": ["x", 1]},
            headers={"hop": "1"},
        )
        await stream.send(sent, Message([1, "two"], group_id="k"), Message("text", group_id="k"), Message({}))
        async with group.receiver() as receiver:
            got = await harness.take_and_ack(receiver, 4)
        (first,) = [each for each in got if each.id == sent.id]
        kept = {name: first.headers[name] for name in sent.headers}
        assert first.replace(headers=kept) == sent
        rest = [each for each in got if each.id != sent.id]
        assert sorted(map(repr, bodies(rest))) == ["'text'", "[1, 'two']", "{}"]
        assert [each.group_id for each in rest if each.body == {}] == [None]

    async def test_workers_share_the_shards_of_a_group(self, harness: Harness) -> None:
        """Several workers handle each message once between them, each key in order."""
        self.needs("stream")
        stream = await harness.stream()
        group = await harness.group(stream, "one")
        await stream.send(*(Message(number, group_id=f"k{number % 7}") for number in range(140)))
        seen: list[tuple[str, int]] = []
        done = asyncio.Event()

        async def handle(message: Message) -> None:
            seen.append((message.group_id or "", message.body))
            if len(seen) == 140:
                done.set()

        consumers = [Consumer(group, handle) for _ in range(3)]
        async with asyncio.TaskGroup() as tasks:
            for consumer in consumers:
                tasks.create_task(consumer.run())
            async with asyncio.timeout(harness.timeout):
                await done.wait()
            await asyncio.gather(*(consumer.stop() for consumer in consumers))
        assert len(seen) == 140
        for key in {key for key, _ in seen}:
            numbers = [number for each, number in seen if each == key]
            assert numbers == sorted(numbers)
