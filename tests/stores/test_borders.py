"""No foreign error crosses a store's border: whatever a database's client can raise is a `StoreError`."""

from __future__ import annotations

import asyncio
import inspect
import os
import sqlite3
import ssl

import asyncpg
import botocore.exceptions
import botocore.session
import pytest
import redis.exceptions
from aiohttp import client_exceptions

from eip.errors import StateError, StoreError
from eip.stores import SqliteStore
from eip.stores._postgres_pool import PostgresPool
from eip.stores.dynamodb import DynamoStore
from eip.stores.outbox import SqliteOutbox
from eip.stores.redis import RedisStore
from eip.stores.s3 import S3Objects

pytestmark = pytest.mark.asyncio

NETWORK = [
    OSError("io"),
    ConnectionResetError("reset"),
    TimeoutError(),
    ssl.SSLError("tls"),
    ssl.SSLCertVerificationError("certificate"),
    asyncio.IncompleteReadError(b"", 4),
    RuntimeError("TCPTransport closed"),
    AttributeError("'NoneType' object has no attribute 'sendall'"),
]


def raised_by(module, base=Exception):
    """An instance of every exception that the module defines."""
    for _, kind in inspect.getmembers(module, lambda each: isinstance(each, type) and issubclass(each, base)):
        if issubclass(kind, Warning):
            continue
        error = kind.__new__(kind, "as planned")
        error.args = ("as planned",)
        if isinstance(error, botocore.exceptions.ClientError):
            error.response = {}
        try:
            str(error)
        except AttributeError:  # its text is made of what only its constructor gives
            continue
        yield error


class Failing:
    """A client whose every call raises."""

    def __init__(self, error):
        self.error = error

    def __getattr__(self, name):
        async def call(*_, **__):
            raise self.error

        return call


async def assert_store_error(call, error):
    with pytest.raises(StoreError) as caught:
        await call
    assert isinstance(caught.value.transient, bool)
    assert caught.value.__cause__ is error or caught.value.__cause__ is not None


async def test_whatever_asyncpg_raises_is_a_store_error():
    """Fault 7: `asyncpg.InternalClientError` ended `Aggregator.run()` and `OutboxRelay.run()`."""
    errors = [*raised_by(asyncpg), *raised_by(asyncpg.exceptions), *NETWORK]
    assert any(isinstance(each, asyncpg.InternalClientError) for each in errors)
    for error in errors:
        pool = PostgresPool(Failing(error), "", collection="x", version=1, create=False)
        pool._ready = True
        await assert_store_error(pool.fetch("SELECT 1"), error)


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (asyncpg.InternalClientError("got result for unknown protocol state 3"), True),
        (asyncpg.AdminShutdownError("terminating"), True),
        (asyncpg.ConnectionDoesNotExistError("closed"), True),
        (asyncpg.CannotConnectNowError("starting up"), True),
        (asyncpg.TooManyConnectionsError("too many"), True),
        (asyncpg.SerializationError("again"), True),
        (asyncpg.DeadlockDetectedError("again"), True),
        (asyncpg.DiskFullError("full"), True),
        (asyncpg.ReadOnlySQLTransactionError("standby"), True),
        (asyncpg.InterfaceError("connection is closed"), True),
        (asyncpg.InvalidCachedStatementError("again"), True),
        (asyncpg.UndefinedTableError("no table"), False),
        (asyncpg.InsufficientPrivilegeError("no"), False),
        (asyncpg.InvalidPasswordError("no"), False),
        (asyncpg.DataError("no"), False),
    ],
)
async def test_postgres_errors_that_pass_and_that_stay(error, transient):
    pool = PostgresPool(Failing(error), "", collection="x", version=1, create=False)
    pool._ready = True
    with pytest.raises(StoreError) as caught:
        await pool.fetch("SELECT 1")
    assert caught.value.transient is transient


class FailingRedis(Failing):
    def get_encoder(self):
        class Encoder:
            decode_responses = False

        return Encoder()

    def pipeline(self, **_):
        raise self.error


