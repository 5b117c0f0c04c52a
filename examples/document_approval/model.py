"""What is said: scans, analysis jobs and their completion, decisions."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

__all__ = ["Analysis", "Approval", "Block", "Decision", "Job", "Scan"]


class Scan(BaseModel):
    """A document was scanned."""

    document: str = Field(max_length=200)
    """The key of its image in the object store."""
    sender: str


class Job(BaseModel):
    """Analyse a document; the completion is published under the job's id."""

    document: str


class Block(BaseModel):
    """A word that was found, where on the page, and how surely it was read."""

    text: str
    confidence: float
    box: tuple[float, float, float, float]


class Analysis(BaseModel):
    """A job is complete. With every word and its place it is as large as the document: a claim travels instead."""

    status: Literal["SUCCEEDED", "FAILED"]
    fields: dict[str, str] = {}
    confidence: float = 0.0
    """Of the least certain word."""
    blocks: list[Block] = []
    reason: str | None = None


class Decision(BaseModel):
    """What the process knows when it hands the document on."""

    document: str
    sender: str
    total: float | None = None
    reason: str | None = None
    """Why a person has to look at it, where that is certain already."""


class Approval(BaseModel):
    """The state of an approval: what is kept of a document, and not the analysis itself."""

    scan: Scan
    total: float | None = None
    confidence: float = 0.0
    problem: str | None = None
