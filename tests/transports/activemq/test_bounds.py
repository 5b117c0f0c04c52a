"""Time bounds: connecting, sending, stopping, a loop that is blocked; wrong uses; what health reports."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from contextlib import ExitStack, asynccontextmanager, contextmanager
from types import SimpleNamespace
from uuid import uuid4

import pytest
import structlog

from eip import Consumer, Message
from eip.errors import AccessDenied, ConfigurationError, ConnectionLost, StateError, TransportError
from eip.transports.activemq import ActiveMQTransport, Credentials
from eip.transports.activemq.receiver import ActiveMQReceiver
from tests.runtime.scripted import until
from tests.support.processes import free_port
from tests.transports.activemq.proxy import Proxy

pytestmark = pytest.mark.activemq


def fresh() -> str:
    return f"bounds-{uuid4().hex[:12]}"


def through(proxy: Proxy, **options) -> ActiveMQTransport:
    return ActiveMQTransport(f"stomp://eip:eip-secret@127.0.0.1:{proxy.port}", **options)


@asynccontextmanager
async def silent_server():
    """Accepts connections and never answers; gives its port."""
    writers = []

    async def accept(_, writer):
        writers.append(writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        for writer in writers:
            writer.transport.abort()


@asynccontextmanager
async def within(seconds: float):
    started = asyncio.get_running_loop().time()
    yield
    assert asyncio.get_running_loop().time() - started < seconds


@pytest.mark.parametrize("scheme", ["stomp", "stomp+ssl"])
async def test_opening_against_a_server_that_never_answers_ends(scheme):
    """Fault 41e: in bounded time, with the address and the step; one line, further attempts with back-off."""
    async with silent_server() as port:
        transport = ActiveMQTransport(f"{scheme}://127.0.0.1:{port}", connect_timeout=0.2, open_timeout=1.5)
        with structlog.testing.capture_logs() as logs:
            async with within(10):
                with pytest.raises(ConnectionLost, match=rf"127.0.0.1:{port}.*while (logging in|connecting)"):
                    await transport.open()
        assert [each["event"] for each in logs] == ["connect_failed"]


@contextmanager
def dropping_port():
    """A port that answers no packet: the queue of its listening socket is full, so the kernel drops each SYN."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening, ExitStack() as stack:
        address = listening.getsockname()
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(address)
        with socket.socket() as probe:
            probe.settimeout(0.2)
            if probe.connect_ex(address) == 0:
                pytest.skip("this kernel accepts connections beyond the backlog")
        yield address[1]


@pytest.mark.parametrize("scheme", ["stomp", "stomp+ssl"])
async def test_opening_against_an_address_that_drops_packets_ends(scheme):
    """Fault 41e: a firewall's DROP. In bounded time, with the address and the step."""
    with dropping_port() as port:
        transport = ActiveMQTransport(f"{scheme}://127.0.0.1:{port}", connect_timeout=0.2, open_timeout=1.0)
        async with within(10):
            with pytest.raises(ConnectionLost, match=rf"127.0.0.1:{port}.*no answer within 0.2 s, while connecting"):
                await transport.open()
        assert not transport.connections()


async def test_a_broker_behind_one_that_drops_packets_is_found(activemq_broker):
    """The first address costs its connect timeout, and no more."""
    with dropping_port() as port:
        urls = f"stomp://127.0.0.1:{port},{activemq_broker.url}"
        async with within(30), ActiveMQTransport(urls, connect_timeout=1.0) as transport:
            await transport.queue(fresh()).send(Message(1))
            (connection,) = transport.connections()
            assert connection.server == f"stomp://127.0.0.1:{activemq_broker.port}"


async def test_opening_where_nobody_listens_names_the_address():
    """Fault 32: host, port, and what was being done."""
    port = free_port()
    async with within(10):
        with pytest.raises(ConnectionLost, match=rf"stomp://127.0.0.1:{port}, while connecting"):
            await ActiveMQTransport(f"stomp://127.0.0.1:{port}", open_timeout=0.5).open()


async def test_a_consumer_that_cannot_start_ends_and_leaves_nothing():
    async with silent_server() as port:
        transport = ActiveMQTransport(f"stomp://127.0.0.1:{port}", connect_timeout=0.2, open_timeout=0.5)
        consumer = Consumer(transport.queue(fresh()), print)
        task = asyncio.create_task(consumer.run())
        await asyncio.sleep(0.1)
        async with within(8):
            await consumer.stop()
            await asyncio.gather(task, return_exceptions=True)
            await transport.aclose()
        assert not transport._client.connections