class Breaking:
    """A pool whose one connection answers the first statement, and breaks at the next."""

    answered = 0

    async def acquire(self):
        return self

    async def release(self, connection):
        pass

    async def fetch(self, sql, *arguments):
        self.answered += 1
        if self.answered > 1:
            raise ConnectionResetError("reset")
        return [(0, sql)]


async def test_what_was_committed_before_the_connection_broke_is_answered():
    """Its caller would take its own write for somebody else's when it tried again."""
    pool = PostgresPool(Breaking(), "", collection="x", version=1, create=False)
    pool._ready = True
    calls = asyncio.create_task(pool.gathered("A", "a")), asyncio.create_task(pool.gathered("B", "b"))
    with pytest.raises(StoreError) as caught:
        await calls[1]
    assert caught.value.transient
    assert await calls[0] == [(0, "A")]


async def test_a_batch_that_cannot_be_started_is_an_error_and_not_a_hang(tmp_path, monkeypatch):
    store = SqliteStore(tmp_path / "s.sqlite")

    def refused(*_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(store._file._thread, "submit", refused)
        with pytest.raises(StoreError, match="new thread"):
            await asyncio.wait_for(store.put("k", b"v"), 5)
    assert await store.put("k", b"v")
    await store.aclose()


async def test_whatever_redis_raises_is_a_store_error():
    """Fault 7, for Redis."""
    for error in [*raised_by(redis.exceptions), *NETWORK]:
        store = RedisStore(FailingRedis(error))  # type: ignore[arg-type]
        await assert_store_error(store.get("k"), error)


REDIS_6 = "Error running script (call to f_45e87c07): @user_script:1: @user_script: 1:"
"""What stands before the refusal of a command in a script, before Redis 7."""


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (redis.exceptions.ConnectionError("lost"), True),
        (redis.exceptions.TimeoutError("slow"), True),
        (redis.exceptions.BusyLoadingError("LOADING"), True),
        (redis.exceptions.ReadOnlyError("READONLY"), True),
        (redis.exceptions.OutOfMemoryError("OOM"), True),
        (redis.exceptions.ResponseError("MISCONF Errors writing to the AOF file"), True),
        (redis.exceptions.ResponseError("NOREPLICAS Not enough good replicas to write."), True),
        (redis.exceptions.ResponseError(f"{REDIS_6} -OOM command not allowed when used memory > 'maxmemory'."), True),
        (redis.exceptions.ResponseError(f"{REDIS_6} -READONLY You can't write against a read only replica."), True),
        (redis.exceptions.ResponseError(f"{REDIS_6} -WRONGTYPE Operation against a key"), False),
        (redis.exceptions.ResponseError("WRONGTYPE Operation against a key"), False),
        (redis.exceptions.AuthenticationError("WRONGPASS"), False),
        (redis.exceptions.NoPermissionError("NOPERM"), False),
    ],
)
async def test_redis_errors_that_pass_and_that_stay(error, transient):
    with pytest.raises(StoreError) as caught:
        await RedisStore(FailingRedis(error)).get("k")  # type: ignore[arg-type]
    assert caught.value.transient is transient


class Pooled(FailingRedis):
    """A client whose server refuses each call of a pipeline, but the first of several."""

    def __init__(self, error):
        super().__init__(error)
        self.connection_pool, self.left, self.sent = self, 0, 0
        self.connection_kwargs = {}

    async def disconnect(self, **_):
        self.left += 1

    async def get(self, _):
        return b"2"

    def pipeline(self, **_):
        self.sent = 0
        return self

    def execute_command(self, *_):
        self.sent += 1

    async def execute(self, **_):
        return [None] * (self.sent > 1) + [self.error] * (self.sent - (self.sent > 1))


