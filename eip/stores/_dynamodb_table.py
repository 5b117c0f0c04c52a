"""The table of `eip.stores.dynamodb`, and how its client is called."""

from __future__ import annotations

from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from eip.errors import StoreError

__all__ = ["DUE_INDEX", "call", "create_table", "table_definition"]

DUE_INDEX: Final = "due"


def table_definition(table: str) -> dict[str, Any]:
    """CreateTable's arguments: keys ``pk`` and ``sk``, the index ``due`` over ``g`` and ``d``, billed by request."""
    kinds = {"pk": "S", "sk": "S", "g": "S", "d": "N"}
    return {
        "TableName": table,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": name, "AttributeType": kind} for name, kind in kinds.items()],
        "KeySchema": _keys("pk", "sk"),
        "GlobalSecondaryIndexes": [
            {
                "IndexName": DUE_INDEX,
                "KeySchema": _keys("g", "d"),
                "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["e"]},
            }
        ],
    }


async def create_table(client: Any, table: str) -> None:
    """Make the table and turn on the removal of what expired; does nothing where it exists. Raises `StoreError`."""
    try:
        await call(client, "create_table", **table_definition(table))
        await client.get_waiter("table_exists").wait(TableName=table, WaiterConfig={"Delay": 1})
        removal = {"Enabled": True, "AttributeName": "ttl"}
        await call(client, "update_time_to_live", TableName=table, TimeToLiveSpecification=removal)
    except StoreError as error:
        cause = error.__cause__
        if not isinstance(cause, ClientError) or cause.response["Error"]["Code"] != "ResourceInUseException":
            raise


def _keys(partition: str, sort: str) -> list[dict[str, str]]:
    return [{"AttributeName": partition, "KeyType": "HASH"}, {"AttributeName": sort, "KeyType": "RANGE"}]


async def call(client: Any, operation: str, **arguments: Any) -> Any:
    """What the client's operation answers; raises `StoreError`, with the SDK's own error as its cause."""
    try:
        return await getattr(client, operation)(**arguments)
    except (ClientError, BotoCoreError, OSError, TimeoutError) as error:
        raise StoreError(f"DynamoDB: {error}") from error
