"""A store in DynamoDB, shared by any number of processes (extra ``aws`` or ``aiobotocore``).

    async with aiobotocore.session.get_session().create_client("dynamodb") as client:
        store = DynamoStore(client, "eip", "orders", create=True)  # or by your own tools, see `table_definition`

Writes are conditional and reads of a key strongly consistent. What is due comes from a global secondary index, which
DynamoDB cannot read consistently: for a moment, mostly less than a second, it may lack a record that was just written,
or still list one that is no longer due; look at the record before acting on it. Expiry is checked here, as DynamoDB's
own (attribute ``ttl``) takes up to 48 hours. It removes a record alone, so give parts an expiry where records have one.
An item holds 400 KB: a larger value raises `MessageTooLarge`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from typing import Any, Final

from botocore.exceptions import ClientError
from typing_extensions import override

from eip import clock
from eip._aws.client_calls import ClientCalls
from eip._checks import check_type
from eip._ids import new_id
from eip.errors import ConfigurationError, MessageTooLarge, StateError, StoreError
from eip.limits import KIB
from eip.retry import Backoff
from eip.stores._aws_errors import error_code
from eip.stores._dynamodb_table import DUE_INDEX, call, create_table, table_definition, until_active
from eip.stores._named import NamedStore
from eip.stores.base import ABSENT, Record

__all__ = ["DynamoStore", "create_table", "table_definition"]

_VERSION: Final = 2
"""Version of the schema. 1: releases before 1.0 did not note it; the items are the same."""
_MAX_NAME_BYTES: Final = 1000
"""Length of a collection's name: with a key of 900 bytes it fits the 2,048 of a partition key."""
_RECORD: Final = "r"
_PART: Final = "p#"
_LARGEST: Final = 400 * KIB - 4 * KIB
"""Bytes of a value: an item's limit, less room for keys and names."""
_GRACE: Final = 60.0
_CONNECTIONS: Final = 10
"""Connections of a client that does not report their number; the SDK's default."""
_BATCH: Final = 25
"""Items of one BatchWriteItem."""
_RETRY_BACKOFF: Final = Backoff(base=0.05, cap=2.0)
_READS: Final = ("GetItem", "Query")
_LIVE: Final = "(attribute_not_exists(e) OR e > :now)"