@pytest.mark.parametrize(
    ("error", "left"),
    [
        (redis.exceptions.ReadOnlyError("You can't write against a read only replica."), 1),
        (redis.exceptions.ResponseError(f"{REDIS_6} -READONLY You can't write against a read only replica."), 1),
        (redis.exceptions.MasterDownError("Link with MASTER is down"), 1),
        (redis.exceptions.ResponseError(f"{REDIS_6} -OOM command not allowed when used memory > 'maxmemory'."), 0),
    ],
)
async def test_a_batch_that_a_replica_refused_leaves_it_once(error, left):
    """It was left for each call; a replica without its primary, which answers no reads either, never."""
    client = Pooled(error)
    store = RedisStore(client)  # type: ignore[arg-type]
    first, *others = await asyncio.gather(*(store.get(f"{n}") for n in range(5)), return_exceptions=True)
    assert first is None
    assert [isinstance(each, StoreError) and each.transient for each in others] == [True] * 4
    assert client.left == left


async def test_what_redis_did_before_the_connection_broke_is_answered():
    """Of a batch, some calls met no script; when those were sent again and failed, all others had failed, too."""
    client = Pooled(redis.exceptions.NoScriptError("No matching script."))
    store = RedisStore(client)  # type: ignore[arg-type]
    first, second = await asyncio.gather(store.get("k"), store.get("l"), return_exceptions=True)
    assert first is None
    assert isinstance(second, StoreError)


def of_aws():
    yield from raised_by(botocore.exceptions)
    yield from raised_by(client_exceptions)
    yield from NETWORK


async def test_whatever_the_aws_sdk_raises_is_a_store_error():
    """Fault 7, for DynamoDB and S3."""
    for error in of_aws():
        await assert_store_error(DynamoStore(Failing(error), "t").get("k"), error)
        objects = S3Objects(Failing(error), "b")
        await assert_store_error(objects.put("k", b""), error)
        await assert_store_error(objects.get("b", "k", limit=1), error)
        await assert_store_error(objects.delete("b", "k"), error)
        await assert_store_error(objects.keys(""), error)


def refusal(code, status=400):
    return botocore.exceptions.ClientError(
        {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}, "GetItem"
    )


PERMANENT = {"ResourceNotFoundException", "ConditionalCheckFailedException"}


async def test_dynamodbs_own_errors_are_judged_as_its_model_lists_them():
    """Each error that the service's model gives an operation of ours is decided: no new one passes unseen."""
    model = botocore.session.get_session().get_service_model("dynamodb")
    operations = ("PutItem", "GetItem", "DeleteItem", "Query", "BatchWriteItem", "DescribeTable", "CreateTable")
    codes = {shape.name for each in operations for shape in model.operation_model(each).error_shapes}
    assert codes >= {"ThrottlingException", *PERMANENT}
    for code in codes - {"ResourceNotFoundException"}:  # looks for the table first
        with pytest.raises(StoreError) as caught:
            await DynamoStore(Failing(refusal(code)), "t").get("k")
        assert caught.value.transient is (code not in PERMANENT), code


@pytest.mark.parametrize(
    ("code", "status", "transient"),
    [
        ("InternalError", 500, True),
        ("SlowDown", 503, True),
        ("anything", 503, True),
        ("429", 429, True),
        ("ExpiredToken", 400, True),
        ("RequestTimeTooSkewed", 403, True),
        ("AccessDenied", 403, False),
        ("NoSuchBucket", 404, False),
        ("InvalidBucketName", 400, False),
    ],
)
async def test_s3_errors_that_pass_and_that_stay(code, status, transient):
    with pytest.raises(StoreError) as caught:
        await S3Objects(Failing(refusal(code, status)), "b").get("b", "k", limit=1)
    assert caught.value.transient is transient


async def test_a_clock_that_is_off_passes():
    """Fault 41c, for stores: DynamoDB has one code for a wrong time and for a wrong key, and only the text differs."""
    for text, transient in (
        ("Signature expired: it is late", True),
        ("Signature not yet current: x", True),
        ("x", False),
    ):
        error = refusal("InvalidSignatureException")
        error.response["Error"]["Message"] = text
        with pytest.raises(StoreError) as caught:
            await DynamoStore(Failing(error), "t").get("k")
        assert caught.value.transient is transient


# SQLite: the real thing.


