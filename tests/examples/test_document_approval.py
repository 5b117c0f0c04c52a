"""Document approval: every document ends where it belongs, whatever fails on the way, in memory and on AWS."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from eip import Message
from eip.codec import load_json
from eip.errors import TransportError
from eip.stores import MemoryStore
from eip.stores.objects import MemoryObjects
from eip.testing import FaultPlan, run
from eip.testing.faults import FaultyTransport
from eip.transports.memory import MemoryTransport
from examples.document_approval.analysis import AnalysisService, analyse
from examples.document_approval.model import Scan
from examples.document_approval.workflow import SCANS, Workflow, topology

ROOT = Path(__file__).parents[2]

KINDS: dict[str, tuple[Any, str, float | None, str | None]] = {
    "clear": ("Total: 100\n" + "thank you " * 2000, "approved", 100.0, None),
    "expensive": ("Total: 5000", "pending review", 5000.0, None),
    "smudged": ("Total: 1~0~0", "pending review", 100.0, None),
    "letter": ("we have moved", "pending review", None, "no total was found"),
    "broken": (b"\xff\xfe", "pending review", None, "not a document"),
    "forgotten": ("Total: 1", "pending review", None, "the analysis did not answer"),
    "slow": ("Total: 2", "approved", 2.0, None),
}
DOCUMENTS = {f"{kind}-{number}": value for kind, value in KINDS.items() for number in range(4)}


def takes(document: str) -> float | None:
    return {"forgotten": None, "slow": 120.0}.get(document.split("-", maxsplit=1)[0], 1.0)


async def scenario(plan: FaultPlan | None) -> dict[str, dict]:
    """Under a plan the service is killed three times; what survives are channels, objects and stores."""
    objects, approvals, ledger = MemoryObjects(), MemoryStore(), MemoryStore()
    async with MemoryTransport() as memory:
        await topology().apply(memory)
        for name, (image, *_) in DOCUMENTS.items():
            await objects.put(name, image if isinstance(image, bytes) else image.encode())
            await memory.queue(SCANS).send(Message(Scan(document=name, sender="me"), id=name))
        for life in range(1 if plan is None else 4):
            transport = memory if plan is None or life == 3 else plan.wrap(memory)
            workflow = Workflow(transport, objects, approvals, ledger, analysis=AnalysisService(objects, takes))
            try:
                async with asyncio.TaskGroup() as tasks:
                    for service in workflow.services:
                        tasks.create_task(service.run())
                    await asyncio.sleep(3000 if transport is memory else 20)
                    if isinstance(transport, FaultyTransport):
                        transport.kill()
                    for service in workflow.services:
                        await service.stop()
            except* TransportError:
                pass  # connecting failed: as good as killed
    noted = {name: await ledger.get(name) for name in DOCUMENTS}
    return {name: load_json(found.value) for name, found in noted.items() if found is not None}


def expected(kind: str) -> dict:
    _, outcome, total, reason = KINDS[kind]
    return {"outcome": outcome, "total": total, "reason": reason, "sender": "me"}


def test_every_document_ends_where_it_belongs():
    assert run(scenario(None)) == {name: expected(name.split("-")[0]) for name in DOCUMENTS}


@pytest.mark.parametrize("seed", range(10))
def test_under_faults_and_kills_every_document_ends_where_it_belongs(seed):
    plan = FaultPlan(seed=seed, duplicates=0.2, reordering=0.3, delays=0.2, lost_acks=0.1, send_failures=0.1)
    noted = run(scenario(plan))
    assert noted == {name: expected(name.split("-")[0]) for name in DOCUMENTS}


def test_an_analysis_reads_words_fields_and_how_sure_it_is():
    analysis = analyse(b"From: Acme Ltd\nTotal: 1~2")
    assert (analysis.status, analysis.fields) == ("SUCCEEDED", {"from": "Acme Ltd", "total": "12"})
    assert analysis.confidence == min(block.confidence for block in analysis.blocks) < 0.9
    assert [block.text for block in analysis.blocks] == ["From:", "Acme", "Ltd", "Total:", "12"]
    assert analyse(b"").confidence == 0.0


def test_a_large_analysis_travels_as_a_claim_and_its_object_goes_after_the_ack():
    async def one() -> tuple[list[str], int]:
        objects, approvals, ledger = MemoryObjects(), MemoryStore(), MemoryStore()
        claims: list[str] = []
        put = objects.put

        async def noted_put(key: str, data: bytes) -> None:
            claims.append(key)
            await put(key, data)

        objects.put = noted_put
        async with MemoryTransport() as memory:
            await topology().apply(memory)
            await put("scan", KINDS["clear"][0].encode())
            await memory.queue(SCANS).send(Message(Scan(document="scan", sender="me")))
            workflow = Workflow(memory, objects, approvals, ledger)
            async with asyncio.TaskGroup() as tasks:
                for service in workflow.services:
                    tasks.create_task(service.run())
                await asyncio.sleep(60)
                for service in workflow.services:
                    await service.stop()
        return claims, len(objects.objects)

    claims, left = run(one())
    assert [key.startswith("analyses/") for key in claims] == [True]
    assert left == 1  # the scan


OUTCOMES = """\
invoice-1    approved              120.5
invoice-2    pending review       9800.0
invoice-3    pending review         12.0
letter-4     pending review            -  no total was found
photo-5      pending review            -  not a document
"""


def command(*arguments: str) -> str:
    asked = [sys.executable, "-m", "examples.document_approval", *arguments]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    return "".join(f"{line}\n" for line in done.stdout.splitlines() if not line[:4].isdigit())


def test_the_command_prints_where_the_documents_went(tmp_path):
    assert command("--state", str(tmp_path)) == OUTCOMES


def test_the_command_draws_the_services():
    drawn = command("--diagram")
    assert drawn.startswith("flowchart LR")
    assert '[("documents-pending-review")]' in drawn


@pytest.mark.aws
def test_the_same_on_aws_with_s3_and_dynamodb(moto_server):
    assert command("--transport", "aws", "--endpoint-url", moto_server.url, "--region", moto_server.region) == OUTCOMES
