"""Redis: the suite, processes that race, a server that is killed."""

from __future__ import annotations

import asyncio
import uuid

import pytest
import redis.asyncio

from eip import clock
from eip.errors import ConfigurationError, StoreError
from eip.stores.base import ABSENT
from eip.stores.redis import RedisStore
from eip.testing.stores import StoreConformance
from tests.stores.racing import COUNTS, PROCESSES, counted, race
from tests.support.processes import free_port
from tests.support.redis import RedisServer
from tests.support.tcp_proxy import TcpProxy

pytestmark = [pytest.mark.redis, pytest.mark.asyncio]


@pytest.fixture
def name():
    return uuid.uuid4().hex


@pytest.fixture
async def store(redis_server, name):
    store = RedisStore(redis_server.url, name)
    yield store
    await store.aclose()


@pytest.mark.redis
class TestRedisStore(StoreConformance):
    @pytest.fixture
    async def store(self, redis_server, name):
        store = RedisStore(redis_server.url, name)
        yield store
        await store.aclose()


async def test_of_several_processes_one_wins_each_write(redis_server, store, name):
    codes = await race(
        "from eip.stores.redis import RedisStore", "RedisStore(sys.argv[1], sys.argv[2])", redis_server.url, name
    )
    assert codes == [0] * PROCESSES
    assert await counted(store) == PROCESSES * COUNTS


async def test_a_killed_server_is_an_error_and_what_was_written_is_there_again(redis_server, store):
    version = await store.put("k", b"kept", due=5.0)
    await store.put_part("k", "p", b"part")
    redis_server.kill()
    try:
        for call in (store.get("k"), store.put("k", b"x"), store.due(10.0), store.parts("k"), store.delete("k")):
            with pytest.raises(StoreError, match="Redis"):
                await call
    finally:
        redis_server.start()
    assert await store.get("k") == (b"kept", version)
    assert await store.parts("k") == {"p": b"part"}
    assert await store.due(10.0) == ["k"]
    assert await store.put("k", b"next", version=version) is not None


async def test_after_a_failover_the_connections_to_the_old_primary_are_left(redis_server, tmp_path, name):
    """They stay open, and whatever is sent over them is refused."""
    old = RedisServer(tmp_path)
    old.start()
    try:
        async with (
            TcpProxy(old.port) as proxy,
            RedisStore(f"redis://127.0.0.1:{proxy.port}", name) as store,
            redis.asyncio.from_url(old.url) as client,
        ):
            await store.put("k", b"1")
            await client.replicaof("127.0.0.1", "1")
            proxy.upstream = redis_server.port
            with pytest.raises(StoreError, match="ReadOnlyError") as caught:
                await store.put("k", b"2")
            assert caught.value.transient
            assert await store.put("k", b"2")
    finally:
        old.stop()


async def test_a_put_that_is_sent_again_is_the_same_put(redis_server, store, monkeypatch):
    """As the client does where the answer was lost."""
    monkeypatch.setattr("eip.stores.redis.new_id", lambda: "made")
    assert await store.put("k", b"1", version=ABSENT) == "made"
    assert await store.put("k", b"1", version=ABSENT) == "made"


async def test_redis_itself_removes_what_has_expired_a_minute_later(redis_server, store, name):
    now = clock.now()
    async with redis.asyncio.from_url(redis_server.url) as client:
        await store.put_part("k", "p", b"", expires_at=now + 500)
        await store.put("k", b"1", expires_at=now + 10)
        assert 60 < await client.ttl(f"{{{name}}}:r:k") <= 70
        assert 60 < await client.ttl(f"{{{name}}}:p:k") <= 70
        await store.put_part("k", "q", b"")
        assert 60 < await client.ttl(f"{{{name}}}:p:k") <= 70
        await store.put("k", b"1")
        assert await client.ttl(f"{{{name}}}:r:k") == -1
        assert await client.ttl(f"{{{name}}}:p:k") == -1
        await store.put("later", b"1", expires_at=now + 10)
        await store.put_part("later", "p", b"")
        assert 60 < await client.ttl(f"{{{name}}}:p:later") <= 70
        await store.put_part("alone", "p", b"", expires_at=now + 10)
        await store.put_part("alone", "q", b"", expires_at=now + 20)
        await store.put_part("alone", "p", b"", expires_at=now + 10)
        assert 70 < await client.ttl(f"{{{name}}}:p:alone") <= 80
        await store.put_part("alone", "r", b"")
        await store.put_part("alone", "q", b"", expires_at=now + 20)
        assert await client.ttl(f"{{{name}}}:p:alone") == -1


