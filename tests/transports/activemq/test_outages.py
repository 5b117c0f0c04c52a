"""Brokers that die, stall, fail over or lie: no message is lost, and no consumer or sender is stuck."""

from __future__ import annotations

import asyncio
from collections import Counter
from uuid import uuid4

import pytest

from eip import Consumer, Message
from eip.channels import Delivery
from eip.errors import ConnectionLost, LeaseLost
from eip.retry import Backoff
from eip.transports.activemq import ActiveMQTransport
from eip.transports.activemq.receiver import ActiveMQReceiver
from tests.transports.activemq.proxy import Proxy

pytestmark = pytest.mark.activemq


def fresh() -> str:
    return f"outage-{uuid4().hex[:12]}"


def through(proxy: Proxy, **options) -> ActiveMQTransport:
    return ActiveMQTransport(f"stomp://eip:eip-secret@127.0.0.1:{proxy.port}", **options)


async def one(receiver):
    (delivery,) = await receiver.receive(1, wait=60)
    return delivery


async def one_settled(receiver):
    """The next message whose ack is in time: one that came over a connection which then breaks comes again."""
    while True:
        delivery = await one(receiver)
        try:
            await delivery.ack()
        except LeaseLost:
            continue
        return delivery


async def disconnected(transport) -> None:
    async with asyncio.timeout(60):
        while any(each.connected for each in transport.connections()):
            await asyncio.sleep(0.02)


async def drained(queue, *, expected: int = 0) -> list[int]:
    """What comes, duplicates included: at least so many different messages, and what comes soon after those."""
    got: list[int] = []
    async with queue.receiver(capacity=100) as receiver:
        while taken := await receiver.receive(100, wait=30.0 if len(set(got)) < expected else 0.3):
            got += [each.message.body for each in taken]
            await receiver.ack(taken)
    return got


