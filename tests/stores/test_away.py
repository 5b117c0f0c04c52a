"""Stores whose server is away, hangs, or cuts an answer off: errors in bounded time, and then they go on."""

from __future__ import annotations

import asyncio
import uuid

import asyncpg
import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from eip.errors import MessageTooLarge, StoreError
from eip.stores.dynamodb import DynamoStore, create_table, table_definition
from eip.stores.objects import FileObjects
from eip.stores.postgres import PostgresStore
from eip.stores.redis import RedisStore
from eip.stores.s3 import S3Objects
from tests.support.tcp_proxy import TcpProxy
from tests.support.timing import within

pytestmark = pytest.mark.asyncio


@pytest.fixture(
    params=[pytest.param("postgres", marks=pytest.mark.postgres), pytest.param("redis", marks=pytest.mark.redis)]
)
async def away(request):
    """A store behind a proxy that can stall and cut."""
    server = request.getfixturevalue(f"{request.param}_server")
    async with TcpProxy(server.port) as proxy:
        url = server.url.replace(f":{server.port}", f":{proxy.port}")
        name = f"t{uuid.uuid4().hex}"
        store = PostgresStore(url, name) if request.param == "postgres" else RedisStore(url, name)
        yield store, proxy
        await store.aclose()


async def test_a_call_is_cancelled_at_once_while_the_server_hangs(away):
    """Fault 41: a consumer that stops must not wait for a store that never answers."""
    store, proxy = away
    await store.put("k", b"1")
    proxy.stall()
    for _ in range(2):  # on a connection that was open, and on a new one
        call = asyncio.create_task(store.get("k"))
        await asyncio.sleep(0.05)
        with within(4):
            call.cancel()
            await asyncio.wait([call])
    with within(10):
        await store.aclose()


async def test_it_goes_on_when_connections_were_cut(away):
    """Fault 7: a network that resets every connection, in the middle of calls, too."""
    store, proxy = away
    await store.put("k", b"0")
    for round_ in range(5):
        calls = [asyncio.create_task(store.put(f"{n}", b"%d" % round_)) for n in range(20)]
        await asyncio.sleep(0)
        proxy.cut()
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(outcome, (str, StoreError))
            assert not isinstance(outcome, StoreError) or outcome.transient
    assert await until_it_answers(store) == b"0"


async def until_it_answers(store):
    for _ in range(50):
        try:
            found = await store.get("k")
        except StoreError:
            await asyncio.sleep(0.05)
        else:
            assert found is not None
            return found.value
    raise AssertionError("it does not go on")


@pytest.mark.postgres
async def test_terminated_backends_are_transient_store_errors(postgres_server):
    """Fault 7: pg_terminate_backend in the middle of calls, as an administrator or a restart does."""
    admin = await asyncpg.connect(postgres_server.dsn)
    name = f"t{uuid.uuid4().hex}"
    async with PostgresStore(f"{postgres_server.dsn}?application_name={name}", name) as store:
        await store.put("k", b"1")
        for _ in range(5):
            calls = [asyncio.create_task(store.put(f"{n}", bytes(10_000))) for n in range(50)]
            await asyncio.sleep(0.005)
            terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1"
            await admin.execute(terminate, name)
            for outcome in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(outcome, (str, StoreError)), outcome
                assert not isinstance(outcome, StoreError) or outcome.transient, outcome
        assert await until_it_answers(store) == b"1"
    await admin.close()


# Tables that are being made.


class Creating:
    """A DynamoDB whose table is CREATING for the first looks, as the service's is for seconds."""

    def __init__(self, client, looks):
        self.client, self.looks = client, looks

    def __getattr__(self, name):
        operation = getattr(self.client, name)

        async def call(**arguments):
            if self.looks and name == "describe_table":
                self.looks -= 1
                return {"Table": {"TableStatus": "CREATING"}}
            if self.looks and name != "create_table":
                return await operation(**{**arguments, "TableName": "not there yet"})
            return await operation(**arguments)

        return call