async def test_a_send_is_bounded_while_the_broker_is_away(activemq_broker):
    """Fault 29: by the transport's timeout, by the caller's own, and the error names the last failure."""
    async with Proxy(activemq_broker.port) as proxy, through(proxy, timeout=0.6) as transport:
        queue = transport.queue(fresh())
        proxy._server.close()
        proxy.cut()
        async with within(15):
            with pytest.raises(ConnectionLost, match=rf"within 0.6 s.*127.0.0.1:{proxy.port}"):
                await queue.send(Message(1))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await queue.send(Message(2))


async def test_an_answer_that_may_change_is_not_asked_for_in_a_loop(activemq, monkeypatch):
    """Kind of fault 42: a broker that is stopping answers each attempt at once."""
    attempts = 0

    async def refuse(connection, batch):
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise ConnectionLost("BrokerStoppedException: it is stopping")

    monkeypatch.setattr(activemq._client._batches, "_transfer", refuse)
    monkeypatch.setattr("eip.transports.activemq._batching._RETRY_BACKOFF", SimpleNamespace(delay=lambda _: 0.15))
    started = asyncio.get_running_loop().time()
    await activemq.queue(fresh()).send(Message(1))
    assert attempts == 3
    assert asyncio.get_running_loop().time() - started >= 0.3


async def test_sends_that_wait_behind_others_are_bounded_as_well(activemq_broker):
    """Fault 29: a transaction that begins when the one before it was given up has waited as long; ten of them were."""
    async with Proxy(activemq_broker.port) as proxy, through(proxy, timeout=0.8) as transport:
        queue = transport.queue(fresh())
        proxy._server.close()
        proxy.cut()
        async with within(6):
            with pytest.raises(ConnectionLost, match=r"within 0\.8 s"):
                await queue.send(*(Message(number) for number in range(1_000)))


async def test_a_send_that_is_cancelled_while_it_waits_for_room_is_taken_back(activemq_broker, monkeypatch):
    monkeypatch.setattr("eip.transports.activemq._batching._MAX_PENDING", 5)
    async with Proxy(activemq_broker.port) as proxy, through(proxy) as transport:
        queue, batches = transport.queue(fresh()), transport._client._batches
        await queue.send(Message("first"))
        activemq_broker.pause()
        try:
            blocking = asyncio.create_task(queue.send(Message("second")))
            await until(lambda: batches._pump is not None and not batches._pending, within=10)  # on its way, alone
            waiting = asyncio.create_task(queue.send(*(Message(number) for number in range(10))))
            await until(lambda: len(batches._pending) == 5, within=10)
            waiting.cancel()
            await asyncio.wait((waiting,))
            assert waiting.cancelled()
        finally:
            activemq_broker.resume()
        await blocking
        await queue.send(Message("last"))
        assert [each.body for each in await queue.peek(20)] == ["first", "second", "last"]


@pytest.mark.parametrize("state", ["idle", "connecting", "paused", "away with sends"])
async def test_closing_ends_in_every_state(activemq_broker, state, monkeypatch):
    """Fault 41: whatever the broker does, closing ends within its limit."""
    monkeypatch.setattr("eip.transports.activemq._client._FLUSH_TIMEOUT_S", 1.0)
    async with Proxy(activemq_broker.port) as proxy, silent_server() as port:
        if state == "connecting":
            transport = ActiveMQTransport(f"stomp://127.0.0.1:{port}")
            waiting = asyncio.create_task(transport.open())
            await asyncio.sleep(0.1)
        else:
            transport = through(proxy)
            await transport.open()
            queue = transport.queue(fresh())
            receiver = queue.receiver()
            await receiver.open()
            waiting = asyncio.create_task(asyncio.sleep(0))
        if state == "paused":
            activemq_broker.pause()
        if state in ("paused", "away with sends"):
            if state != "paused":
                proxy._server.close()
                proxy.cut()
            waiting = asyncio.create_task(queue.send(Message(1)))
            await asyncio.sleep(0.1)
        try:
            async with within(10):
                await transport.aclose()
                outcome = (await asyncio.gather(waiting, return_exceptions=True))[0]
        finally:
            if state == "paused":
                activemq_broker.resume()
        assert outcome is None or isinstance(outcome, (TransportError, ConfigurationError))


async def test_a_closed_transport_refuses_every_use(activemq_broker):
    """Fault 33."""
    transport = ActiveMQTransport(activemq_broker.url)
    async with transport:
        queue, topic, replies = transport.queue(fresh()), transport.topic(fresh()), transport.temporary_queue()
        opened = queue.receiver()
        await opened.open()
    for use in (
        lambda: queue.send(Message(1)),
        lambda: topic.send(Message(1)),
        lambda: opened.receive(1),
        queue.receiver().open,
        topic.subscription("s").receiver().open,
        replies.receiver().open,
        transport.open,
    ):
        with pytest.raises(StateError, match="closed"):
            await use()
    assert not transport.health().ok
    assert not transport._client.connections


