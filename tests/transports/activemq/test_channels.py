"""Topics, subscriptions, filters, addresses and reply queues on a real broker."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from eip import Consumer, Message, ReturnAddresses
from eip.errors import AddressRefused, ConfigurationError, PartialSendError, TransportError
from eip.matching import FilterPolicy
from eip.patterns.reply_queues import ReplyQueues
from eip.patterns.request_reply import RequestReply
from eip.patterns.scatter_gather import ScatterGather
from eip.stores import MemoryStore
from eip.telemetry.meter import UsageMeter
from eip.topology import QueueSpec, SubscriptionSpec, TopicSpec, Topology
from eip.transports.activemq import ActiveMQTransport
from eip.transports.activemq.topic import DurableSubscription

pytestmark = pytest.mark.activemq


def fresh() -> str:
    return f"channel-{uuid4().hex[:12]}"


async def bodies(source, *, expected=0, got=None):
    """What comes, together with whoever shares ``got``: at least so many, and what comes soon after those."""
    got = [] if got is None else got
    async with asyncio.timeout(60), source.receiver() as receiver:
        while (taken := await receiver.receive(10, wait=0.3)) or len(got) < expected:
            got += [each.message.body for each in taken]
            await receiver.ack(taken)
    return got


async def test_a_virtual_topics_subscription_is_a_queue(activemq):
    """Every subscription has its own copies, keeps them while nobody is there, and its consumers share them."""
    topic = activemq.topic(fresh())
    await Topology(TopicSpec(topic.name), *(SubscriptionSpec(topic.name, each) for each in ("a", "b"))).apply(activemq)
    await topic.send(*(Message(number) for number in range(20)))
    queue = activemq.queue(f"Consumer.a.{topic.name}")
    shared: list[int] = []
    await asyncio.gather(*(bodies(each, expected=20, got=shared) for each in (topic.subscription("a"), queue)))
    assert sorted(shared) == list(range(20))
    assert await bodies(topic.subscription("b"), expected=20) == list(range(20))


async def test_a_durable_subscriber_gets_what_came_while_it_was_away(activemq):
    topic = activemq.topic(fresh(), virtual=False)
    subscription = topic.subscription("books")
    await topic.send(Message("before"))
    await subscription.make_known()
    await topic.send(Message("while away"))
    assert await bodies(subscription, expected=1) == ["while away"]
    await topic.send(Message("later"))
    assert await bodies(subscription, expected=1) == ["later"]


def hurry(transport, seconds):
    """Shorten the time that its receivers have to open; it is open itself, and had all the time that it needed."""
    object.__setattr__(transport._client.connector, "open_timeout", seconds)


async def test_a_durable_subscription_has_one_receiver_at_a_time(activemq, activemq_broker):
    """The broker refuses the second, and says why."""
    topic = activemq.topic(fresh(), virtual=False)
    first = topic.subscription("books").receiver()
    async with first, ActiveMQTransport(activemq_broker.url) as other, asyncio.timeout(60):
        hurry(other, 0.5)
        refused = ""
        while "already connected" not in refused:  # a busy broker may take longer to refuse it
            with pytest.raises(TransportError) as failed:
                await other.topic(topic.name, virtual=False).subscription("books").receiver().open()
            refused = str(failed.value)


async def test_a_durable_subscriber_waits_until_the_broker_forgets_its_last_connection(activemq, activemq_broker):
    """Kind of fault 8, transient: that of a vanished machine takes its client id for up to a minute and a half."""
    topic, handled = activemq.topic(fresh(), virtual=False), asyncio.Event()
    vanished = topic.subscription("books").receiver()
    await vanished.open()
    await topic.send(Message("kept"))

    async def handle(_: Message) -> None:
        handled.set()

    async with ActiveMQTransport(activemq_broker.url) as other:
        hurry(other, 0.3)
        consumer = Consumer(other.topic(topic.name, virtual=False).subscription("books"), handle)
        running = asyncio.create_task(consumer.run())
        await asyncio.sleep(0.8)
        await vanished.aclose()
        async with asyncio.timeout(20):
            await handled.wait()
        await consumer.stop()
        await running


async def test_a_durable_subscribers_retry_is_its_own(activemq):
    """A message that failed comes again to this subscription only, later and with its count."""
    topic = activemq.topic(fresh(), virtual=False)
    mine, other = topic.subscription("mine"), topic.subscription("other")
    await mine.make_known()
    await other.make_known()
    async with mine.receiver() as receiver:
        await topic.send(Message("again"))
        (first,) = await receiver.receive(1)
        await first.nack(delay=0.2)
        (second,) = await receiver.receive(1)
        assert (second.receive_count, second.message.id) == (2, first.message.id)
        await second.ack()
    assert await bodies(other, expected=1) == ["again"]
    assert not await bodies(mine)


async def test_a_durable_subscribers_filter_is_the_brokers_selector(activemq_broker):
    """What the selector can tell does not even leave the broker; the rest is sorted out here, with the same result."""
    meter = UsageMeter()
    async with ActiveMQTransport(activemq_broker.url, meter=meter) as activemq:
        topic = activemq.topic(fresh(), virtual=False)
        wanted = topic.subscription("wanted", filter=FilterPolicy({"kind": ["a", {"prefix": "b-"}], "n": [3]}))
        assert isinstance(wanted, DurableSubscription)
        assert wanted.selector == "(kind = 'a' OR kind LIKE 'b-%' ESCAPE '\\' OR kind LIKE '[%') AND n IS NOT NULL"
        await wanted.make_known()
        await topic.send(
            Message(1, attributes={"kind": "a", "n": 3}),
            Message(2, attributes={"kind": "c", "n": 3}),
            Message(3, attributes={"kind": "b-x", "n": 4}),
            Message(4, attributes={"kind": ["z", "b-y"], "n": 3}),
            Message(5, attributes={"kind": "a"}),
        )
        assert await bodies(wanted, expected=2) == [1, 4]
    assert meter.settled == 3  # 3 came too, and was acknowledged unseen; 2 and 5 stayed there


async def test_a_filter_that_fails_on_a_message_stops_nobody(activemq):
    """That message is dead-lettered; those behind it come."""
    topic, dead = activemq.topic(fresh()), activemq.queue(fresh())
    source = topic.subscription("some", filter=lambda message: message.body["n"] > 0)
    await source.make_known()
    await topic.send(Message([]), Message({"n": 0}), Message({"n": 1}))
    done = asyncio.Event()

    async def handle(message):
        assert message.body == {"n": 1}
        done.set()

    consumer = Consumer(source, handle, dead_letters=dead)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(consumer.run())
        async with asyncio.timeout(30):
            await done.wait()
        await consumer.stop()
    assert await bodies(dead, expected=1) == [[]]


async def test_a_selective_consumer_leaves_the_rest_to_others(activemq):
    queue = activemq.queue(fresh())
    await queue.send(Message(1, attributes={"kind": "a"}), Message(2, attributes={"kind": "b"}))
    async with queue.receiver(selector="kind = 'b'") as receiver:
        (delivery,) = await receiver.receive(1)
        assert delivery.message.body == 2
        await delivery.ack()
        assert not await receiver.receive(1, wait=0.3)
    assert await bodies(queue, expected=1) == [1]


async def test_a_selector_that_is_none_is_refused_at_once(activemq):
    with pytest.raises(TransportError, match=r"(?i)selector"):
        await activemq.queue(fresh()).receiver(selector="kind = = 'b'").open()


async def test_a_topology_is_planned_and_applied(activemq):
    """The plan says what cannot be known; applied again it finds the same, and consumers keep the redrive policy."""
    name = fresh()
    topology = Topology(
        QueueSpec(name, max_receive_count=2),
        TopicSpec(f"{name}-t"),
        SubscriptionSpec(f"{name}-t", "some", filter=FilterPolicy({"kind": ["a"]}), dead_letters=False),
    )
    plan = await topology.plan(activemq)
    assert {(step.kind, step.name) for step in plan["create"]} >= {
        ("queue", name),
        ("subscription", f"{name}-t > some"),
    }
    assert "first use" in str(plan)
    await topology.apply(activemq)
    assert (await topology.plan(activemq)).in_force
    await activemq.topic(f"{name}-t").send(Message(1, attributes={"kind": "a"}), Message(2, attributes={"kind": "b"}))
    assert await bodies(activemq.topic(f"{name}-t").subscription("some"), expected=1) == [1]
    queue, dead = activemq.queue(name), activemq.queue(f"{name}-dead")
    await queue.send(Message("poison"))
    async with queue.receiver() as receiver:
        for _ in range(2):
            (delivery,) = await receiver.receive(1)
            await delivery.nack()
        assert not await receiver.receive(1, wait=0.2)
    assert await bodies(dead, expected=1) == ["poison"]


async def responder(transport, source, answer, *, stop):
    """Answers each request where it asks for it."""
    replies = ReturnAddresses(transport, allow=["activemq:temp-queue/*"])
    consumer = Consumer(source, answer, replies=replies)
    task = asyncio.create_task(consumer.run())
    await consumer.started.wait()
    await stop.wait()
    await consumer.stop()
    await task


async def test_request_and_reply_over_a_temporary_queue(activemq, activemq_broker):
    """The requester's queue has a name of its own at the broker, which the responder's return address is."""
    requests, stop, seen = activemq.queue(fresh()), asyncio.Event(), []

    async def answer(message):
        seen.append(message.return_address)
        return message.reply(message.body * 2)

    async with ActiveMQTransport(activemq_broker.url) as other, asyncio.TaskGroup() as tasks:
        tasks.create_task(responder(other, other.queue(requests.name), answer, stop=stop))
        replies = activemq.temporary_queue()
        async with RequestReply(requests, replies) as client:
            calls = (client.request(number, timeout=30) for number in range(50))
            answers = await asyncio.gather(*calls)
        assert sorted(each.body for each in answers) == [number * 2 for number in range(50)]
        stop.set()
    assert all(address.startswith("activemq:temp-queue/ID:") for address in seen)


async def test_reply_queues_of_keys_are_queues_of_the_broker(activemq, activemq_broker):
    """Shared by a store, or temporary ones of the process; what is no longer used is not consumed any more."""
    requests, shared, prefix = activemq.queue(fresh()), activemq.queue(fresh()), f"own-{uuid4().hex[:8]}"
    seen: list[str] = []

    async def answer(message):
        seen.append(message.return_address)
        return message.reply(message.body)

    async with ActiveMQTransport(activemq_broker.url) as other:
        allowed = ReturnAddresses(other, prefix=prefix, allow=["activemq:temp-queue/*"])
        async with (
            Consumer(other.queue(requests.name), answer, replies=allowed),
            RequestReply(requests, shared) as client,
        ):
            for store in (MemoryStore(), None):
                spec = QueueSpec(prefix)
                async with ReplyQueues(activemq, client, queue=spec, store=store, idle=0, poll_interval=0.1) as own:
                    replies = await own.of("Ada", deadline=10)
                    assert (await client.request("?", timeout=10, replies=replies)).body == "?"
                assert client._gather._listeners.active == {shared.address}
    assert seen[0].startswith(f"activemq:queue/{prefix}-Ada-")
    assert seen[1].startswith("activemq:temp-queue/ID:")


async def test_scatter_and_gather_over_a_topic_and_a_temporary_queue(activemq, activemq_broker):
    topic, stop = activemq.topic(fresh()), asyncio.Event()
    names = ("anna", "berta", "clara")
    for name in names:
        await topic.subscription(name).make_known()
    async with ActiveMQTransport(activemq_broker.url) as other, asyncio.TaskGroup() as tasks:
        for name in names:

            async def quote(message, name=name):
                return message.reply({"from": name, "price": len(name)})

            source = other.topic(topic.name).subscription(name)
            tasks.create_task(responder(other, source, quote, stop=stop))
        async with activemq.temporary_queue() as replies, ScatterGather(topic, replies) as gather:
            found = await gather.request({"to": "Berlin"}, expected=3, deadline=30)
        stop.set()
    assert {reply.body["from"] for reply in found.replies} == set(names)


async def test_a_temporary_queue_comes_back_with_its_connection(activemq, activemq_broker):
    """After a reconnect it is another one to the broker, and requests sent then are answered to that."""
    requests, stop = activemq.queue(fresh()), asyncio.Event()

    async def answer(message):
        return message.reply("pong")

    async with ActiveMQTransport(activemq_broker.url) as other, asyncio.TaskGroup() as tasks:
        tasks.create_task(responder(other, other.queue(requests.name), answer, stop=stop))
        replies = activemq.temporary_queue()
        async with RequestReply(requests, replies) as client:
            assert (await client.request("ping", timeout=30)).body == "pong"
            for connection in activemq._client.connections:
                connection.current._transport.abort()
            assert (await client.request("ping", timeout=30)).body == "pong"
        stop.set()


async def test_one_send_over_two_connections_reports_each_message(activemq, monkeypatch):
    """Kind of fault 39: a failure over the connection of a temporary queue does not keep the others from leaving."""
    queue, replies = activemq.queue(fresh()), activemq.temporary_queue()
    asked = [Message("asked", return_address=replies.address), Message("asked too", return_address=replies.address)]
    plain = [Message("plain"), Message("plain too")]
    unknown = Message("unknown", return_address=activemq.temporary_queue().address)
    async with replies.receiver():
        with pytest.raises(ConfigurationError, match="nobody receives replies"):
            await queue.send(plain[0], unknown)
        assert await queue.peek() == [], "an error of the program comes before anything is sent"

        async def refuse(connection, batch):
            raise TransportError("refused")

        monkeypatch.setattr(activemq._client._reply_batches[replies.address], "_transfer", refuse)
        with pytest.raises(PartialSendError) as raised:
            await queue.send(asked[0], plain[0], asked[1], plain[1])
    assert ([each.message for each in raised.value.failed], raised.value.sent) == (asked, 2)
    assert [each.body for each in await queue.peek()] == ["plain", "plain too"]


async def test_a_temporary_queue_wants_its_receiver(activemq):
    """A request that nobody could be answered is refused before it is sent; so is a second receiver."""
    replies = activemq.temporary_queue()
    with pytest.raises(ConfigurationError, match="nobody receives"):
        await activemq.queue(fresh()).send(Message(1, return_address=replies.address))
    async with replies.receiver():
        with pytest.raises(ConfigurationError, match="receiver already"):
            await replies.receiver().open()


@pytest.mark.parametrize(
    "address",
    [
        "activemq:queue/a,topic://b",
        "activemq:queue/a>",
        "activemq:queue/a?consumer.exclusive=true",
        "activemq:queue/topic://b",
        "activemq:queue/",
        "activemq:bus/a",
        "activemq:temp-queue/a",
        "activemq:temp-queue/eip-" + "0" * 32,
        "activemq:",
        "memory:queue/a",
        "arn:aws:sqs:eu-central-1:123456789012:a",
    ],
)
async def test_an_address_that_is_more_than_a_name_is_refused(activemq, address):
    """The broker would send to a list, a wildcard or with options what a stranger put there."""
    with pytest.raises(AddressRefused):
        activemq.resolve(address)


async def test_addresses_of_topics_and_queues_lead_back(activemq):
    for channel in (activemq.queue("a.b-c"), activemq.topic("t"), activemq.topic("t", virtual=False)):
        assert activemq.resolve(channel.address) is channel
    allowed = ReturnAddresses(activemq, prefix="rfq-")
    assert allowed.resolve("activemq:queue/rfq-1").name == "rfq-1"
    with pytest.raises(AddressRefused):
        allowed.resolve("activemq:queue/rfq-1,other")


@pytest.mark.parametrize("name", ["", "a.b", "a>", "a b"])
async def test_a_subscriptions_name_is_one_word(activemq, name):
    with pytest.raises(ConfigurationError):
        activemq.topic("t").subscription(name)


async def test_an_ack_without_a_callback_takes_no_call(activemq):
    """One with a callback waits until the broker has it, and a second ack is refused."""
    queue = activemq.queue(fresh())
    await queue.send(Message(1), Message(2))
    async with queue.receiver() as receiver:
        [plain], [called_back] = await receiver.receive(1), await receiver.receive(1)
        called_back.on_acked = [lambda: None]
        assert not receiver.ack_nowait(called_back)
        assert receiver.ack_nowait(plain)
        assert not receiver.ack_nowait(plain)
    assert await bodies(queue) == [called_back.message.body]