@pytest.mark.aws
async def test_a_table_that_is_being_made_is_waited_for(moto_server, monkeypatch):
    """Fault 22: of several processes started at once, those that met the table CREATING failed."""
    monkeypatch.setattr("eip.stores._dynamodb_table._LOOK_S", 0.01)
    table = uuid.uuid4().hex
    async with get_session().create_client("dynamodb", endpoint_url=moto_server.url) as client:
        await client.create_table(**table_definition(table))
        await create_table(Creating(client, 3), table)
        told = await client.describe_time_to_live(TableName=table)
        assert told["TimeToLiveDescription"]["TimeToLiveStatus"] == "ENABLED"
        await asyncio.gather(*(create_table(client, table) for _ in range(5)))
        store = DynamoStore(Creating(client, 3), table)
        assert await store.put("k", b"1") is not None
        with pytest.raises(StoreError, match="ResourceNotFound"):
            await DynamoStore(client, "nowhere").get("k")


# Objects that are cut off.

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
WHOLE = b"0123456789"
ANSWERS = {
    "cut off": HEAD + b"Content-Length: 10\r\n\r\n01234",
    "chunked and cut off": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n",
    "nothing behind the head": HEAD + b"Content-Length: 10\r\n\r\n",
    "cut off in the head": HEAD,
    "no HTTP": b"what?\r\n\r\n",
    "length is no number": HEAD + b"Content-Length: ten\r\n\r\n0123456789",
}


@pytest.fixture
async def s3_answering():
    """An S3 that gives one answer and closes the connection."""
    stack: list[asyncio.Server] = []
    answer: dict[str, bytes] = {}

    async def serve(reader, writer):
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer["bytes"])
            await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    stack.append(server)
    config = AioConfig(retries={"total_max_attempts": 1}, connect_timeout=20, read_timeout=20)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with get_session().create_client("s3", endpoint_url=url, config=config) as client:
        yield S3Objects(client, "bucket"), answer
    server.close()


@pytest.mark.aws
@pytest.mark.parametrize("what", ANSWERS)
async def test_a_body_that_was_cut_off_is_a_transient_store_error(s3_answering, what):
    """Fault 20: the SDK's and the HTTP client's own errors came through."""
    objects, answer = s3_answering
    answer["bytes"] = ANSWERS[what]
    with pytest.raises(StoreError) as caught:
        await objects.get("bucket", "k", limit=100)
    assert caught.value.transient


REFUSALS = [
    ("404 Not Found", b"", False),
    ("404 Not Found", b"<html>no such page</html>", False),
    ("403 Forbidden", b"<Error><Code>AccessDenied</Code></Error>", False),
    ("503 Slow Down", b"<Error><Code>SlowDown</Code></Error>", True),
    ("503 Busy", b"<html>busy</html>", True),
    ("400 Bad Request", b"<Error><Code>ExpiredToken</Code></Error>", True),
    ("400 Bad Request", b"<Error><Code>KMS.ThrottlingException</Code></Error>", True),
]


@pytest.mark.aws
async def test_no_refusal_but_of_the_key_is_a_missing_object(s3_answering):
    """A 404 that a proxy gave was taken for it: ``claim_checked(on_missing="drop")`` dropped the message."""
    objects, answer = s3_answering
    for status, body, transient in REFUSALS:
        answer["bytes"] = b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status.encode(), len(body), body)
        with pytest.raises(StoreError) as caught:
            await objects.get("bucket", "k", limit=100)
        assert caught.value.transient is transient, (status, body)
    missing = b"<Error><Code>NoSuchKey</Code></Error>"
    answer["bytes"] = b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%b" % (len(missing), missing)
    assert await objects.get("bucket", "k", limit=100) is None


@pytest.mark.aws
async def test_a_body_without_a_length_is_read_up_to_the_limit(s3_answering):
    """Fault 20: without Content-Length it was a KeyError."""
    objects, answer = s3_answering
    answer["bytes"] = HEAD + b"Connection: close\r\n\r\n" + WHOLE
    assert await objects.get("bucket", "k", limit=10) == WHOLE
    with pytest.raises(MessageTooLarge):
        await objects.get("bucket", "k", limit=9)
    answer["bytes"] = HEAD + b"Transfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n"
    assert await objects.get("bucket", "k", limit=10) == WHOLE


async def test_a_file_that_shrinks_while_it_is_read_is_a_store_error(tmp_path, monkeypatch):
    """Fault 20, for folders: on a mount, a file may have fewer bytes than its size says."""
    objects = FileObjects(tmp_path)
    await objects.put("k", WHOLE)
    real = __import__("os").fstat
    monkeypatch.setattr("os.fstat", lambda file: type("Stat", (), {"st_size": real(file).st_size + 1})())
    with pytest.raises(StoreError, match="ended after 10 of 11"):
        await objects.get(objects.bucket, "k", limit=100)
