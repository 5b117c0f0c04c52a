"""Amazon Rekognition behind the workflow's interface (extra ``aws``).

The process needs ``s3:GetObject`` on the photos, ``rekognition:DetectModerationLabels`` and
``rekognition:DetectLabels``. Rekognition takes JPEG and PNG of at most 15 MB from S3 (Developer Guide, "Guidelines and
quotas in Amazon Rekognition").
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from examples.aws_calls import call
from examples.happy_path.judges import Judge
from examples.happy_path.model import Label

__all__ = ["RekognitionJudge"]

_REFUSALS: Final = (
    "ImageTooLargeException",
    "InvalidImageFormatException",
    "InvalidParameterException",
    "InvalidS3ObjectException",
)
_MIN_CONFIDENCE: Final = 60.0
"""Percent."""
_MAX_LABELS: Final = 20


class RekognitionJudge(Judge):
    """Has Rekognition look at photos of a bucket.

    Args:
        client: an open ``rekognition`` client of the SDK.
        min_confidence: percent; labels of which Rekognition is less sure are left out.
    """

    def __init__(self, client: Any, *, min_confidence: float = _MIN_CONFIDENCE) -> None:
        self._client, self._min_confidence = client, min_confidence

    async def moderate(self, bucket: str, key: str) -> list[Label]:
        answer = await self._look(self._client.detect_moderation_labels, bucket, key)
        return _labels(answer.get("ModerationLabels"))

    async def labels(self, bucket: str, key: str) -> list[Label]:
        answer = await self._look(self._client.detect_labels, bucket, key, MaxLabels=_MAX_LABELS)
        return _labels(answer.get("Labels"))

    async def _look(self, operation: Callable[..., Awaitable[Any]], bucket: str, key: str, **more: Any) -> Any:
        image = {"S3Object": {"Bucket": bucket, "Name": key}}
        return await call(operation, _REFUSALS, Image=image, MinConfidence=self._min_confidence, **more)


def _labels(found: list[dict[str, Any]] | None) -> list[Label]:
    return [Label(name=each["Name"], confidence=round(each["Confidence"], 1)) for each in found or ()]
