"""The DynamoDB store's hot calls bypass the SDK where they can, and come back to it where not."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from aiobotocore.client import AioBaseClient
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession, get_session

from eip._aws import client_calls
from eip._aws.client_calls import ClientCalls
from eip._aws.protocols import ServiceError
from eip._aws.sigv4 import SWITCH, SigV4Client, use_fast_path
from eip.errors import ConfigurationError, StoreError
from eip.stores.base import ABSENT
from eip.stores.dynamodb import DynamoStore, create_table

pytestmark = [pytest.mark.aws, pytest.mark.asyncio]

TABLE = "fast"


class Ways:
    """How many calls went which way."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.fast = self.sdk = 0
        fast, sdk = SigV4Client.call, AioBaseClient._make_api_call

        async def call(client: SigV4Client, *about: Any) -> Any:
            self.fast += 1
            return await fast(client, *about)

        async def make_api_call(client: AioBaseClient, *about: Any) -> Any:
            self.sdk += 1
            return await sdk(client, *about)

        patch.setattr(SigV4Client, "call", call)
        patch.setattr(AioBaseClient, "_make_api_call", make_api_call)


@pytest.fixture
def name() -> str:
    return uuid.uuid4().hex


@pytest.fixture
async def client(moto_server):
    async with get_session().create_client("dynamodb", endpoint_url=moto_server.url) as made:
        await create_table(made, TABLE)
        yield made


async def use(store: DynamoStore) -> None:
    version = await store.put("k", b"\x00\xff", version=ABSENT)
    assert version is not None
    assert await store.put("k", b"x", version=ABSENT) is None
    found = await store.get("k")
    assert found is not None
    assert (found.value, found.version) == (b"\x00\xff", version)
    assert await store.delete("k", version=version)


async def test_records_are_written_and_read_without_the_sdk(client, name, monkeypatch):
    ways = Ways(monkeypatch)
    await use(DynamoStore(client, TABLE, name))
    assert ways.sdk == 0
    assert ways.fast == 7  # two for the schema's version, four calls, the parts of what is deleted


async def test_the_switches_send_all_calls_through_the_sdk(client, name, monkeypatch):
    ways = Ways(monkeypatch)
    await use(DynamoStore(client, TABLE, name, fast_path=False))
    monkeypatch.setenv(SWITCH, "off")
    await use(DynamoStore(client, TABLE, name))
    assert ways.fast == 0
    await use(DynamoStore(client, TABLE, name, fast_path=True))  # the argument outweighs the environment
    assert ways.fast


@pytest.mark.parametrize(("text", "wanted"), [("", True), ("on", True), ("1", True), ("OFF", False), ("0", False)])
async def test_the_environment_decides_where_no_argument_does(text, wanted, monkeypatch):
    monkeypatch.setenv(SWITCH, text)
    assert use_fast_path(None) is wanted
    assert use_fast_path(not wanted) is not wanted


async def test_a_switch_that_is_neither_on_nor_off_is_refused(monkeypatch):
    monkeypatch.setenv(SWITCH, "maybe")
    with pytest.raises(ConfigurationError, match="EIP_AWS_FAST_PATH must be on or off, got 'maybe'"):
        use_fast_path(None)
    with pytest.raises(TypeError, match="fast_path"):
        use_fast_path("no")  # type: ignore[arg-type]


FAILURES = {
    "no connection": ConnectionResetError("reset"),
    "no answer in time": TimeoutError(),
    "an answer that cannot be read": ValueError("not JSON"),
    "throttled": ServiceError("ProvisionedThroughputExceededException", "", 400),
    "the service failed": ServiceError("InternalServerError", "", 500),
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_what_fails_is_called_again_by_the_sdk(client, name, failure, monkeypatch):
    async def fail(*_: Any) -> Any:
        raise FAILURES[failure]

    monkeypatch.setattr(SigV4Client, "call", fail)
    await use(DynamoStore(client, TABLE, name))


async def test_an_answer_that_does_not_come_is_waited_for_no_longer_than_the_clients_limit(
    moto_server, name, monkeypatch
):
    hung = asyncio.Event()

    async def hang(*_: Any) -> Any:
        hung.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(SigV4Client, "call", hang)
    monkeypatch.setattr(client_calls, "_ATTEMPT_S", 0.01)
    async with get_session().create_client("dynamodb", endpoint_url=moto_server.url) as client:
        await create_table(client, TABLE)
        await use(DynamoStore(client, TABLE, name))
    assert hung.is_set()


async def test_cancelled_the_call_is_not_made_again(client, name, monkeypatch):
    begun = asyncio.Event()

    async def hang(*_: Any) -> Any:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(SigV4Client, "call", hang)
    ways = Ways(monkeypatch)
    task = asyncio.create_task(DynamoStore(client, TABLE, name).get("k"))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ways.sdk == 0


async def test_a_refusal_is_the_sdks_error(client, name):
    store = DynamoStore(client, "no-such-table", name)
    with pytest.raises(StoreError, match="ResourceNotFoundException"):
        await store.get("k")


def hooked(session: AioSession) -> dict[str, Any]:
    session.register("before-send.dynamodb", lambda **_: None)  # as mocks in the process do
    return {}


def proxied(_: AioSession) -> dict[str, Any]:
    return {"config": AioConfig(proxies={"http": "http://127.0.0.1:9"})}


def unverified(_: AioSession) -> dict[str, Any]:
    return {"verify": False}


@pytest.mark.parametrize("setup", [hooked, proxied, unverified], ids=lambda each: each.__name__)
async def test_a_client_that_needs_the_sdk_is_called_itself(
    setup: Callable[[AioSession], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    session, ways = get_session(), Ways(monkeypatch)
    answered: list[str] = []

    async def get_item(**parameters: Any) -> dict[str, Any]:
        answered.append(parameters["TableName"])
        return {}

    options = setup(session)
    async with session.create_client("dynamodb", endpoint_url="http://127.0.0.1:9", **options) as client:
        monkeypatch.setattr(client, "get_item", get_item)
        await ClientCalls(client).call("GetItem", {"TableName": TABLE, "Key": {}})
    assert (answered, ways.fast) == ([TABLE], 0)


async def test_a_table_of_another_account_is_found_by_the_sdk(client, monkeypatch):
    ways = Ways(monkeypatch)
    arn = f"arn:aws:dynamodb:us-east-1:123456789012:table/{TABLE}"
    await ClientCalls(client).call("GetItem", {"TableName": arn, "Key": {"pk": {"S": "k"}, "sk": {"S": "r"}}})
    assert (ways.fast, ways.sdk) == (0, 1)


async def test_connections_close_with_the_client(moto_server, name):
    async with get_session().create_client("dynamodb", endpoint_url=moto_server.url) as client:
        await create_table(client, TABLE)
        first, second = (DynamoStore(client, TABLE, f"{name}{number}") for number in range(2))
        await use(first)
        await use(second)
        fast = client_calls._fast_clients[client]
        assert fast is not None
        await first.aclose()
        await use(second)  # stores share the connections, and neither ends them
        assert not fast._http._closed
    assert fast._http._closed
