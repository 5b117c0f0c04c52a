"""Amazon Kinesis Data Streams; see `KinesisStream`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eip.transports.aws.kinesis.rates import ReadRate as ReadRate

if TYPE_CHECKING:
    from eip.transports.aws.kinesis.stream import KinesisStream as KinesisStream

__all__ = ["KinesisStream", "ReadRate"]


def __getattr__(name: str) -> Any:
    """Import the driver where it is first asked for: a Lambda function reads records without it."""
    if name != "KinesisStream":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from eip.transports.aws.kinesis.stream import KinesisStream  # noqa: PLC0415

    return KinesisStream
