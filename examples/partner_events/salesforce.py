"""The partner's forms of events, and their translation into ours.

Salesforce's platform events reach EventBridge through AppFlow with the event's name as detail-type and its fields as
detail; fields of its users end in ``__c`` (Salesforce, Platform Events Developer Guide, "Platform Event Fields").
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any, Final, TypeVar

from pydantic import BaseModel, Field, Json, ValidationError

from eip import Message
from eip.errors import Reject
from examples.partner_events.model import Contract, Order

__all__ = ["CONTRACT_EVENT", "ORDER_EVENT", "contract_of", "order_of", "unknown"]

CONTRACT_EVENT: Final = "Contract_Event__e"
ORDER_EVENT: Final = "Order_Event__e"
_SOURCE: Final = "com.example.sales"
_M = TypeVar("_M", bound=BaseModel)


class _PlatformEvent(BaseModel):
    """What every event has."""

    uuid: str = Field(alias="EventUuid", min_length=1, max_length=64)
    replay_id: int = Field(alias="ReplayId", ge=0)


class _ContractEvent(_PlatformEvent):
    number: str = Field(alias="ContractNumber__c")
    account: str = Field(alias="AccountId__c")
    status: str = Field(alias="Status__c")
    discount: Decimal = Field(Decimal(0), alias="DiscountPercent__c")
    start: date = Field(alias="StartDate__c")


class _LineField(BaseModel):
    sku: str
    quantity: int = Field(alias="qty")
    price: Decimal


class _OrderEvent(_PlatformEvent):
    number: str = Field(alias="OrderNumber__c")
    account: str = Field(alias="AccountId__c")
    contract: str | None = Field(None, alias="ContractNumber__c")
    lines: Json[list[_LineField]] = Field(alias="Lines__c")
    """A long text field, which holds JSON."""
    test: bool = Field(default=False, alias="IsTest__c")


def contract_of(message: Message[Any]) -> Message[Contract]:
    """A contract's event as our own; raises `Reject` where it is not valid."""
    event = _valid(_ContractEvent, message.body)
    contract = {
        "number": event.number,
        "customer": event.account,
        "discount": event.discount,
        "starts": event.start,
        "activated": event.status == "Activated",
        "revision": event.replay_id,
    }
    return _ours(message, event, "ContractChanged", _valid(Contract, contract))


def order_of(message: Message[Any]) -> Message[Order]:
    """An order's event as our own; raises `Reject` where it is not valid."""
    event = _valid(_OrderEvent, message.body)
    order = {
        "number": event.number,
        "account": event.account,
        "contract_number": event.contract,
        "lines": [each.model_dump() for each in event.lines],
        "test": event.test,
    }
    return _ours(message, event, "OrderPlaced", _valid(Order, order))


def unknown(message: Message[Any]) -> Any:
    """Raise `Reject`: there is no translation for events of this type."""
    raise Reject(f"unknown type of event: {(message.type or '')[:100]!r}")


def _ours(message: Message[Any], event: _PlatformEvent, kind: str, body: _M) -> Message[_M]:
    """Under the partner's id of the event, which is the same however often it comes."""
    return message.derive(body, id=event.uuid, type=kind, source=_SOURCE, created_at=message.created_at)


def _valid(model: type[_M], value: Any) -> _M:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        wrong = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}" for each in found[:5])
        raise Reject(f"not valid: {wrong}") from None
