"""The workflow: its channels as a topology, the approval process, the router, the ledger."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from eip import Consumer, Handler, Message, Transport
from eip.clock import Duration
from eip.codec import dump_json
from eip.matching import FilterPolicy
from eip.patterns.claim_check import ClaimCheckSender, claim_checked
from eip.patterns.content_based_router import ContentBasedRouter
from eip.patterns.process_manager import Context, Process, ProcessManager
from eip.runtime.handlers import handler_of
from eip.runtime.service import Runnable
from eip.stores.base import Store
from eip.stores.objects import ObjectStore
from eip.topology import QueueSpec, SubscriptionSpec, TopicSpec, Topology
from examples.document_approval.analysis import AnalysisService
from examples.document_approval.model import Analysis, Approval, Decision, Job, Scan

__all__ = ["APPROVED", "PENDING_REVIEW", "SCANS", "Workflow", "topology"]

SCANS: Final = "documents-scans"
_JOBS: Final = "documents-jobs"
_ANALYSED: Final = "documents-analysed"
_DECISIONS: Final = "documents-decisions"
APPROVED: Final = "documents-approved"
PENDING_REVIEW: Final = "documents-pending-review"
_LEDGER: Final = "ledger"

_CLEAR: Final = FilterPolicy({"confidence": [{"numeric": [">=", 0.9]}], "total": [{"numeric": ["<=", 1000]}]})
"""What is approved without a person: read surely, and not too expensive."""
_LARGE: Final = 16 * 1024
"""Bytes above which an analysis waits in the object store."""


def topology() -> Topology:
    """The channels of the workflow, for whatever transport."""
    return Topology(
        *(QueueSpec(name) for name in (SCANS, _JOBS, _DECISIONS)),
        *(TopicSpec(name) for name in (_ANALYSED, APPROVED, PENDING_REVIEW)),
        SubscriptionSpec(_ANALYSED, "approval"),
        *(SubscriptionSpec(name, _LEDGER) for name in (APPROVED, PENDING_REVIEW)),
    )


class Workflow:
    """The services of the workflow over a transport; run `services`.

    Args:
        transport: with the channels of `topology`.
        objects: where scans and large analyses are.
        approvals: the store of the running approvals.
        ledger: the store of outcomes: by document, where it went and why.
        analysis: the analysis service; default: one that answers at once.
        patience: how long an analysis may take, before a person looks at the document.
    """

    def __init__(
        self,
        transport: Transport,
        objects: ObjectStore,
        approvals: Store,
        ledger: Store,
        *,
        analysis: AnalysisService | None = None,
        patience: Duration = timedelta(minutes=10),
    ) -> None:
        self._ledger = ledger
        self._jobs, self._decisions = transport.queue(_JOBS), transport.queue(_DECISIONS)
        self._approvals = ProcessManager(approvals, [self._process(patience)])
        analysed, approved, pending = (transport.topic(name) for name in (_ANALYSED, APPROVED, PENDING_REVIEW))
        router = ContentBasedRouter([(_CLEAR, approved)], otherwise=pending)
        self.services: list[Runnable] = [
            self._approvals,
            Consumer(transport.queue(SCANS), self._begin),
            Consumer(
                self._jobs,
                analysis or AnalysisService(objects),
                output=ClaimCheckSender(analysed, objects, threshold=_LARGE, prefix="analyses/"),
            ),
            Consumer(
                analysed.subscription("approval"),
                claim_checked(objects, prefix="analyses/", delete=True)(self._answered),
            ),
            Consumer(self._decisions, router),
            Consumer(approved.subscription(_LEDGER), self._note("approved")),
            Consumer(pending.subscription(_LEDGER), self._note("pending review")),
        ]
        """What runs: the process manager and the consumers."""

    def _process(self, patience: Duration) -> Process:
        return (
            Process("approval", version=1, state=Approval)
            .step(self._ask, name="ask for an analysis", compensate=self._give_up)
            .receive(self._take, name="take the analysis", within=patience)
            .step(self._decide, name="decide")
        )

    # The ends of the process.

    async def _begin(self, message: Message[Scan]) -> None:
        await self._approvals.start("approval", Approval(scan=message.body), id=message.id)

    async def _answered(self, message: Message[Analysis]) -> None:
        """Keep what the process needs of an analysis, which is much less than all of it."""
        analysis = message.body
        kept = analysis.model_copy(update={"blocks": []})
        await self._approvals.receive(message.with_body(kept.model_dump()))

    # The steps of the process.

    async def _ask(self, approval: Approval, context: Context) -> None:
        job = Message(Job(document=approval.scan.document), id=context.key, correlation_id=context.process_id)
        await self._jobs.send(job)

    async def _take(self, approval: Approval, message: Message[Analysis]) -> None:
        analysis = Analysis.model_validate(message.body)
        approval.confidence = analysis.confidence
        try:
            approval.total = float(analysis.fields["total"])
        except (KeyError, ValueError):
            approval.problem = analysis.reason or "no total was found"

    async def _decide(self, approval: Approval, context: Context) -> None:
        await self._send_decision(approval, context)

    async def _give_up(self, approval: Approval, context: Context) -> None:
        """Undoes `_ask`, whose answer did not come: a person decides."""
        approval.problem = "the analysis did not answer"
        await self._send_decision(approval, context)

    async def _send_decision(self, approval: Approval, context: Context) -> None:
        scan, total = approval.scan, approval.total
        decision = Decision(document=scan.document, sender=scan.sender, total=total, reason=approval.problem)
        known = {} if total is None or approval.problem else {"total": total, "confidence": approval.confidence}
        await self._decisions.send(Message(decision, id=context.key, type="Decision", attributes=known))

    # The ledger.

    def _note(self, outcome: str) -> Handler:
        async def note(message: Message[Decision]) -> None:
            decision = message.body
            said = {"outcome": outcome, "total": decision.total, "reason": decision.reason, "sender": decision.sender}
            await self._ledger.put(decision.document, dump_json(said))

        return handler_of(note)
