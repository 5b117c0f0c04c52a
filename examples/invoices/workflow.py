"""The workflow: what it takes from the bus and the topic, and its two processes."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from eip import Consumer, Message, Transport
from eip.clock import Duration
from eip.errors import Reject
from eip.matching import EventPattern
from eip.patterns.process_manager import Process, ProcessManager, Steps
from eip.retry import Backoff
from eip.runtime.service import Runnable
from eip.topology import BusSpec, RuleSpec, SubscriptionSpec, TopicSpec, Topology
from examples.invoices.analysis import COMPLETED, DocumentAnalysis, Notice
from examples.invoices.model import Created, InvoiceItem, Reading, Scan
from examples.invoices.reading import MIN_CONFIDENCE
from examples.invoices.steps import Buckets, InvoiceSteps, Tables

__all__ = ["ANALYSING", "PENDING_REVIEW", "READING", "Invoices", "invoices_topology"]

PENDING_REVIEW: Final = "pending-review"
"""The topic of invoices that a person has to look at."""
ANALYSING: Final = "analysis"
READING: Final = "reading"
_BUS: Final = "default"
"""S3 sends to this one only."""
_SCANNED: Final = "scanned-invoices"
_ANALYSED: Final = "invoice-analyses"
_NOTICES: Final = "invoices"
_REVIEWERS: Final = "reviewers"
_M = TypeVar("_M", bound=BaseModel)
_CONCURRENCY: Final = 32
_PATIENT: Final = Backoff(cap=60.0, max_attempts=20)
"""A service that is away for some minutes sends no invoice to review."""


def invoices_topology(buckets: Buckets) -> Topology:
    """The channels: rules for new objects, the topic of completed jobs and its queue, the topic of reviews."""
    return Topology(
        BusSpec(_BUS),
        RuleSpec(_BUS, _SCANNED, _created_in(buckets.scanned.bucket)),
        RuleSpec(_BUS, _ANALYSED, _created_in(buckets.analyses.bucket)),
        TopicSpec(COMPLETED),
        SubscriptionSpec(COMPLETED, _NOTICES),
        TopicSpec(PENDING_REVIEW),
        SubscriptionSpec(PENDING_REVIEW, _REVIEWERS),
    )


def _created_in(bucket: str) -> EventPattern:
    return EventPattern(
        {"source": ["aws.s3"], "detail-type": ["Object Created"], "detail": {"bucket": {"name": [bucket]}}}
    )


class Invoices:
    """The services of the workflow over a transport; run `services`.

    Args:
        transport: with the channels of `invoices_topology`.
        buckets: of scans and analyses.
        tables: of invoices.
        analysis: the service that analyses scans.
        patience: seconds (or timedelta) that a job may take, before it is asked for.
        min_confidence: percent; what was read with less counts as not found.
    """

    def __init__(
        self,
        transport: Transport,
        buckets: Buckets,
        tables: Tables,
        analysis: DocumentAnalysis,
        *,
        patience: Duration = timedelta(minutes=10),
        min_confidence: float = MIN_CONFIDENCE,
    ) -> None:
        self._buckets, self._tables = buckets, tables
        review, bus = transport.topic(PENDING_REVIEW), transport.bus(_BUS)
        steps = InvoiceSteps(buckets, tables, analysis, review, min_confidence=min_confidence)
        self.definitions: dict[str, Process[Any]] = {ANALYSING: _analysing(steps, patience), READING: _reading(steps)}
        self.manager = ProcessManager(tables.instances, self.definitions.values(), concurrency=_CONCURRENCY)
        self.services: list[Runnable] = [
            self.manager,
            Consumer(bus.subscription(_SCANNED), self._begin_analysis),
            Consumer(transport.topic(COMPLETED).subscription(_NOTICES), self._hand_on),
            Consumer(bus.subscription(_ANALYSED), self._begin_reading),
            Consumer(review.subscription(_REVIEWERS), self._note_review),
        ]

    async def _begin_analysis(self, message: Message[Any]) -> None:
        """Begin a process under an id of the object as it is now, so that an event that comes twice begins one."""
        scan = _scan(_valid(Created, message))
        if await self._tables.invoices.get(scan.invoice) is None:
            await self.manager.start(ANALYSING, scan, id=scan.invoice)

    async def _hand_on(self, message: Message[Any]) -> None:
        """Bring the notice to its process; one of a job that is not ours becomes a dead letter."""
        notice = _valid(Notice, message)
        await self.manager.receive(message.replace(correlation_id=notice.tag))

    async def _begin_reading(self, message: Message[Any]) -> None:
        """Read an analysis: one of ours, or one that somebody put there for a scan of the same name."""
        created = _valid(Created, message)
        stem = created.object.key.removesuffix(".json")
        known = await self.manager.get(stem)
        if known is not None and known.process == ANALYSING:
            scan: Scan = await self.manager.state(stem)
        else:
            scan = Scan(invoice=_id(created), bucket=self._buckets.scanned.bucket, key=stem)
        if await self._tables.invoices.get(scan.invoice) is None:
            reading = Reading(scan=scan, analysis=created.object.key)
            await self.manager.start(READING, reading, id=f"{scan.invoice}-{READING}")

    async def _note_review(self, message: Message[Any]) -> None:
        item = _valid(InvoiceItem, message)
        await self._tables.reviews.put(item.invoice_id, item.model_dump_json().encode())


def _analysing(steps: InvoiceSteps, patience: Duration) -> Process[Scan]:
    notice = Steps[Scan]().receive(steps.take_notice, within=patience)
    lost = Steps[Scan]().step(steps.ask_for_status, retry=_PATIENT)
    failed = Steps[Scan]().step(steps.find_out_why, retry=_PATIENT).fail(_failure, name="job failed")
    body = (
        Steps[Scan]()
        .step(steps.start_analysis, retry=_PATIENT)
        .catch(notice, failed=lost, name="notice")
        .choice([(has_failed, failed)], name="status")
        .step(steps.keep_analysis, retry=_PATIENT)
    )
    given_up = Steps[Scan]().step(steps.give_up_scan, name="pending_review", retry=_PATIENT)
    return Process(ANALYSING, state=Scan).catch(body, failed=given_up, name="scan")


def _reading(steps: InvoiceSteps) -> Process[Reading]:
    approved = Steps[Reading]().step(steps.move_scan, retry=_PATIENT).step(steps.approve, retry=_PATIENT)
    body = (
        Steps[Reading]()
        .step(steps.read_analysis, retry=_PATIENT)
        .choice(
            [(is_complete, approved)],
            otherwise=Steps[Reading]().fail(_problems, name="not complete"),
            name="all required elements found",
        )
    )
    given_up = Steps[Reading]().step(steps.give_up_reading, name="pending_review", retry=_PATIENT)
    return Process(READING, state=Reading).catch(body, failed=given_up, name="invoice")


def has_failed(scan: Scan) -> bool:
    return scan.status != "SUCCEEDED"


def is_complete(reading: Reading) -> bool:
    return not reading.problems


def _failure(scan: Scan) -> str:
    return f"the analysis failed: {scan.reason}"


def _problems(reading: Reading) -> str:
    return "; ".join(reading.problems)


def _scan(created: Created) -> Scan:
    found = created.object
    return Scan(invoice=_id(created), bucket=created.bucket.name, key=found.key, size=found.size, etag=found.etag)


def _id(created: Created) -> str:
    """The same for every report of one upload; a tag and a token of Textract, too."""
    text = "\0".join((created.bucket.name, created.object.key, created.object.sequencer or created.object.etag))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _valid(model: type[_M], message: Message[Any]) -> _M:
    try:
        return model.model_validate(message.body)
    except ValidationError as error:
        wrong = ", ".join(".".join(map(str, each["loc"])) for each in error.errors(include_url=False))
        raise Reject(f"not a {model.__name__}: {wrong or 'another form'}") from None
