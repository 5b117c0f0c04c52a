"""The analysis service: takes jobs from a queue and publishes their completion, as Amazon Textract's asynchronous API.

It is a stand-in that reads "scans" of text: a word with a ``~`` is smudged, which lowers its confidence. What matters
here is its contract: the answer comes later, on a topic, under the job's id, once, twice or never.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from eip import Message
from eip.errors import Reject
from eip.stores.objects import ObjectStore
from examples.document_approval.model import Analysis, Block, Job

__all__ = ["AnalysisService", "analyse"]

_LARGEST = 5 * 1024 * 1024  # bytes of a document


class AnalysisService:
    """A handler for the queue of jobs; what it returns is to be published.

    Args:
        objects: where the scans are.
        takes: seconds that a document takes; None: it is never answered.
    """

    def __init__(self, objects: ObjectStore, takes: Callable[[str], float | None] = lambda _: 0.0) -> None:
        self._objects, self._takes = objects, takes

    async def __call__(self, message: Message[Job]) -> Message[Analysis] | None:
        """Analyse one document."""
        document = Job.model_validate(message.body).document
        takes = self._takes(document)
        if takes is None:
            return None
        await asyncio.sleep(takes)
        image = await self._objects.get(self._objects.bucket, document, limit=_LARGEST)
        if image is None:
            raise Reject(f"there is no document {document}")
        return message.reply(analyse(image), id=f"{message.id}-analysed", type="AnalysisCompleted")


def analyse(image: bytes) -> Analysis:
    """Every word of a document, and its fields: lines of the form ``name: value``."""
    try:
        lines = image.decode().splitlines()
    except UnicodeDecodeError:
        return Analysis(status="FAILED", reason="not a document")
    blocks = [
        Block(text=word.replace("~", ""), confidence=_confidence(word), box=(column / 80, row / 60, 0.1, 0.015))
        for row, line in enumerate(lines)
        for column, word in enumerate(line.split())
    ]
    fields = dict(line.replace("~", "").split(": ", 1) for line in lines if ": " in line)
    return Analysis(
        status="SUCCEEDED",
        fields={name.lower(): value.strip() for name, value in fields.items()},
        confidence=min((block.confidence for block in blocks), default=0.0),
        blocks=blocks,
    )


def _confidence(word: str) -> float:
    return round(0.99 * 0.6 ** word.count("~"), 4)
