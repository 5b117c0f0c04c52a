"""The analysis service as the workflow sees it: jobs are started, publish their completion, and are fetched.

`recorded.RecordedAnalysis` is the stand-in, `textract.TextractAnalysis` the service itself.
"""

from __future__ import annotations

from typing import Any, Final, Literal, Protocol

from pydantic import BaseModel, Field

__all__ = ["COMPLETED", "DocumentAnalysis", "Notice", "Status"]

COMPLETED: Final = "document-analysis-completed"
"""The topic that receives the completions of jobs."""

Status = Literal["IN_PROGRESS", "SUCCEEDED", "PARTIAL_SUCCESS", "FAILED"]


class Location(BaseModel):
    """Where the document is, in the notice's words."""

    bucket: str = Field(alias="S3Bucket", max_length=255)
    key: str = Field(alias="S3ObjectName", max_length=1024)

    model_config = {"populate_by_name": True, "serialize_by_alias": True}


class Notice(BaseModel):
    """The completion of a job (Amazon Textract Developer Guide, "Amazon Textract Results Notification")."""

    job: str = Field(alias="JobId", max_length=64)
    status: str = Field(alias="Status", max_length=64)
    """SUCCEEDED; anything else: it failed."""
    tag: str = Field("", alias="JobTag", max_length=64)
    """What the job was started with."""
    location: Location = Field(alias="DocumentLocation")
    api: str = Field("StartDocumentAnalysis", alias="API")
    timestamp: float = Field(0, alias="Timestamp")
    """Milliseconds since the epoch."""

    model_config = {"populate_by_name": True, "serialize_by_alias": True}


class DocumentAnalysis(Protocol):
    """Analyses documents of an object store, asynchronously.

    Both raise `Reject` for what will never succeed, e.g. a document that is gone, and `TransportError` where the
    service is away.
    """

    async def start(self, bucket: str, key: str, *, tag: str) -> str:
        """Start a job, and return its id; the same job for the same tag. Its completion goes to `COMPLETED`."""
        ...

    async def fetch(self, job: str) -> dict[str, Any]:
        """The response of GetDocumentAnalysis with all blocks: ``JobStatus``, ``StatusMessage``, ``Blocks``.

        A job that is not done has no blocks.
        """
        ...
