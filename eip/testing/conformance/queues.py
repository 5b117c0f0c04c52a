"""Cases of queues: sending, receiving, settling, leases."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eip import clock
from eip.errors import AddressRefused, InvalidMessage, LeaseLost, MessageTooLarge
from eip.message import Message, SequenceInfo
from eip.testing.conformance.harness import Cases, Harness, bodies

__all__ = ["LeaseCases", "QueueCases"]


class QueueCases(Cases):
    """Point-to-point channels: what is sent comes, to one consumer, until it is acknowledged."""

    async def test_body_and_envelope_arrive_as_sent(self, harness: Harness) -> None:
        """Body and every field of the envelope survive the wire, whatever the text."""
        self.needs("queue")
        queue = await harness.queue()
        sent: Message[Any] = Message(
            {"name": "Ünïcørn 🦄", "nested": [1, 2.5, None, {"ok": True}], "control": 'a\tb\nc"\\'},
            type="RideRequested",
            source="com.example.rides",
            correlation_id="request-1",
            return_address=queue.address,
            sequence=SequenceInfo("whole", 1, 3),
            expires_at=float(round(clock.now()) + 86_400),
            traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            headers={"attempts": "1", "note": "ä: b, c"},
            attributes={"kind": "ride", "count": 3, "huge": 10**40 + 1, "tiny": 5e-324, "text": "ß: \n\\ x"},
        )
        await queue.send(sent)
        async with queue.receiver() as receiver:
            (delivery,) = await harness.take(receiver)
            got = delivery.message
            assert delivery.error is None
            assert got.body == sent.body
            assert (got.id, got.type, got.source) == (sent.id, sent.type, sent.source)
            assert (got.correlation_id, got.return_address) == (sent.correlation_id, sent.return_address)
            assert (got.sequence, got.expires_at) == (sent.sequence, sent.expires_at)
            assert got.created_at == pytest.approx(sent.created_at, abs=0.001)
            assert got.traceparent == sent.traceparent
            assert {name: got.headers.get(name) for name in sent.headers} == dict(sent.headers)
            assert dict(got.attributes) == dict(sent.attributes)
            await delivery.ack()

    @pytest.mark.parametrize("body", [None, True, 0, -1.5, "", "text", [], {}, [[]], {"": 0}])
    async def test_any_json_is_a_body(self, harness: Harness, body: object) -> None:
        """A body is any JSON value, not only an object."""
        self.needs("queue")
        queue = await harness.queue()
        await queue.send(Message(body))
        async with queue.receiver() as receiver:
            (got,) = await harness.take_and_ack(receiver)
        assert got.body == body
        assert type(got.body) is type(body)

    async def test_one_send_carries_more_than_one_batch(self, harness: Harness) -> None:
        """A send of more messages than the service takes in one call arrives whole."""
        self.needs("queue")
        queue = await harness.queue()
        await queue.send(*(Message(number) for number in range(25)))
        async with queue.receiver() as receiver:
            got = bodies(await harness.take_and_ack(receiver, 25))
        assert sorted(got) == list(range(25))

    async def test_sending_nothing_is_nothing(self, harness: Harness) -> None:
        """A send without messages does nothing."""
        self.needs("queue")
        queue = await harness.queue()
        await queue.send()
        async with queue.receiver() as receiver:
            await harness.assert_quiet(receiver)

    async def test_order_is_kept(self, harness: Harness) -> None:
        """One consumer gets the messages in the order sent."""
        self.needs("queue", "order")
        queue = await harness.queue()
        for number in range(20):
            await queue.send(Message(number))
        async with queue.receiver() as receiver:
            assert bodies(await harness.take_and_ack(receiver, 20)) == list(range(20))

    async def test_many_senders_lose_nothing(self, harness: Harness) -> None:
        """Concurrent sends over one channel all arrive."""
        self.needs("queue")
        queue = await harness.queue()
        async with asyncio.TaskGroup() as tasks:
            for number in range(50):
                tasks.create_task(queue.send(Message(number)))
        async with queue.receiver() as receiver:
            assert sorted(bodies(await harness.take_and_ack(receiver, 50))) == list(range(50))

    async def test_an_empty_queue_answers_after_the_wait(self, harness: Harness) -> None:
        """A receive that gets nothing returns an empty sequence when its wait is over, not before."""
        self.needs("queue")
        queue = await harness.queue()
        loop = asyncio.get_running_loop()
        async with queue.receiver() as receiver:
            start = loop.time()
            assert list(await receiver.receive(10, wait=1.0)) == []
            assert loop.time() - start >= 0.9

    async def test_a_waiting_receive_gets_what_is_sent_meanwhile(self, harness: Harness) -> None:
        """A long poll returns as soon as there is a message."""
        self.needs("queue")
        queue = await harness.queue()
        async with queue.receiver() as receiver:
            waiting = asyncio.create_task(harness.take_and_ack(receiver))
            await asyncio.sleep(0.2)
            await queue.send(Message("late"))
            assert bodies(await waiting) == ["late"]

    async def test_limit_bounds_what_is_received(self, harness: Harness) -> None:
        """A receive never returns more than was asked for."""
        self.needs("queue")
        queue = await harness.queue()
        await queue.send(*(Message(number) for number in range(5)))
        async with queue.receiver() as receiver:
            first = await receiver.receive(2, wait=harness.timeout)
            assert 1 <= len(first) <= 2
            assert not await receiver.ack(first)

    async def test_an_acknowledged_message_is_gone(self, harness: Harness) -> None:
        """What is acknowledged does not come again, not even when its lease would have ended."""
        self.needs("queue")
        queue = await harness.queue()
        await queue.send(Message("once"))
        async with queue.receiver() as receiver:
            await harness.take_and_ack(receiver)
            if self.guarantees.leases:
                await asyncio.sleep(harness.lease)
            await harness.assert_quiet(receiver)

    async def test_settling_twice_does_nothing(self, harness: Harness) -> None:
        """The first verb settles; later ones are without effect, and raise nothing."""
        self.needs("queue")
        queue = await harness.queue()
        await queue.send(Message("once"))
        async with queue.receiver() as receiver:
            (delivery,) = await harness.take(receiver)
            await delivery.ack()
            await delivery.ack()
            await delivery.nack()
            assert delivery.settled
            await harness.assert_quiet(receiver)

    async def test_a_batch_is_acknowledged_in_one_call(self, harness: Harness) -> None:
        """Several deliveries are settled together, and none comes again."""
        self.needs("queue")
        queue = await harness.queue()
        await queue.send(*(Message(number) for number in range(12)))
        async with queue.receiver(capacity=12) as receiver:
            taken = await harness.take(receiver, 12)
            for start in range(0, 12, receiver.settle_batch):
                assert not await receiver.ack(taken[start : start + receiver.settle_batch])
            await harness.assert_quiet(receiver)

    async def test_a_message_given_back_comes_again(self, harness: Harness) -> None:
        """A nack brings the message back at once, the same one."""
        self.needs("queue")
        queue = await harness.queue()
        await queue.send(Message("again"))
        async with queue.receiver() as receiver:
            (first,) = await harness.take(receiver)
            await first.nack()
            (second,) = await harness.take(receiver)
            assert (second.message.id, second.message.body) == (first.message.id, "again")
            if self.guarantees.receive_count:
                assert (first.receive_count, second.receive_count) == (1, 2)
            await second.ack()

    async def test_a_message_given_back_with_a_delay_comes_after_it(self, harness: Harness) -> None:
        """``nack(delay=...)`` keeps the message back."""
        self.needs("queue", "nack_delay")
        queue = await harness.queue()
        await queue.send(Message("later"))
        loop = asyncio.get_running_loop()
        async with queue.receiver() as receiver:
            (first,) = await harness.take(receiver)
            start = loop.time()
            await first.nack(delay=2.0)
            await harness.take_and_ack(receiver)
            assert loop.time() - start >= 1.0

    async def test_a_delayed_message_comes_after_its_delay(self, harness: Harness) -> None:
        """``send(delay=...)`` keeps the message back."""
        self.needs("queue", "send_delay")
        queue = await harness.queue()
        loop = asyncio.get_running_loop()
        async with queue.receiver() as receiver:
            start = loop.time()
            await queue.send(Message("late"), delay=2.0)
            await queue.send(Message("soon"))
            assert bodies(await harness.take_and_ack(receiver, 2)) == ["soon", "late"]
            assert loop.time() - start >= 1.0

    async def test_a_held_message_is_nobody_elses(self, harness: Harness) -> None:
        """While one consumer holds a message, another does not get it."""
        self.needs("queue")
        queue = await harness.queue()
        await queue.send(Message("mine"))
        async with queue.receiver() as mine, queue.receiver() as other:
            (held,) = await harness.take(mine)
            await harness.assert_quiet(other, leased=True)
            await held.ack()

    async def test_consumers_share_a_queue(self, harness: Harness) -> None:
        """Competing consumers get each message once between them."""
        self.needs("queue")
        queue = await harness.queue()
        got: list[int] = []

        async def work() -> None:
            async with queue.receiver() as receiver:
                while (taken := await receiver.receive(1, wait=harness.quiet)) or len(got) < 20:
                    got.extend(bodies(taken))
                    for each in taken:
                        await each.ack()

        async with asyncio.timeout(harness.timeout), asyncio.TaskGroup() as tasks:
            for _ in range(3):
                tasks.create_task(work())
            await queue.send(*(Message(number) for number in range(20)))
        assert sorted(got) == list(range(20))

    async def test_closing_gives_back_what_is_held(self, harness: Harness) -> None:
        """What a closed receiver held and did not settle comes to the next, and closing twice is closing once."""
        self.needs("queue")
        queue = await harness.queue()
        await queue.send(Message("held"))
        async with queue.receiver() as first:
            await harness.take(first)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(first.aclose())
                tasks.create_task(first.aclose())
        async with queue.receiver() as second:
            assert bodies(await harness.take_and_ack(second)) == ["held"]

    async def test_a_large_message_is_carried(self, harness: Harness) -> None:
        """A body of the declared size arrives whole."""
        self.needs("queue")
        queue = await harness.queue()
        body = {"text": "ä" * (self.guarantees.largest // 2 - 100)}
        await queue.send(Message(body))
        async with queue.receiver() as receiver:
            (got,) = await harness.take_and_ack(receiver)
        assert got.body == body

    async def test_a_too_large_message_is_refused_before_sending(self, harness: Harness) -> None:
        """Past the channel's limit nothing of the call is sent, and the error says by how much."""
        self.needs("queue")
        queue = await harness.queue()
        limit = queue.limits.message_bytes
        if limit is None:
            pytest.skip("the channel has no limit")
        with pytest.raises(MessageTooLarge) as refused:
            await queue.send(Message("fits"), Message("x" * (limit + 1)))
        assert refused.value.size > refused.value.limit == limit
        async with queue.receiver() as receiver:
            await harness.assert_quiet(receiver)

    async def test_what_is_not_json_is_refused_before_sending(self, harness: Harness) -> None:
        """A body that cannot be encoded is refused, and with it the whole call."""
        self.needs("queue")
        queue = await harness.queue()
        with pytest.raises(InvalidMessage):
            await queue.send(Message("fits"), Message(object()))
        async with queue.receiver() as receiver:
            await harness.assert_quiet(receiver)

    async def test_the_receiver_shares_nothing_with_the_sender(self, harness: Harness) -> None:
        """What one side does to a body after sending or receiving, the other does not see."""
        self.needs("queue")
        queue = await harness.queue()
        body = {"items": [1]}
        await queue.send(Message(body))
        body["items"].append(2)
        async with queue.receiver() as receiver:
            (first,) = await harness.take(receiver)
            first.message.body["items"].append(3)
            await first.nack()
            (second,) = await harness.take(receiver)
            assert second.message.body == {"items": [1]}
            await second.ack()

    async def test_a_plain_message_of_a_foreign_producer_is_read(self, harness: Harness) -> None:
        """JSON without an envelope is a message with an id of its own."""
        self.needs("queue", "foreign")
        queue = await harness.queue()
        await harness.send_raw(queue, b'{"order": 7}')
        async with queue.receiver() as receiver:
            (delivery,) = await harness.take(receiver)
            assert delivery.error is None
            assert delivery.message.body == {"order": 7}
            assert delivery.message.id
            await delivery.ack()

    async def test_an_address_leads_back_to_its_queue(self, harness: Harness) -> None:
        """``resolve(queue.address)`` sends to that queue; an address of elsewhere is refused."""
        self.needs("queue")
        queue = await harness.queue()
        await harness.transport.resolve(queue.address).send(Message("answer"))
        async with queue.receiver() as receiver:
            assert bodies(await harness.take_and_ack(receiver)) == ["answer"]
        with pytest.raises(AddressRefused):
            harness.transport.resolve("elsewhere:queue/x")

    async def test_asking_for_a_kind_that_is_missing_says_what_there_is(self, harness: Harness) -> None:
        """Each kind of channel is there as declared, or named as missing."""
        transport = harness.transport
        declared = {kind for kind in ("queue", "topic", "bus", "stream") if getattr(self.guarantees, kind)}
        assert declared <= set(transport.kinds)
        for kind in {"queue", "topic", "bus", "stream"} - set(transport.kinds):
            with pytest.raises(ValueError, match=kind):
                getattr(transport, kind)("any")


