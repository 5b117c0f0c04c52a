"""Cases of topics, event buses and streams."""

from __future__ import annotations

from eip.message import Message
from eip.testing.conformance.harness import Cases, Harness, bodies

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
        some = await harness.subscription(topic, "some", wanted=harness.wanting("a"))
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