async def test_a_locked_sqlite_is_a_transient_error_and_the_store_goes_on(tmp_path, monkeypatch):
    """Fault 7, for SQLite: another process holds the write lock for longer than we wait."""
    monkeypatch.setattr("eip.stores._sqlite_file._BUSY_S", 0.05)
    store = SqliteStore(tmp_path / "s.sqlite")
    await store.put("k", b"1")
    other = sqlite3.connect(tmp_path / "s.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked") as caught:
        await store.put("k", b"2")
    assert caught.value.transient
    assert await store.get("k") is not None
    other.execute("ROLLBACK")
    assert await store.put("k", b"2") is not None
    other.close()
    await store.aclose()


async def test_a_full_sqlite_is_a_transient_error_and_the_store_goes_on(tmp_path):
    """Fault 7: the disk is full, as SQLite says it (max_page_count)."""
    store = SqliteStore(tmp_path / "s.sqlite")
    await store.put("k", b"1")
    db = store._file.open()
    db.execute("PRAGMA max_page_count = 20")
    with pytest.raises(StoreError, match="full") as caught:
        await store.put("big", bytes(1_000_000))
    assert caught.value.transient
    assert await store.get("big") is None
    db = store._file.open()
    db.execute("PRAGMA max_page_count = 100000")
    assert await store.put("big", bytes(1_000_000)) is not None
    await store.aclose()


async def test_a_read_only_sqlite_is_a_permanent_error(tmp_path):
    """Fault 7: somebody made the database read-only."""
    store = SqliteStore(tmp_path / "s.sqlite")
    await store.put("k", b"1")
    store._file.open().execute("PRAGMA query_only = 1")
    with pytest.raises(StoreError, match="readonly") as caught:
        await store.put("k", b"2")
    assert not caught.value.transient
    assert await store.get("k") is not None
    await store.aclose()


async def test_a_corrupt_sqlite_is_an_error_until_it_is_mended(tmp_path):
    """Fault 7: the file is no database; once it is away, the store goes on with a new one."""
    path = tmp_path / "s.sqlite"
    path.write_bytes(os.urandom(8192))
    store = SqliteStore(path)
    for _ in range(2):
        with pytest.raises(StoreError, match="not a database") as caught:
            await store.get("k")
        assert not caught.value.transient
    path.unlink()
    assert await store.put("k", b"1") is not None
    await store.aclose()


async def test_a_folder_that_is_missing_is_found_at_the_first_call(tmp_path):
    """Fault 7: making a store raised sqlite3's own error."""
    store = SqliteStore(tmp_path / "missing" / "s.sqlite")
    with pytest.raises(StoreError, match="unable to open"):
        await store.get("k")
    (tmp_path / "missing").mkdir()
    assert await store.put("k", b"1") is not None
    await store.aclose()
    with pytest.raises(StoreError, match="unable to open"):
        SqliteOutbox(tmp_path / "missing too" / "o.sqlite")


async def test_calls_that_come_together_share_a_transaction(tmp_path):
    """Group commit: of a hundred writes at once, few transactions; the one that fails takes none along."""
    store = SqliteStore(tmp_path / "s.sqlite")
    await store.put("k", b"0")
    commits: list[str] = []
    store._file.open().set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
    calls = [store.put(f"{n}", b"1", version="wrong" if n == 50 else "") for n in range(100)]
    done = await asyncio.gather(*calls)
    assert [each is None for each in done] == [n == 50 for n in range(100)]
    assert len(commits) <= 3
    with pytest.raises(StoreError):
        await asyncio.gather(store.put("a", b"1"), store._file.execute("INSERT INTO nowhere VALUES (1)"))
    assert await store.get("a") is not None
    await store.aclose()


async def test_a_closed_sqlite_store_has_written_what_was_asked_for(tmp_path):
    """Closing waits for the calls under way; later ones are refused."""
    store = SqliteStore(tmp_path / "s.sqlite")
    writing = [asyncio.create_task(store.put(f"{n}", b"")) for n in range(50)]
    await asyncio.sleep(0)
    await store.aclose()
    assert None not in await asyncio.gather(*writing)
    with pytest.raises(StateError, match="closed"):
        await store.get("k")
