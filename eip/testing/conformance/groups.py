"""Cases of FIFO queues and of dead-letter queues."""

from __future__ import annotations

from eip.message import Message
from eip.testing.conformance.harness import Cases, Harness, bodies

__all__ = ["DeadLetterCases", "GroupCases"]


class GroupCases(Cases):
    """Message groups: in order, one holder at a time, groups independent of each other."""

    async def test_a_group_keeps_its_order(self, harness: Harness) -> None:
        """Messages of one group come in the order sent, however many groups there are."""
        self.needs("queue", "groups")
        queue = await harness.queue(fifo=True)
        await queue.send(*(Message((group, number), group_id=group) for number in range(5) for group in "abc"))
        seen: dict[str, list[int]] = {}
        async with queue.receiver() as receiver:
            for group, number in bodies(await harness.take_and_ack(receiver, 15)):
                seen.setdefault(group, []).append(number)
        assert seen == {group: list(range(5)) for group in "abc"}

    async def test_a_held_head_holds_its_group_and_no_other(self, harness: Harness) -> None:
        """While a group's head is held elsewhere, nothing of the group comes; other groups flow."""
        self.needs("queue", "groups")
        queue = await harness.queue(fifo=True)
        await queue.send(Message("a1", group_id="a"))
        async with queue.receiver(capacity=1) as mine, queue.receiver() as other:
            (head,) = await harness.take(mine)
            await queue.send(Message("a2", group_id="a"), Message("b1", group_id="b"))
            assert bodies(await harness.take_and_ack(other)) == ["b1"]
            await harness.assert_quiet(other, leased=True)
            await head.ack()
            next_holder = mine if self.guarantees.sticky_groups else other
            assert bodies(await harness.take_and_ack(next_holder)) == ["a2"]

    async def test_a_head_given_back_comes_first_again(self, harness: Harness) -> None:
        """Tail first, head last, and the group's order is as it was."""
        self.needs("queue", "groups")
        queue = await harness.queue(fifo=True)
        await queue.send(*(Message(number, group_id="a") for number in range(3)))
        async with queue.receiver() as receiver:
            taken = list(await receiver.receive(3, wait=harness.timeout))
            assert not await receiver.nack(taken[::-1])
            assert bodies(await harness.take_and_ack(receiver, 3)) == [0, 1, 2]

    async def test_a_second_message_of_a_deduplication_id_is_dropped(self, harness: Harness) -> None:
        """Sending again what was sent, as after a lost answer, delivers it once."""
        self.needs("queue", "groups", "deduplication")
        queue = await harness.queue(fifo=True)
        once = Message("once", group_id="a", deduplication_id="d")
        await queue.send(once)
        await queue.send(once, Message("other", group_id="a", deduplication_id="e"))
        async with queue.receiver() as receiver:
            assert bodies(await harness.take_and_ack(receiver, 2)) == ["once", "other"]
            await harness.assert_quiet(receiver)


class DeadLetterCases(Cases):
    """What cannot be handled is kept aside, whole, with the reason."""

    async def test_what_is_received_too_often_is_dead_lettered(self, harness: Harness) -> None:
        """After max_receive_count receives the channel itself moves the message."""
        self.needs("queue", "dead_letters")
        dead = await harness.queue()
        queue = await harness.queue(dead_letters=dead, max_receive_count=2)
        await queue.send(Message("poison", id="p", attributes={"kind": "a"}))
        async with queue.receiver() as receiver, dead.receiver() as morgue:
            for _ in range(2):
                (delivery,) = await harness.take(receiver)
                await delivery.nack()
            await harness.assert_quiet(receiver)
            (found,) = await harness.take(morgue)
            assert (found.message.id, found.message.body) == ("p", "poison")
            assert dict(found.message.attributes) == {"kind": "a"}
            await found.ack()

    async def test_a_consumer_dead_letters_with_the_reason(self, harness: Harness) -> None:
        """``dead_letters`` moves the message, and says why in its headers."""
        self.needs("queue")
        dead, queue = await harness.queue(), await harness.queue()
        await queue.send(Message({"n": 1}, id="p"))
        async with queue.receiver() as receiver, dead.receiver() as morgue:
            receiver.dead_letters = dead
            (delivery,) = await harness.take(receiver)
            await delivery.dead_letter("cannot be read")
            await delivery.dead_letter("twice is once")
            (found,) = await harness.take(morgue)
            assert found.message.body == {"n": 1}
            assert found.message.headers["dead-letter-reason"] == "cannot be read"
            await found.ack()
            await harness.assert_quiet(receiver)

    async def test_nothing_overtakes_while_a_head_is_delayed(self, harness: Harness) -> None:
        """A head given back with a delay holds its group until it comes again."""
        self.needs("queue", "groups", "nack_delay")
        queue = await harness.queue(fifo=True)
        await queue.send(Message(1, group_id="a"), Message(2, group_id="a"))
        async with queue.receiver() as receiver:
            taken = list(await receiver.receive(2, wait=harness.timeout))
            assert not await receiver.nack(taken[:0:-1])
            assert not await receiver.nack(taken[:1], delay=2.0)
            assert bodies(await harness.take_and_ack(receiver, 2)) == [1, 2]
