"""The terms of the order system: the partner's are translated into these."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Final

from pydantic import BaseModel, Field

__all__ = ["CUSTOMERS", "MAX_EVENT_BYTES", "MAX_INLINE_BYTES", "Contract", "Customer", "Line", "Order"]

MAX_INLINE_BYTES: Final = 256 * 1024
"""Of an event; the payload of a larger one waits in the object store, and its URL travels."""
MAX_EVENT_BYTES: Final = 4 * 1024 * 1024
"""Of a payload that waits; a larger one is not read."""
_MAX_LINES: Final = 20_000


class Customer(BaseModel):
    """Whom orders are for."""

    id: str
    name: str
    country: str


CUSTOMERS: Final = (
    Customer(id="001A", name="Alder Coffee", country="DE"),
    Customer(id="001B", name="Birch & Sons", country="FR"),
    Customer(id="001C", name="Cedar Books", country="US"),
)


class Contract(BaseModel):
    """The terms of a customer's orders."""

    number: str = Field(max_length=40)
    customer: str = Field(max_length=40)
    discount: Decimal = Field(ge=0, le=100, max_digits=6)
    """Percent."""
    starts: date
    activated: bool
    revision: int = Field(ge=0)
    """Of two events on a contract, the one with the greater revision is the later."""


class Line(BaseModel):
    """Of an order."""

    sku: str = Field(min_length=1, max_length=40)
    quantity: int = Field(gt=0, le=1_000_000)
    price: Decimal = Field(ge=0, max_digits=14)


class Order(BaseModel):
    """What a customer wants."""

    number: str = Field(min_length=1, max_length=40)
    account: str = Field(max_length=40)
    """Of the customer, at the partner's."""
    contract_number: str | None = Field(None, max_length=40)
    lines: list[Line] = Field(min_length=1, max_length=_MAX_LINES)
    test: bool = False
    customer: Customer | None = None
    """Added here."""
    discount: Decimal = Decimal(0)
    """Percent; added here, from the contract."""

    @property
    def total(self) -> Decimal:
        """Of all lines, less the discount."""
        gross = sum((line.quantity * line.price for line in self.lines), Decimal(0))
        return (gross * (100 - self.discount) / 100).quantize(Decimal("0.01"))