class LeaseCases(Cases):
    """A delivery is a lease: it ends, it can be extended, and what was lost is not settled by its old holder."""

    async def test_when_the_lease_ends_the_message_comes_again(self, harness: Harness) -> None:
        """A consumer that went silent loses the message to another."""
        self.needs("queue", "leases")
        queue = await harness.queue()
        await queue.send(Message("silent"))
        async with queue.receiver() as silent, queue.receiver() as other:
            (first,) = await harness.take(silent)
            assert first.lease_until is not None
            await asyncio.sleep(harness.lease)
            (second,) = await harness.take(other)
            assert second.message.id == first.message.id
            if self.guarantees.receive_count:
                assert second.receive_count == first.receive_count + 1
            await second.ack()

    async def test_an_extended_lease_keeps_the_message(self, harness: Harness) -> None:
        """An extended lease outlasts the queue's own."""
        self.needs("queue", "leases")
        queue = await harness.queue()
        await queue.send(Message("long"))
        async with queue.receiver() as mine, queue.receiver() as other:
            (held,) = await harness.take(mine)
            await asyncio.sleep(harness.lease / 2)
            await held.extend(harness.lease * 2)
            await asyncio.sleep(harness.lease)
            await harness.assert_quiet(other, leased=True)
            await held.ack()
            await harness.assert_quiet(other)

    async def test_a_lost_lease_acknowledges_nothing(self, harness: Harness) -> None:
        """An ack after the lease's end is reported as lost, and the new holder's message stays."""
        self.needs("queue", "leases")
        queue = await harness.queue()
        await queue.send(Message("contested"))
        async with queue.receiver() as slow, queue.receiver() as other:
            (lost,) = await harness.take(slow)
            await asyncio.sleep(harness.lease + 0.1)
            with pytest.raises(LeaseLost):
                await lost.ack()
            (found,) = await harness.take(other)
            with pytest.raises(LeaseLost):
                await lost.nack()
            with pytest.raises(LeaseLost):
                await lost.extend(10)
            await found.nack()
            assert bodies(await harness.take_and_ack(other)) == ["contested"]