async def test_a_clock_that_is_ahead_removes_nothing_that_others_still_have(redis_server, store, name):
    """A process five minutes ahead that only looked (a console, a sweep) took claims and timers from all others."""
    now = clock.now()
    version = await store.put("k", b"1", due=now, expires_at=now + 100)
    await store.put_part("k", "p", b"part")
    async with RedisStore(redis_server.url, name) as ahead:
        with clock.use_clock(lambda: now + 300):
            assert await ahead.get("k") is None
            assert await ahead.parts("k") == {}
            assert await ahead.due(now + 300) == []
            assert await ahead.next_due() is None
            assert not await ahead.delete("k")
            assert await ahead.put("k", b"2", version=version) is None
    assert await store.get("k") == (b"1", version)
    assert await store.parts("k") == {"p": b"part"}
    assert await store.due(now + 1) == ["k"]


async def test_who_may_only_read_lists_what_is_due(redis_server, store, name):
    """Striking off what Redis had removed was refused, and with it the list: of a console, or from a replica."""
    await store.put("here", b"1", due=2.0)
    await store.put("gone", b"1", due=1.0)
    async with redis.asyncio.from_url(redis_server.url) as client:
        await client.delete(f"{{{name}}}:r:gone")
        await client.acl_setuser(name, enabled=True, nopass=True, keys=["*"], commands=["+@read", "+evalsha"])
        async with RedisStore(redis_server.url.replace("//", f"//{name}:x@"), name) as viewer:
            assert await viewer.due(5.0) == ["here"]
            assert await viewer.next_due() == 2.0
        await client.acl_deluser(name)


async def test_a_record_that_is_not_ours_is_a_store_error(redis_server, store, name):
    async with redis.asyncio.from_url(redis_server.url) as client:
        await client.hset(f"{{{name}}}:r:k", mapping={"v": b"1", "n": b"\xff\xfe"})
        with pytest.raises(StoreError, match="not ours"):
            await store.get("k")


@pytest.mark.usefixtures("redis_server")  # skips where there is none
async def test_on_a_cluster_a_collection_is_on_one_shard(tmp_path):
    class Cluster(RedisServer):
        def command(self):
            return [*super().command(), "--cluster-enabled", "yes", "--cluster-port", str(free_port())]

    server = Cluster(tmp_path)
    server.start()
    async with redis.asyncio.from_url(server.url) as client:
        await client.execute_command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        while b"cluster_state:ok" not in await client.execute_command("CLUSTER", "INFO"):
            await asyncio.sleep(0.05)
    async with redis.asyncio.RedisCluster.from_url(server.url) as cluster:
        store = RedisStore(cluster)
        version = await store.put("k", b"1", version=ABSENT, due=5.0)
        assert await store.get("k") == (b"1", version)
        await store.put_part("k", "p", b"1")
        assert await store.due(10.0) == ["k"]
        await store.delete_parts("k")
        assert await store.parts("k") == {}
    server.stop()


async def test_it_says_what_is_wrong(redis_server):
    with pytest.raises(ConfigurationError, match="decode"):
        RedisStore(redis.asyncio.from_url(redis_server.url, decode_responses=True))
    with pytest.raises(ConfigurationError, match="braces"):
        RedisStore(redis_server.url, "{x}")


async def test_a_row_that_is_not_ours_hides_no_others(redis_server, store, name):
    """A part of another program was an error of all parts of its key, and a name that is not UTF-8 as well."""
    await store.put("k", b"1", due=2.0)
    await store.put_part("k", "p", b"part")
    async with redis.asyncio.from_url(redis_server.url) as client:
        await client.hset(f"{{{name}}}:p:k", mapping={b"\xff": b"\n1", b"odd": b"soon\n2", b"bare": b"3"})
        await client.hset(f"{{{name}}}:p:k", mapping={"eip:sha256:ab": b"\nnot ours"})
        await client.zadd(f"{{{name}}}:due", {b"\xff": 1.0})
        await client.hset(f"{{{name}}}:r:".encode() + b"\xff", mapping={"v": b"1", "n": b"1", "e": b""})
    assert await store.parts("k") == {"p": b"part"}
    due = await store.due(5.0)
    assert due[1:] == ["k"]
    assert await store.get(due[0]) is None