async def flow(broker, *, count: int, kills: int) -> None:
    """Messages are sent and handled while the broker is killed with -9 and started again, so many times."""
    handled, sent, news = Counter[int](), 0, asyncio.Event()

    async def handle(message):
        await asyncio.sleep(0.002)
        handled[message.body] += 1
        news.set()

    async def until(enough: int) -> None:
        async with asyncio.timeout(120):
            while len(handled) < enough:
                news.clear()
                await news.wait()

    async with ActiveMQTransport(broker.url) as transport:
        queue = transport.queue(fresh())
        consumer = Consumer(queue, handle, concurrency=10, retry=Backoff(base=0.1))

        async def send() -> None:
            nonlocal sent
            for number in range(0, count, 5):
                await queue.send(*(Message(each) for each in range(number, number + 5)))
                sent += 5

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(consumer.run())
            tasks.create_task(send())
            for kill in range(1, kills + 1):
                await until(count * kill // (kills + 1))
                broker.kill()
                await disconnected(transport)
                broker.start()  # by this thread: the kernel ends it with the thread that started it
            await until(count)
            assert sent == count
            await consumer.stop()
        assert not await drained(queue)
    assert set(handled) == set(range(count))


async def test_a_broker_killed_and_restarted_in_the_middle_loses_nothing(start_activemq):
    """Every message that was accepted is handled, and sends go on where they were."""
    await flow(start_activemq(sync=True), count=600, kills=1)


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_a_broker_killed_again_and_again_loses_nothing(start_activemq):
    await flow(start_activemq(sync=True), count=20_000, kills=10)


async def test_failover_goes_to_the_broker_that_answers(start_activemq):
    """Active before standby: when the first is killed, its consumers and senders go on with the second."""
    active, standby = start_activemq(sync=True), start_activemq(sync=True)
    seen: asyncio.Queue[str] = asyncio.Queue()

    async def handle(message):
        await seen.put(message.body)

    async with ActiveMQTransport(f"{active.url},{standby.url}") as transport:
        queue = transport.queue(fresh())
        consumer = Consumer(queue, handle)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(consumer.run())
            await queue.send(Message("one"))
            async with asyncio.timeout(60):
                assert await seen.get() == "one"
            assert {each.server for each in transport.connections()} == {f"stomp://127.0.0.1:{active.port}"}
            active.kill()
            async with asyncio.timeout(60):
                await queue.send(Message("two"))
                assert await seen.get() == "two"
            assert {each.server for each in transport.connections()} == {f"stomp://127.0.0.1:{standby.port}"}
            assert all(each.epoch == 2 for each in transport.connections())
            await consumer.stop()


async def test_acks_of_an_old_connection_are_dropped_and_counted(activemq, activemq_broker):
    """After a reconnect an old receipt settles nothing: the message comes again, and is settled by the new one."""
    async with Proxy(activemq_broker.port) as proxy, through(proxy) as transport:
        queue = transport.queue(fresh())
        await activemq.queue(queue.name).send(Message("held"))
        async with queue.receiver() as receiver:
            lost: list[Delivery] = []
            assert isinstance(receiver, ActiveMQReceiver)
            receiver.on_lost = lost.extend
            old = await one(receiver)
            proxy.cut()
            new = await one(receiver)
            assert lost == [old]
            assert new.message.id == old.message.id
            with pytest.raises(LeaseLost):
                await old.ack()
            with pytest.raises(LeaseLost):
                await old.nack()
            assert receiver.stale_acks == 2
            await new.ack()
        assert not await drained(activemq.queue(queue.name))


async def test_what_follows_an_ack_follows_its_confirmation(activemq, activemq_broker):
    """A claim check deletes its object once the message is gone: an ack that may not have arrived does not count."""
    async with Proxy(activemq_broker.port) as proxy, through(proxy) as transport:
        queue, told = transport.queue(fresh()), []
        await queue.send(Message("one"), Message("two"))
        async with queue.receiver() as receiver:
            first = await one(receiver)
            first.on_acked = [lambda: told.append("one")]
            await first.ack()
            assert told == ["one"]
            second = await one(receiver)
            second.on_acked = [lambda: told.append("two")]
            proxy.cut_before = b"RECEIPT"
            with pytest.raises(LeaseLost):
                await second.ack()
            assert told == ["one"]


async def test_a_handler_is_cancelled_when_its_connection_is_gone(activemq, activemq_broker):
    """Another consumer may have the message by then."""
    started, cancelled, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handle(_):
        if started.is_set():
            done.set()
            return
        started.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with Proxy(activemq_broker.port) as proxy, through(proxy) as transport:
        queue = transport.queue(fresh())
        await activemq.queue(queue.name).send(Message("held"))
        consumer = Consumer(queue, handle)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(consumer.run())
            async with asyncio.timeout(60):
                await started.wait()
                proxy.cut()
                await cancelled.wait()
                await done.wait()
            await consumer.stop()
        assert consumer.stats.lost == 1


@pytest.mark.parametrize("count", [1, 150])
async def test_a_send_whose_answer_is_lost_is_sent_again(activemq, activemq_broker, count):
    """At-least-once: all arrive, in spite of the duplicate that a lost answer may mean, under the same ids."""
    async with Proxy(activemq_broker.port) as proxy, through(proxy) as transport:
        proxy.cut_before = b"RECEIPT"
        queue = transport.queue(fresh())
        await queue.send(*(Message(number) for number in range(count)))
        assert proxy.accepted == 2
        got = await drained(activemq.queue(queue.name), expected=count)
    assert set(got) == set(range(count))
    assert len(got) <= count + 100


async def test_a_transaction_that_was_cut_before_its_commit_is_not_there_twice(activemq, activemq_broker):
    """What is not committed is rolled back by the broker, and sent again on the next connection."""
    async with Proxy(activemq_broker.port) as proxy, through(proxy) as transport:
        queue = transport.queue(fresh())
        proxy.cut_after_sending = b"BEGIN"
        bulk = {"bulk": "x" * 100_000}  # the commit leaves long after the beginning
        await queue.send(*(Message(number, headers=bulk) for number in range(20)))
        assert proxy.accepted == 2
        got = await drained(activemq.queue(queue.name), expected=20)
    assert set(got) == set(range(20))


async def test_a_send_gives_up_when_patience_is_over(activemq_broker):
    """No broker comes back: the error says so, in bounded time, and the next send may succeed."""
    async with Proxy(activemq_broker.port) as proxy, through(proxy, timeout=0.5) as transport:
        queue = transport.queue(fresh())
        proxy._server.close()
        proxy.cut()
        with pytest.raises(ConnectionLost):
            await queue.send(Message(1))


async def test_a_consumer_s_health_knows_that_the_broker_is_away(activemq_broker):
    """Fault 46: its receives wait in this process, so that none fails."""

    async def handle(_: Message) -> None:
        return

    async with Proxy(activemq_broker.port) as proxy, through(proxy) as transport:
        consumer = Consumer(transport.queue(fresh()), handle)
        async with consumer:
            assert consumer.health().ok
            proxy._server.close()
            proxy.cut()
            async with asyncio.timeout(30):
                while consumer.health().ok:
                    await asyncio.sleep(0.02)
            assert consumer.health().failing_since is not None
            assert str(proxy.port) in str(consumer.health().reason)


async def test_a_stalled_broker_is_noticed_by_its_heartbeats(activemq_broker):
    """A broker that is stopped keeps its connections open; its silence ends them, and the consumer goes on later."""
    broker = activemq_broker
    async with ActiveMQTransport(broker.url, heartbeat=0.5) as transport:
        queue = transport.queue(fresh())
        async with queue.receiver() as receiver:
            await queue.send(Message("before"))
            await one_settled(receiver)
            broker.pause()
            try:
                await disconnected(transport)
            finally:
                broker.resume()  # it is the session's
            await queue.send(Message("after"))
            assert (await one_settled(receiver)).message.body == "after"


async def test_a_quiet_connection_is_kept_alive_by_our_heartbeats(activemq_broker):
    """The broker would end it after one and a half intervals of silence."""
    async with ActiveMQTransport(activemq_broker.url, heartbeat=1.5) as transport:
        await asyncio.sleep(3.0)
        (health,) = transport.connections()
        assert (health.connected, health.epoch) == (True, 1)


async def test_heartbeats_are_no_progress(activemq, activemq_broker):
    """A broker that beats its heart and delivers nothing is asked for a sign of progress, and replaced."""
    async with (
        Proxy(activemq_broker.port) as proxy,
        through(proxy, heartbeat=0.2, probe_interval=0.5, answer_timeout=1) as transport,
    ):
        queue = transport.queue(fresh())
        async with queue.receiver() as receiver:
            proxy.swallow = b"MESSAGE"
            await activemq.queue(queue.name).send(Message("swallowed"))
            async with asyncio.timeout(60):
                while all(each.epoch == 1 for each in transport.connections()):
                    await asyncio.sleep(0.05)
            proxy.swallow = None
            assert (await one_settled(receiver)).message.body == "swallowed"


HOSTILE = {
    "no STOMP": b"HTTP/1.1 200 OK\r\n\r\n",
    "a frame that no broker sends": b"SEND\ndestination:/queue/x\n\nboo\0",
    "an endless header": b"MESSAGE\na:" + b"x" * 2_000_000,
    "an endless body": b"MESSAGE\ncontent-length:5000000000\n\n",
    "an error": b"ERROR\nmessage:go away\n\nstack\0",
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE.keys())
async def test_hostile_frames_end_the_connection_and_not_the_consumer(activemq, activemq_broker, hostile):
    """Whatever comes instead of frames, the next connection goes on where this one ended."""
    async with Proxy(activemq_broker.port) as proxy, through(proxy) as transport:
        queue = transport.queue(fresh())
        async with queue.receiver() as receiver:
            for writer in proxy._writers:
                writer.write(hostile)  # to both sides: the broker is not spared either
            await activemq.queue(queue.name).send(Message("after"))
            assert (await one_settled(receiver)).message.body == "after"
        assert proxy.accepted > 2


@pytest.mark.parametrize(
    "greeting",
    [
        b"CONNECTED\nversion:1.0\n\n\0",
        b"CONNECTED\nversion:1.2\nheart-beat:x\n\n\0",
        b"CONNECTED\nversion:1.2\nheart-beat:-5,0\n\n\0",
        b"CONNECTED\nversion:1.2\nheart-beat:" + b"9" * 400 + b",0\n\n\0",
        b"",
    ],
)
async def test_a_greeting_that_is_none_is_refused(greeting):
    async def answer(reader, writer):
        await reader.read(1 << 16)
        writer.write(greeting)
        if greeting:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        url = f"stomp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(ConnectionLost):
            async with ActiveMQTransport(url, patience=0.3):
                pass


async def test_unknown_messages_and_receipts_are_ignored(activemq, activemq_broker):
    """A message of no subscription of ours, an answer to no question: nothing follows from them."""
    async with Proxy(activemq_broker.port) as proxy, through(proxy) as transport:
        queue = transport.queue(fresh())
        async with queue.receiver() as receiver:
            for connection in transport._client.connections:
                for frame in (b"MESSAGE\nsubscription:zz\n\n\0", b"MESSAGE\n\n\0", b"RECEIPT\n\n\0", b"\n\r\n\n"):
                    assert connection.current is not None
                    connection.current.get_buffer(-1)[: len(frame)] = frame
                    connection.current.buffer_updated(len(frame))
            await queue.send(Message(1))
            await (await one(receiver)).ack()
            assert all(each.epoch == 1 for each in transport.connections())


async def test_closing_while_no_broker_is_there_ends(activemq_broker):
    """Neither a transport nor a receiver waits for a broker in order to close."""
    async with Proxy(activemq_broker.port) as proxy:
        transport = through(proxy)
        await transport.open()
        receiver = transport.queue(fresh()).receiver()
        await receiver.open()
        proxy._server.close()
        proxy.cut()
        async with asyncio.timeout(10):
            await receiver.aclose()
            await transport.aclose()
            await transport.aclose()
