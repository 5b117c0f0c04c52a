"""The inventory's table: in an SQLite file, and in DynamoDB."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from eip import clock
from eip.errors import StoreError
from examples.job_events.inventory import Job

__all__ = ["DynamoInventory", "SqliteInventory"]

_REMEMBERED: Final = 15 * 86_400.0
"""Seconds that a deleted job is remembered: a day more than a queue keeps an event that could bring it back."""


class SqliteInventory:
    """See `InventoryTable`; a row's write takes some 20 microseconds, so it is made here and not in a thread."""

    def __init__(self, path: Path | str) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, timeout=10.0)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS inventory"
            " (job_id INTEGER PRIMARY KEY, position TEXT NOT NULL, job TEXT, deleted_at REAL) STRICT"
        )
        self._writes = 0

    async def record(self, job_id: int, position: str, job: Job | None) -> bool:
        """See `InventoryTable.record`."""
        text, deleted_at = (None, clock.now()) if job is None else (job.model_dump_json(), None)
        try:
            done = self._db.execute(
                "INSERT INTO inventory VALUES (?, ?, ?, ?) ON CONFLICT (job_id) DO UPDATE SET"
                " position = excluded.position, job = excluded.job, deleted_at = excluded.deleted_at"
                " WHERE excluded.position > position",
                (job_id, position, text, deleted_at),
            )
            self._writes += 1
            if self._writes % 1000 == 0:
                self._db.execute("DELETE FROM inventory WHERE deleted_at < ?", (clock.now() - _REMEMBERED,))
        except sqlite3.Error as error:
            raise StoreError(f"SQLite: {error}") from error
        return done.rowcount == 1

    async def available(self) -> AsyncIterator[Job]:
        """See `InventoryTable.available`; by id."""
        try:
            for (text,) in self._db.execute("SELECT job FROM inventory WHERE job IS NOT NULL ORDER BY job_id"):
                yield Job.model_validate_json(text)
        except sqlite3.Error as error:
            raise StoreError(f"SQLite: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()


class DynamoInventory:
    """See `InventoryTable`. Writes are conditional; DynamoDB forgets deleted jobs by the attribute ``ttl``.

    Args:
        client: an open ``dynamodb`` client of the SDK, which stays the caller's.
        table: its name.
    """

    def __init__(self, client: Any, table: str) -> None:
        self._client, self._table = client, table

    async def create(self) -> None:
        """Make the table where there is none."""
        key = {"AttributeName": "job_id"}
        try:
            await self._client.create_table(
                TableName=self._table,
                BillingMode="PAY_PER_REQUEST",
                AttributeDefinitions=[{**key, "AttributeType": "N"}],
                KeySchema=[{**key, "KeyType": "HASH"}],
            )
            await self._client.get_waiter("table_exists").wait(TableName=self._table)
            removal = {"Enabled": True, "AttributeName": "ttl"}
            await self._client.update_time_to_live(TableName=self._table, TimeToLiveSpecification=removal)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceInUseException":
                raise StoreError(f"DynamoDB: {error}") from error
        except (BotoCoreError, OSError, TimeoutError) as error:
            raise StoreError(f"DynamoDB: {error}") from error

    async def record(self, job_id: int, position: str, job: Job | None) -> bool:
        """See `InventoryTable.record`."""
        item: dict[str, Any] = {"job_id": {"N": str(job_id)}, "position": {"S": position}}
        if job is None:
            item["ttl"] = {"N": str(round(clock.now() + _REMEMBERED))}
        else:
            item["job"] = {"S": job.model_dump_json()}
        try:
            await self._client.put_item(
                TableName=self._table,
                Item=item,
                ConditionExpression="attribute_not_exists(job_id) OR #position < :position",
                ExpressionAttributeNames={"#position": "position"},
                ExpressionAttributeValues={":position": item["position"]},
            )
        except ClientError as error:
            if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
                return False
            raise StoreError(f"DynamoDB: {error}") from error
        except (BotoCoreError, OSError, TimeoutError) as error:
            raise StoreError(f"DynamoDB: {error}") from error
        return True

    async def available(self) -> AsyncIterator[Job]:
        """See `InventoryTable.available`; in no order. Reads the whole table: deleted jobs are few and go."""
        asked: dict[str, Any] = {
            "TableName": self._table,
            "ConsistentRead": True,
            "FilterExpression": "attribute_exists(job)",
        }
        while True:
            try:
                page = await self._client.scan(**asked)
            except (ClientError, BotoCoreError, OSError, TimeoutError) as error:
                raise StoreError(f"DynamoDB: {error}") from error
            for item in page["Items"]:
                yield Job.model_validate_json(item["job"]["S"])
            if "LastEvaluatedKey" not in page:
                return
            asked["ExclusiveStartKey"] = page["LastEvaluatedKey"]
