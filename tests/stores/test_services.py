"""The services over stores go on after their databases were restarted, and start and end whatever those do."""

from __future__ import annotations

import asyncio
import uuid

import asyncpg
import pytest

from eip import Message, running
from eip.errors import StoreError
from eip.patterns.aggregator import Aggregator
from eip.patterns.outbox import OutboxRelay
from eip.patterns.process import Process
from eip.patterns.process_manager import ProcessManager
from eip.runtime.service import Service
from eip.stores.postgres import PostgresStore
from eip.stores.postgres_outbox import PostgresOutbox
from eip.stores.redis import RedisStore
from tests.patterns.test_services import Kept, step
from tests.support.processes import free_port
from tests.support.tcp_proxy import TcpProxy
from tests.support.timing import within

pytestmark = pytest.mark.asyncio


async def orders(dsn: str, outbox: PostgresOutbox, *bodies: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await outbox.add(connection, "orders", *(Message(each, group_id="g") for each in bodies))
    finally:
        await connection.close()


@pytest.mark.postgres
async def test_relay_aggregator_and_process_manager_go_on_after_postgres_was_restarted(postgres_server):
    """Fault 7: a restart and pg_terminate_backend ended `run`."""
    server, name = postgres_server, uuid.uuid4().hex[:8]
    sent, aggregates = Kept(), Kept()
    outbox = PostgresOutbox(server.dsn, f"o{name}")
    groups, trips = PostgresStore(server.dsn, f"g{name}"), PostgresStore(server.dsn, f"t{name}")
    relay = OutboxRelay(outbox, {"orders": sent}, poll=0.05)
    aggregator = Aggregator(groups, output=aggregates, deadline=0.2)
    manager = ProcessManager(trips, [Process("trip").step(step)])
    try:
        async with running(relay, aggregator, manager):
            for round_ in ("first", "terminated", "restarted"):
                if round_ == "terminated":
                    admin = await asyncpg.connect(server.dsn)
                    await admin.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
                        "AND backend_type = 'client backend'"
                    )
                    await admin.close()
                if round_ == "restarted":
                    server.stop()
                    await eventually(lambda: failing(relay))
                    server.start()  # not in a thread: the server ends with the thread that began it
                await eventually(lambda name=round_: orders(server.dsn, outbox, name))
                await eventually(lambda name=round_: aggregator(Message(name, id=name, correlation_id=name)))
                await eventually(lambda name=round_: manager.start("trip", {}, id=name))
                await sent.until(round_)
                await aggregates.until(round_)
                await eventually(lambda name=round_: manager.ended(name))
            await eventually(lambda: healthy(relay))
    finally:
        for each in (outbox, groups, trips):
            await each.aclose()
    assert sent.bodies[0] == "first"


@pytest.mark.redis
async def test_an_aggregator_goes_on_after_redis_was_restarted(redis_server):
    """Fault 7: the same with Redis."""
    server = redis_server
    out = Kept()
    store = RedisStore(server.url, uuid.uuid4().hex)
    try:
        async with Aggregator(store, output=out, deadline=0.2) as aggregator:
            await aggregator(Message("a", id="a", correlation_id="a"))
            await out.until("a")
            server.stop()
            server.start()  # not in a thread: the server ends with the thread that began it
            await eventually(lambda: aggregator(Message("b", id="b", correlation_id="b")))
            await out.until("b")
    finally:
        await store.aclose()


@pytest.mark.postgres
async def test_services_start_while_postgres_is_away_and_stop_while_it_hangs(postgres_server):
    """Faults 41, 41e: a connection that is accepted and never answered, before and after the start."""
    sent = Kept()
    async with TcpProxy(postgres_server.port) as proxy:
        dsn = postgres_server.dsn.replace(f":{postgres_server.port}", f":{proxy.port}")
        name = f"o{uuid.uuid4().hex[:12]}"
        outbox = PostgresOutbox(f"postgresql://postgres@127.0.0.1:{free_port()}/postgres", name)
        relay = OutboxRelay(outbox, {"orders": sent}, poll=0.05)
        task = asyncio.create_task(relay.run())
        async with asyncio.timeout(10):
            while relay.health().failing_since is None:
                await asyncio.sleep(0.02)
        assert "refused" in (relay.health().reason or "").lower() or "Connect" in (relay.health().reason or "")
        await relay.stop()
        await task
        stalled = PostgresOutbox(dsn, name)
        relay = OutboxRelay(stalled, {"orders": sent}, poll=0.05)
        async with relay:
            proxy.stall()
            await asyncio.sleep(0.2)
            with within(10):
                await relay.stop(grace=1)
        await stalled.aclose()
        await outbox.aclose()


async def healthy(service: Service) -> None:
    if not service.health().ok:
        raise StoreError(service.health())


async def failing(service: Service) -> None:
    if service.health().ok:
        raise StoreError("not yet")


async def eventually(call) -> None:
    """Do it once the server is back."""
    async with asyncio.timeout(30):
        while True:
            try:
                await call()
            except (StoreError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await asyncio.sleep(0.05)
            else:
                return
