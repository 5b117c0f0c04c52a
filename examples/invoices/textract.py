"""Amazon Textract behind the workflow's interface (extra ``aws``).

The role that Textract publishes with needs ``sns:Publish`` on the topic; this process needs ``s3:GetObject`` on the
scans, ``iam:PassRole``, ``textract:StartDocumentAnalysis`` and ``textract:GetDocumentAnalysis``. Source: Developer
Guide, "Calling Amazon Textract Asynchronous Operations"; API Reference, the two operations.
"""

from __future__ import annotations

from typing import Any, Final

from typing_extensions import override

from eip.errors import Reject
from examples.aws_calls import call
from examples.invoices.analysis import DocumentAnalysis

__all__ = ["TextractAnalysis"]

_REFUSALS: Final = (
    "BadDocumentException",
    "DocumentTooLargeException",
    "IdempotentParameterMismatchException",
    "InvalidJobIdException",
    "InvalidParameterException",
    "InvalidS3ObjectException",
    "UnsupportedDocumentException",
)
_PAGE_BLOCKS: Final = 1000
"""Of one response: the most that Textract returns."""
_MAX_BLOCKS: Final = 50_000


class TextractAnalysis(DocumentAnalysis):
    """Jobs of Textract.

    Args:
        client: an open ``textract`` client of the SDK.
        topic: the ARN of the topic that receives the completions of jobs.
        role: the ARN of the role that Textract publishes with.
    """

    def __init__(self, client: Any, *, topic: str, role: str) -> None:
        self._client, self._channel = client, {"SNSTopicArn": topic, "RoleArn": role}

    @override
    async def start(self, bucket: str, key: str, *, tag: str) -> str:
        answer = await call(
            self._client.start_document_analysis,
            _REFUSALS,
            DocumentLocation={"S3Object": {"Bucket": bucket, "Name": key}},
            FeatureTypes=["TABLES", "FORMS"],
            NotificationChannel=self._channel,
            JobTag=tag,
            ClientRequestToken=tag,  # so that a step that is repeated starts no other job
        )
        return str(answer["JobId"])

    @override
    async def fetch(self, job: str) -> dict[str, Any]:
        page: dict[str, str] = {}
        blocks: list[dict[str, Any]] = []
        while True:
            answer = await call(
                self._client.get_document_analysis, _REFUSALS, JobId=job, MaxResults=_PAGE_BLOCKS, **page
            )
            blocks += answer.get("Blocks") or ()
            if len(blocks) > _MAX_BLOCKS:
                raise Reject(f"the analysis is too large: more than {_MAX_BLOCKS:,} blocks")
            if not answer.get("NextToken"):
                break
            page = {"NextToken": answer["NextToken"]}
        kept = {
            name: answer[name]
            for name in ("JobStatus", "StatusMessage", "DocumentMetadata", "Warnings")
            if name in answer
        }
        return {**kept, "Blocks": blocks}