class DynamoStore(NamedStore):
    """Records as items of a table that any number of collections share.

    Args:
        client: an open ``dynamodb`` client of aiobotocore or aioboto3, which stays the caller's.
        table: made as `table_definition` says.
        name: of the collection. What is due is in one partition of the index by name, so that about 1,000 changes of
            due times per second go into a collection; take several where that is too little.
        create: make the table at the first write, where it is missing; False: `create_table`, or your own tools, did.
        fast_path: whether reads and writes of records bypass the SDK, for less CPU; default: unless the environment
            variable ``EIP_AWS_FAST_PATH`` is ``off``. The SDK's client has the last word, see `eip._aws.client_calls`.
    """

    def __init__(
        self, client: Any, table: str, name: str = "eip", *, create: bool = False, fast_path: bool | None = None
    ) -> None:
        if not name or "#" in name or len(name.encode()) > _MAX_NAME_BYTES:
            raise ConfigurationError(f"name must be 1 to {_MAX_NAME_BYTES} bytes and have no #, got {name!r}")
        self._calls, self._table, self._name = ClientCalls(client, fast_path=fast_path), table, name
        self._client, self._create = client, check_type("create", create, bool, "a bool")
        self._checked = self._noted = self._closed = False
        self._checking = asyncio.Lock()
        config = getattr(getattr(client, "meta", None), "config", None)
        self._connections = asyncio.Semaphore(getattr(config, "max_pool_connections", _CONNECTIONS))

    @override
    def __repr__(self) -> str:
        return f"<DynamoStore {self._name} in table {self._table}>"

    @override
    async def next_due(self) -> float | None:
        first = await self._dues(None, 1)
        return first[0][1] if first else None

    @override
    async def aclose(self) -> None:
        """Let every further use raise `StateError`; the client stays the caller's. Idempotent."""
        self._closed = True

    @override
    async def _get(self, name: str) -> Record | None:
        found = await self._do("GetItem", Key=self._key(name, _RECORD), ConsistentRead=True)
        item = found.get("Item")
        if item is None or _expired(item):
            return None
        return Record(bytes(_held(item, "v", "B")), _held(item, "n", "S"))

    @override
    async def _put(
        self, name: str, value: bytes, version: str | None, due: float | None, expires_at: float | None
    ) -> str | None:
        made = new_id()
        item = {**self._item(name, _RECORD, value, expires_at), "n": {"S": made}}
        if due is not None:
            item |= {"g": {"S": self._name}, "d": _number(due)}
        values: dict[str, Any] = {":now": _number(clock.now())}
        first = (_LIVE, values)
        if version == ABSENT:
            first = ("attribute_not_exists(pk)", {})
        elif version is not None:
            first = (f"n = :version AND {_LIVE}", {**values, ":version": {"S": version}})
        wanted = first
        while True:
            held = await self._put_if(item, *wanted)
            if held is None or held.get("n") == item["n"]:  # the second: the SDK asked again, the answer was lost
                return made
            if version in (None, ABSENT) and _expired(held):
                await self._drop_parts(name, upto=_held_number(held, "e"))
                wanted = ("n = :version OR attribute_not_exists(pk)", {":version": {"S": _held(held, "n", "S")}})
            elif version is None:
                wanted = first
            else:
                return None

    @override
    async def _delete(self, name: str, version: str | None) -> bool:
        """Delete the record, then its parts: if the process dies in between, parts without an expiry stay."""
        now = clock.now()
        condition, values = f"attribute_exists(pk) AND {_LIVE}", {":now": _number(now)}
        if version is not None:
            condition, values = f"n = :version AND {_LIVE}", {**values, ":version": {"S": version}}
        where = {"ConditionExpression": condition, "ExpressionAttributeValues": values}
        try:
            await self._do("DeleteItem", Key=self._key(name, _RECORD), **where)
        except StoreError as error:
            if _failed_condition(error) is None:
                raise
            return False
        await self._drop_parts(name, upto=now)
        return True

    @override
    async def _put_part(self, name: str, part: str, value: bytes, expires_at: float | None) -> None:
        item = self._item(name, f"{_PART}{part}", value, expires_at)
        await self._do("PutItem", Item={**item, "t": _number(clock.now())})

    @override
    async def _parts(self, name: str) -> dict[str, bytes]:
        items = [item async for item in self._items(name)]
        records = [each for each in items if each["sk"]["S"] == _RECORD and _expired(each)]
        ended = _held_number(records[0], "e") if records else -math.inf
        return {
            item["sk"]["S"].removeprefix(_PART): bytes(_held(item, "v", "B"))
            for item in items
            if "t" in item and _held_number(item, "t") > ended and not _expired(item)
        }

    @override
    async def _delete_parts(self, name: str) -> None:
        await self._drop_parts(name, upto=math.inf)

    @override
    async def _due(self, now: float, limit: int) -> list[str]:
        return [key for key, _ in await self._dues(now, limit)]

    async def _put_if(self, item: dict[str, Any], condition: str, values: dict[str, Any]) -> dict[str, Any] | None:
        """None where it was written, otherwise the item that is there."""
        where: dict[str, Any] = {"ConditionExpression": condition}
        if values:
            where["ExpressionAttributeValues"] = values
        try:
            await self._do("PutItem", Item=item, ReturnValuesOnConditionCheckFailure="ALL_OLD", **where)
        except StoreError as error:
            held = _failed_condition(error)
            if held is None:
                raise
            return held
        return None

    async def _items(self, key: str, *, names: str | None = None) -> AsyncIterator[dict[str, Any]]:
        asked: dict[str, Any] = {
            "KeyConditionExpression": "pk = :pk",
            "ExpressionAttributeValues": {":pk": self._key(key, _RECORD)["pk"]},
            "ConsistentRead": True,
        }
        if names is not None:
            asked["ProjectionExpression"] = names
        async for item in self._pages(asked):
            yield item

    async def _dues(self, upto: float | None, limit: int) -> list[tuple[str, float]]:
        values = {":g": {"S": self._name}, ":now": _number(clock.now())}
        asked = {"IndexName": DUE_INDEX, "KeyConditionExpression": "g = :g", "FilterExpression": _LIVE, "Limit": limit}
        if upto is not None:
            values[":upto"] = _number(upto)
            asked["KeyConditionExpression"] = "g = :g AND d <= :upto"
        found: list[tuple[str, float]] = []
        async for item in self._pages({**asked, "ExpressionAttributeValues": values}):
            found.append((item["pk"]["S"].removeprefix(f"{self._name}#"), float(item["d"]["N"])))
            if len(found) == limit:
                break
        return found

    async def _pages(self, asked: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        while True:
            page = await self._do("Query", **asked)
            for item in page["Items"]:
                yield item
            if not page.get("LastEvaluatedKey"):
                return
            asked = {**asked, "ExclusiveStartKey": page["LastEvaluatedKey"]}

    async def _drop_parts(self, key: str, *, upto: float) -> None:
        """Remove the parts that were written until then."""
        names = [
            item["sk"]["S"]
            async for item in self._items(key, names="sk, t")
            if "t" in item and _held_number(item, "t") <= upto
        ]
        for start in range(0, len(names), _BATCH):
            rest = {self._table: [_removal(self._key(key, each)) for each in names[start : start + _BATCH]]}
            attempt = 0
            while rest:
                answer = await self._call("BatchWriteItem", RequestItems=rest)
                rest = answer.get("UnprocessedItems") or {}
                if rest:
                    attempt += 1
                    await asyncio.sleep(_RETRY_BACKOFF.delay(attempt))

    async def _do(self, operation: str, **arguments: Any) -> Any:
        """Call the table. One that is missing is made before the first write, or waited for, see ``create``."""
        writes = operation not in _READS
        try:
            await self._check(writes=writes)
            return await self._call(operation, TableName=self._table, **arguments)
        except StoreError as error:
            if error_code(error) != "ResourceNotFoundException":
                raise
        if self._create and not writes:
            return {"Items": []}
        await (create_table(self._client, self._table) if self._create else until_active(self._calls, self._table))
        await self._check(writes=writes)
        return await self._call(operation, TableName=self._table, **arguments)

    async def _call(self, operation: str, **arguments: Any) -> Any:
        """Call the service once one of the client's connections is free: waiting for one is no failure."""
        async with self._connections:
            return await call(self._calls, operation, **arguments)

    async def _check(self, *, writes: bool) -> None:
        """Refuse use after closing, and a later version of the schema, once; note ours before the first write."""
        if self._closed:
            raise StateError(f"{self!r} is closed")
        if self._noted or (self._checked and not writes):
            return
        async with self._checking:
            key = {"pk": {"S": f"{self._name}#"}, "sk": {"S": "schema"}}
            answer = await self._call("GetItem", TableName=self._table, Key=key, ConsistentRead=True)
            held = answer.get("Item")
            found = int(_held_number(held, "version")) if held else 1
            if found > _VERSION:
                raise StoreError(
                    f"DynamoDB: {self._name!r} in {self._table} has schema version {found}; this release reads up to "
                    f"{_VERSION}: upgrade aioeip",
                    transient=False,
                )
            if writes and found < _VERSION:
                item = {**key, "version": {"N": str(_VERSION)}}
                await self._call("PutItem", TableName=self._table, Item=item)
            self._checked, self._noted = True, writes or found == _VERSION

    def _key(self, key: str, sort: str) -> dict[str, Any]:
        return {"pk": {"S": f"{self._name}#{key}"}, "sk": {"S": sort}}

    def _item(self, key: str, sort: str, value: bytes, expires_at: float | None) -> dict[str, Any]:
        if len(value) > _LARGEST:
            raise MessageTooLarge(len(value), _LARGEST, channel=f"table {self._table}")
        item = {**self._key(key, sort), "v": {"B": value}}
        if expires_at is not None:
            item |= {"e": _number(expires_at), "ttl": {"N": str(math.ceil(expires_at + _GRACE))}}
        return item


def _failed_condition(error: StoreError) -> dict[str, Any] | None:
    """The item that did not meet the condition ({} where there is none); None for any other error."""
    cause = error.__cause__
    if isinstance(cause, ClientError) and error_code(error) == "ConditionalCheckFailedException":
        held: dict[str, Any] = cause.response.get("Item") or {}
        return held
    return None


def _held(item: dict[str, Any], name: str, kind: str) -> Any:
    """The value of an item's attribute; raises `StoreError` where another program wrote the item."""
    try:
        return item[name][kind]
    except KeyError:
        key = "/".join(item[each]["S"] for each in ("pk", "sk") if each in item)
        raise StoreError(f"DynamoDB: the item {key!r} is not ours: look at its {name!r}", transient=False) from None


def _held_number(item: dict[str, Any], name: str) -> float:
    return float(_held(item, name, "N"))


def _number(value: float) -> dict[str, str]:
    return {"N": repr(float(value))}


def _removal(key: dict[str, Any]) -> dict[str, Any]:
    return {"DeleteRequest": {"Key": key}}


def _expired(item: dict[str, Any]) -> bool:
    return "e" in item and _held_number(item, "e") <= clock.now()
