"""Runs the workflow over a few documents: ``python -m examples.document_approval --help``."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path

from eip import Message, running
from eip.codec import load_json
from eip.patterns.diagram import mermaid
from examples.document_approval.model import Scan
from examples.document_approval.wiring import TRANSPORTS, Surroundings, surroundings
from examples.document_approval.workflow import SCANS, Workflow, topology

DOCUMENTS = {
    "invoice-1": "From: Acme\nTotal: 120.50\n" + "Thank you for your business. " * 400,
    "invoice-2": "From: Umbrella\nTotal: 9800.00\n",
    "invoice-3": "From: Ini~~tech\nTotal: 12.00\n",
    "letter-4": "Dear Sir or Madam,\nwe have moved.\n",
    "photo-5": "\udcff\udcfe",
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.document_approval", description="Approve documents.")
    parser.add_argument("--transport", choices=TRANSPORTS, default="memory", help="default: memory")
    parser.add_argument("--endpoint-url", metavar="U", help="of AWS, e.g. of a local moto")
    parser.add_argument("--region", default="us-east-1", help="of AWS (default: us-east-1)")
    parser.add_argument("--state", type=Path, metavar="FOLDER", help="of the embedded transport; default: a new one")
    parser.add_argument("--diagram", action="store_true", help="print the services as a Mermaid flowchart, and end")
    return parser.parse_args()


async def _main(arguments: argparse.Namespace, folder: Path) -> None:
    async with surroundings(
        arguments.transport, folder, region=arguments.region, endpoint_url=arguments.endpoint_url
    ) as around:
        await topology().apply(around.transport)
        workflow = Workflow(around.transport, around.objects, around.approvals, around.ledger)
        if arguments.diagram:
            print(mermaid(*workflow.services))
            return
        await _approve(around, workflow)


async def _approve(around: Surroundings, workflow: Workflow) -> None:
    """Have the documents approved, and print where they went."""
    async with running(*workflow.services):
        for name, text in DOCUMENTS.items():
            await around.objects.put(f"scans/{name}", text.encode("utf-8", "surrogateescape"))
            await around.transport.queue(SCANS).send(Message(Scan(document=f"scans/{name}", sender="mail room")))
        for name in DOCUMENTS:
            while (found := await around.ledger.get(f"scans/{name}")) is None:  # noqa: ASYNC110 - a store tells nobody
                await asyncio.sleep(0.05)
            noted = load_json(found.value)
            print(f"{name:12} {noted['outcome']:16} {noted['total'] or '-':>10}  {noted['reason'] or ''}".rstrip())


if __name__ == "__main__":
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_main(arguments, arguments.state or Path(folder)))
