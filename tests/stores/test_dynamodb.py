"""DynamoDB (moto's server): the suite, processes that race, a server that is killed."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from eip import clock
from eip.errors import ConfigurationError, MessageTooLarge, StoreError
from eip.stores.base import ABSENT
from eip.stores.dynamodb import _PART, _RECORD, DynamoStore, create_table, table_definition
from eip.testing.stores import StoreConformance
from tests.stores.racing import COUNTS, PROCESSES, counted, race
from tests.support.aws import MotoServer

pytestmark = [pytest.mark.aws, pytest.mark.asyncio]

CONFIG = AioConfig(retries={"total_max_attempts": 1}, connect_timeout=20, read_timeout=30)


def connect(url: str):
    return get_session().create_client("dynamodb", endpoint_url=url, config=CONFIG)


@pytest.fixture
async def client(moto_server):
    async with connect(moto_server.url) as client:
        await create_table(client, "stores")
        yield client


@pytest.fixture
def name():
    return uuid.uuid4().hex


@pytest.fixture
async def store(client, name):
    return DynamoStore(client, "stores", name)


@pytest.mark.aws
class TestDynamoStore(StoreConformance):
    @pytest.fixture
    async def store(self, client, name):
        return DynamoStore(client, "stores", name)


async def test_of_several_processes_one_wins_each_write(moto_server, store, name):
    imports = (
        "from aiobotocore.session import get_session\n"
        "from eip.stores.dynamodb import DynamoStore\n"
        "async def opened(url, name):\n"
        "    client = await get_session().create_client('dynamodb', endpoint_url=url).__aenter__()\n"
        "    return DynamoStore(client, 'stores', name)\n"
    )
    codes = await race(imports, "await opened(sys.argv[1], sys.argv[2])", moto_server.url, name)
    assert codes == [0] * PROCESSES
    assert await counted(store) == PROCESSES * COUNTS


async def test_a_killed_server_is_an_error_and_the_store_recovers(tmp_path):
    server = MotoServer(tmp_path)
    server.start()
    async with connect(server.url) as client:
        await create_table(client, "stores")
        store = DynamoStore(client, "stores")
        await store.put("k", b"1")
        server.kill()
        for call in (store.get("k"), store.put("k", b"x"), store.due(10.0), store.parts("k"), store.delete("k")):
            with pytest.raises(StoreError, match="DynamoDB"):
                await call
        server.start()
        with pytest.raises(StoreError, match="ResourceNotFound"):  # moto's memory is empty
            await store.get("k")
        await create_table(client, "stores")
        assert await store.put("k", b"2", version=ABSENT) is not None
    server.stop()


async def test_expired_records_made_anew_at_once_have_one_maker(store):
    now = clock.now()
    for number in range(5):
        await store.put(f"{number}", b"", expires_at=now - 1)
        made = await asyncio.gather(*(store.put(f"{number}", b"%d" % n, version=ABSENT) for n in range(8)))
        assert sum(each is not None for each in made) == 1
    for number in range(5):
        await store.put(f"{number}", b"", expires_at=now - 1)
        assert None not in await asyncio.gather(*(store.put(f"{number}", b"%d" % n) for n in range(8)))


async def test_parts_written_to_a_new_record_outlive_the_expired_one(store):
    now = clock.now()
    await store.put("k", b"", expires_at=now + 10)
    await store.put_part("k", "old", b"")
    with clock.use_clock(lambda: now + 20):
        assert await store.parts("k") == {}
        await store.put_part("k", "new", b"")
        assert await store.parts("k") == {"new": b""}
        assert await store.put("k", b"", version=ABSENT) is not None
        assert await store.parts("k") == {"new": b""}


async def test_a_put_that_is_sent_again_is_the_same_put(store, monkeypatch):
    """As the SDK does where the answer was lost."""
    monkeypatch.setattr("eip.stores.dynamodb.new_id", lambda: "made")
    assert await store.put("k", b"1", version=ABSENT) == "made"
    assert await store.put("k", b"1", version=ABSENT) == "made"


async def test_dynamodb_itself_removes_what_has_expired(client, store, name):
    await store.put("k", b"1", expires_at=1000.5)
    item = (await client.get_item(TableName="stores", Key={"pk": {"S": f"{name}#k"}, "sk": {"S": "r"}}))["Item"]
    assert item["ttl"] == {"N": "1061"}
    told = await client.describe_time_to_live(TableName="stores")
    assert told["TimeToLiveDescription"] == {"TimeToLiveStatus": "ENABLED", "AttributeName": "ttl"}


async def test_the_table_is_made_once(client):
    await create_table(client, "stores")
    with pytest.raises(StoreError):
        await create_table(client, "")
    assert table_definition("t")["TableName"] == "t"


@pytest.mark.parametrize(
    ("sort", "attributes"),
    [
        ("record", {"v": {"B": b"1"}, "n": {"S": "v"}, "e": {"NULL": True}}),
        ("record", {"v": {"S": "1"}, "n": {"S": "v"}}),
        ("record", {"v": {"B": b"1"}, "n": {"N": "1"}, "e": {"N": "1"}}),
        ("part#p", {"v": {"B": b"1"}, "t": {"S": "soon"}}),
        ("part#p", {"v": {"B": b"1"}, "t": {"N": "1"}, "e": {"NULL": True}}),
        ("part#p", {"v": {"S": "1"}, "t": {"N": "1"}}),
    ],
)
async def test_an_item_that_is_not_ours_is_a_store_error_and_stops_no_others(client, store, name, sort, attributes):
    """KeyError came through wherever an attribute was of another type, or missing."""
    await store.put("good", b"1", due=1.0)
    names = {"record": _RECORD, "part#p": f"{_PART}p"}
    item = {"pk": {"S": f"{name}#odd"}, "sk": {"S": names[sort]}, **attributes}
    calls = [store.get, store.parts, store.delete_parts, store.delete]
    calls += [lambda key: store.put(key, b"2"), lambda key: store.put(key, b"2", version=ABSENT)]
    failed = []
    for call in calls:
        await client.put_item(TableName="stores", Item=item)
        try:
            await call("odd")
        except StoreError as error:
            failed.append(error)
    assert failed
    assert not any(each.transient for each in failed)
    assert await store.due(2.0) == ["good"]


async def test_a_note_of_the_schema_that_is_not_ours_is_a_store_error(client, store, name):
    await client.put_item(TableName="stores", Item={"pk": {"S": f"{name}#"}, "sk": {"S": "schema"}})
    with pytest.raises(StoreError, match="not ours"):
        await store.get("k")


async def test_it_says_what_is_wrong(client, store):
    with pytest.raises(ConfigurationError, match="#"):
        DynamoStore(client, "stores", "a#b")
    with pytest.raises(MessageTooLarge, match="claim check"):
        await store.put("k", bytes(400 * 1024))
