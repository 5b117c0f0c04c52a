"""The steps of the two processes: a scan is analysed, and its analysis is read. Each may be repeated."""

from __future__ import annotations

import asyncio
import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from eip import Message, Sender, clock
from eip.codec import dump_json, load_json
from eip.errors import DecodeError, MessageTooLarge, Reject, Retry
from eip.patterns.process_manager import Context
from eip.stores.base import Store
from eip.stores.objects import ObjectStore
from examples.invoices.analysis import DocumentAnalysis, Notice
from examples.invoices.form import read_form
from examples.invoices.model import (
    APPROVED,
    MAX_ANALYSIS_BYTES,
    MAX_SCAN_BYTES,
    PENDING,
    InvoiceItem,
    InvoiceStatus,
    Reading,
    Scan,
)
from examples.invoices.reading import MIN_CONFIDENCE, read_invoice

__all__ = ["SOURCE", "Buckets", "InvoiceSteps", "Tables"]

SOURCE: Final = "invoices"
_MD5: Final = re.compile("[0-9a-f]{32}")
"""What an entity tag of S3 is, unless the object was put in parts or is encrypted with a key of its own."""
_MAX_AT_ONCE: Final = 4
"""Scans or analyses in memory at a time."""


@dataclass(frozen=True, slots=True)
class Buckets:
    """Where things are."""

    scanned: ObjectStore
    analyses: ObjectStore
    processed: ObjectStore


@dataclass(frozen=True, slots=True)
class Tables:
    """What is kept."""

    invoices: Store
    """An item per invoice."""
    reviews: Store
    """The messages to reviewers."""
    instances: Store
    """Of the process manager."""
    jobs: Store
    """Of the stand-in for Textract."""


class InvoiceSteps:
    """What is done to scans and analyses.

    Args:
        buckets: of scans and analyses.
        tables: of invoices.
        analysis: the service that analyses scans.
        review: receives the invoices that a person has to look at.
        min_confidence: percent; what was read with less counts as not found.
    """

    def __init__(
        self,
        buckets: Buckets,
        tables: Tables,
        analysis: DocumentAnalysis,
        review: Sender,
        *,
        min_confidence: float = MIN_CONFIDENCE,
    ) -> None:
        self._buckets, self._tables = buckets, tables
        self._analysis, self._review = analysis, review
        self._min_confidence = min_confidence
        self._slots = asyncio.Semaphore(_MAX_AT_ONCE)

    # A scan is analysed.

    async def start_analysis(self, scan: Scan) -> None:
        if scan.size > MAX_SCAN_BYTES:
            raise Reject(f"the scan is larger than {MAX_SCAN_BYTES // 2**20} MB: {scan.size / 2**20:.0f} MB")
        scan.job = await self._analysis.start(scan.bucket, scan.key, tag=scan.invoice)

    async def take_notice(self, scan: Scan, message: Message[Any]) -> None:
        scan.status = Notice.model_validate(message.body).status

    async def ask_for_status(self, scan: Scan) -> None:
        """No notice has come: it may have been lost, so ask once."""
        scan.status = str((await self._analysis.fetch(scan.job)).get("JobStatus"))
        if scan.status == "IN_PROGRESS":
            raise Reject("the analysis did not answer")

    async def find_out_why(self, scan: Scan) -> None:
        scan.reason = str(
            (await self._analysis.fetch(scan.job)).get("StatusMessage") or f"the job ended as {scan.status}"
        )

    async def keep_analysis(self, scan: Scan) -> None:
        """Put the analysis where its creation has it read."""
        async with self._slots:
            analysis = await self._analysis.fetch(scan.job)
            if analysis.get("JobStatus") == "IN_PROGRESS":
                raise Retry("the job is not done, although its notice came")
            document = {"S3Bucket": scan.bucket, "S3ObjectName": scan.key}
            data = dump_json({**analysis, "JobId": scan.job, "DocumentLocation": document})
            if len(data) > MAX_ANALYSIS_BYTES:
                raise Reject(f"the analysis is too large: {len(data) / 2**20:.0f} MB")
            await self._buckets.analyses.put(f"{scan.invoice}.json", data)

    async def give_up_scan(self, scan: Scan, context: Context) -> None:
        await self._pend(Reading(scan=scan, analysis=""), context)

    # An analysis is read.

    async def read_analysis(self, reading: Reading) -> None:
        async with self._slots:
            analysis = await self._load(reading.analysis)
            found = await asyncio.to_thread(self._read, analysis)
        reading.payee, reading.amount, reading.due_date, reading.memo, problems = found
        reading.problems = list(problems)

    def _read(self, analysis: bytes) -> Any:
        try:
            response = load_json(analysis)
        except (DecodeError, RecursionError):
            raise Reject("the analysis is not JSON") from None
        blocks = response.get("Blocks") if isinstance(response, dict) else None
        if not isinstance(blocks, list) or not blocks:
            raise Reject("the analysis has no blocks")
        return read_invoice(read_form(blocks), min_confidence=self._min_confidence)

    async def _load(self, key: str) -> bytes:
        objects = self._buckets.analyses
        try:
            data = await objects.get(objects.bucket, key, limit=MAX_ANALYSIS_BYTES)
        except MessageTooLarge as error:
            raise Reject(f"the analysis is too large: {error.size / 2**20:.0f} MB") from None
        if data is None:
            raise Reject("the analysis is gone")
        return data

    async def move_scan(self, reading: Reading) -> None:
        """To the processed ones; the copy is there before the scan is removed."""
        scan, processed = reading.scan, self._buckets.processed
        async with self._slots:
            try:
                data = await self._buckets.scanned.get(scan.bucket, scan.key, limit=MAX_SCAN_BYTES)
            except MessageTooLarge:
                raise Reject("another, larger scan has taken its place") from None
            if data is not None:
                if _MD5.fullmatch(scan.etag) and hashlib.md5(data, usedforsecurity=False).hexdigest() != scan.etag:
                    raise Reject("another scan has taken its place")
                await processed.put(scan.key, data)
                await self._buckets.scanned.delete(scan.bucket, scan.key)
            elif await processed.get(processed.bucket, scan.key, limit=MAX_SCAN_BYTES) is None:
                raise Reject("the scan is gone")

    async def approve(self, reading: Reading) -> None:
        await self._put(_item(reading, APPROVED))

    async def give_up_reading(self, reading: Reading, context: Context) -> None:
        await self._pend(reading, context)

    async def _pend(self, reading: Reading, context: Context) -> None:
        """Put the invoice before a person: in the table first, then by the topic, under the same id if repeated."""
        item = _item(reading, PENDING, (context.error or "").removeprefix("Reject: "))
        await self._put(item)
        await self._review.send(
            Message(item, id=f"{item.invoice_id}/review", type="InvoicePendingReview", source=SOURCE)
        )

    async def _put(self, item: InvoiceItem) -> None:
        await self._tables.invoices.put(item.invoice_id, item.model_dump_json().encode())


def _item(reading: Reading, status: InvoiceStatus, reason: str | None = None) -> InvoiceItem:
    return InvoiceItem(
        invoice_id=reading.scan.invoice,
        invoice_key=reading.scan.key,
        status=status,
        payee_name=reading.payee,
        amount=reading.amount,
        due_date=reading.due_date,
        memo=reading.memo,
        reason=reason,
        created_at=datetime.fromtimestamp(clock.now(), UTC).isoformat(timespec="seconds"),
    )
