"""The table of `eip.stores.dynamodb`, and how its client is called."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from eip._aws.client_calls import ClientCalls
from eip.errors import StoreError
from eip.stores._aws_errors import error_code, store_error

__all__ = ["DUE_INDEX", "call", "create_table", "table_definition", "until_active"]

DUE_INDEX: Final = "due"
_CALL_S: Final = 30.0
"""Seconds that a call may take, with the SDK's own retries."""
_CREATING_S: Final = 300.0
_LOOK_S: Final = 1.0


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
    """Make the table with the removal of what expired, or wait until another process has made it.

    Args:
        client: An open ``dynamodb`` client.
        table: Name of the table.

    Raises:
        StoreError: the table cannot be made, or is not there after five minutes.
    """
    calls = ClientCalls(client)
    try:
        await call(calls, "CreateTable", **table_definition(table))
    except StoreError as error:
        if error_code(error) != "ResourceInUseException":
            raise
    try:
        await until_active(calls, table)
        await _let_expire(calls, table)
    except StoreError as error:
        if error_code(error) not in _NOT_ALLOWED:  # those who may only read and write find a table that is there
            raise


_NOT_ALLOWED: Final = ("AccessDeniedException", "AccessDenied")


async def until_active(calls: ClientCalls, table: str) -> None:
    """Return once the table can be used; raises `StoreError`, also where that takes more than five minutes."""
    waited = 0.0
    while True:
        described = await call(calls, "DescribeTable", TableName=table)
        status = described["Table"]["TableStatus"]
        if status in ("ACTIVE", "UPDATING"):
            return
        if status != "CREATING" or waited >= _CREATING_S:
            raise StoreError(f"DynamoDB: table {table} is {status}", transient=status == "CREATING")
        await asyncio.sleep(_LOOK_S)
        waited += _LOOK_S


async def _let_expire(calls: ClientCalls, table: str) -> None:
    """Turn the removal of what expired on; who made the table may have died before."""
    described = await call(calls, "DescribeTimeToLive", TableName=table)
    if described["TimeToLiveDescription"]["TimeToLiveStatus"] != "DISABLED":
        return
    removal = {"Enabled": True, "AttributeName": "ttl"}
    try:
        await call(calls, "UpdateTimeToLive", TableName=table, TimeToLiveSpecification=removal)
    except StoreError as error:
        if error_code(error) not in ("ValidationException", "ResourceInUseException"):  # another process was first
            raise


def _keys(partition: str, sort: str) -> list[dict[str, str]]:
    return [{"AttributeName": partition, "KeyType": "HASH"}, {"AttributeName": sort, "KeyType": "RANGE"}]


async def call(calls: ClientCalls, operation: str, **parameters: Any) -> Any:
    """The answer of the operation; raises `StoreError`, with the SDK's own error as its cause."""
    try:
        async with asyncio.timeout(_CALL_S):
            return await calls.call(operation, parameters)
    except Exception as error:
        raise store_error("DynamoDB", error) from error