async def test_wrong_uses_are_refused_by_name(activemq):
    """Fault 34."""
    with pytest.raises(TypeError, match="dict"):
        await activemq.queue(fresh()).send({"a": 1})
    for options in (
        {"heartbeat": -1},
        {"probe_interval": 0},
        {"max_blocked": 0},
        {"max_message_bytes": 3},
        {"timeout": -1.0},
    ):
        (name,) = options
        with pytest.raises(ConfigurationError, match=name):
            ActiveMQTransport("stomp://127.0.0.1", **options)


async def test_a_password_that_is_wrong_later_is_reported_once_with_back_off(activemq_broker):
    """Fault 42: the same permanent error does not fill the log, and health says since when and why."""
    password = [activemq_broker.password]

    async def credentials():
        return Credentials(user=activemq_broker.user, password=password[0])

    async with Proxy(activemq_broker.port) as proxy:
        url = f"stomp://127.0.0.1:{proxy.port}"
        async with ActiveMQTransport(url, credentials=credentials, timeout=0.5) as transport:
            assert transport.health().ok
            password[0] = "wrong"
            with structlog.testing.capture_logs() as logs:
                proxy.cut()
                await until(lambda: not transport.health().ok and logs, within=20)
                with pytest.raises(AccessDenied, match=str(proxy.port)):
                    await transport.queue(fresh()).send(Message(1))
            assert [each["event"] for each in logs].count("connect_failed") == 1
            health = transport.health()
            assert (health.ok, health.failing_since is not None) == (False, True)
            assert "AccessDenied" in str(health.reason)


@asynccontextmanager
async def held_and_blocked(broker, *, seconds, beat=False, **options):
    """Block the loop with a message in hand, settle it; gives the receiver, and how many acknowledgements were lost."""
    async with ActiveMQTransport(broker.url, **options) as transport:
        queue = transport.queue(fresh())
        await queue.send(Message("held"))
        async with queue.receiver() as receiver:
            assert isinstance(receiver, ActiveMQReceiver)
            (delivery,) = await receiver.receive(1, wait=30)
            ended = threading.Event()

            def watchdog() -> None:
                while not ended.wait(0.2):
                    assert not receiver.extend_blocking((delivery,), 1.0)

            if beat:
                threading.Thread(target=watchdog, daemon=True).start()
            time.sleep(seconds)  # as a handler does that should not
            ended.set()
            lost = len(await receiver.ack((delivery,)))
            yield transport, lost + receiver.stale_acks


def epoch(transport):
    """Of its receiver's connection: 1 as long as that is the first."""
    return max(each.epoch for each in transport.connections() if "from" in each.name)


@pytest.mark.parametrize(
    ("seconds", "options"),
    [
        # Two missed heart-beats of ours do not matter, as the broker was promised one in ``max_blocked``.
        pytest.param(1.8, {"max_blocked": 10.0}, id="as long as promised"),
        # Over plain TCP the sign of life comes from the watchdog's thread.
        pytest.param(3.6, {"max_blocked": 2.0, "beat": True}, id="for longer, by a watchdog"),
    ],
)
async def test_a_blocked_loop_keeps_its_connection(activemq_broker, seconds, options):
    """Fault 26."""
    async with held_and_blocked(activemq_broker, seconds=seconds, heartbeat=0.8, **options) as (transport, lost):
        await asyncio.sleep(0.3)
        assert (epoch(transport), lost) == (1, 0)


async def test_without_either_the_broker_gives_the_message_to_others(activemq_broker):
    """What the test above protects from."""
    async with held_and_blocked(activemq_broker, seconds=2.0, heartbeat=0.4, max_blocked=0.5) as (transport, _):
        await until(lambda: epoch(transport) > 1, within=20)


async def test_a_line_from_another_thread_never_lands_in_a_frame(activemq_broker):
    """Signs of life while the loop writes large frames: every frame arrives whole."""
    async with ActiveMQTransport(activemq_broker.url) as transport:
        queue = transport.queue(fresh())
        async with queue.receiver(capacity=100) as receiver:
            connection = transport._client.sender.current
            assert connection is not None
            ended = threading.Event()

            def watchdog() -> None:
                while not ended.is_set():
                    connection.beat_blocking()

            thread = threading.Thread(target=watchdog)
            thread.start()
            try:
                for _ in range(5):
                    await queue.send(*(Message("x" * 300_000) for _ in range(4)))
            finally:
                ended.set()
                thread.join()
            assert transport._client.sender.epoch == 1
            got: list = []
            while len(got) < 20:
                got += await receiver.receive(20, wait=10)
            assert {len(each.message.body) for each in got} == {300_000}
