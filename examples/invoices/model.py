"""What the processes know of a scan, and what the table holds of an invoice."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Final, Literal

from pydantic import BaseModel, Field

__all__ = [
    "APPROVED",
    "MAX_ANALYSIS_BYTES",
    "MAX_SCAN_BYTES",
    "PENDING",
    "Created",
    "InvoiceItem",
    "InvoiceStatus",
    "Reading",
    "Scan",
]

MAX_SCAN_BYTES: Final = 10 * 1024 * 1024
"""Textract's own limit for JPEG and PNG (Developer Guide, "Set Quotas in Amazon Textract")."""
MAX_ANALYSIS_BYTES: Final = 32 * 1024 * 1024
"""Of an analysis that is kept: some 50,000 blocks, an invoice of a hundred pages."""

InvoiceStatus = Literal["Approved for Payment", "Pending Review"]
APPROVED: Final = "Approved for Payment"
PENDING: Final = "Pending Review"


class _Bucket(BaseModel):
    name: str = Field(max_length=255)


class _Object(BaseModel):
    key: str = Field(min_length=1, max_length=1024)
    size: int = 0
    etag: str = ""
    sequencer: str = ""


class Created(BaseModel):
    """The detail of S3's "Object Created" (user guide, "EventBridge event message structure")."""

    bucket: _Bucket
    object: _Object


class Scan(BaseModel):
    """The state of an analysis: what is known of a scan, and not the scan itself."""

    invoice: str
    bucket: str
    key: str
    size: int = 0
    etag: str = ""
    job: str = ""
    status: str = ""
    """Of the job."""
    reason: str = ""
    """Of the job's failure."""


class Reading(BaseModel):
    """The state of a reading: what was found in an analysis."""

    scan: Scan
    analysis: str
    """The key of the analysis."""
    payee: str | None = None
    amount: Decimal | None = None
    due_date: date | None = None
    memo: str | None = None
    problems: list[str] = []


class InvoiceItem(BaseModel):
    """An invoice, in the table and in the messages to those who review it."""

    invoice_id: str
    invoice_key: str
    """Of the scan."""
    status: InvoiceStatus
    payee_name: str | None = None
    amount: Decimal | None = None
    due_date: date | None = None
    memo: str | None = None
    reason: str | None = None
    """Why it is to be reviewed."""
    created_at: str
    """ISO 8601, of the item."""
