"""Amazon's services: queues (SQS), topics (SNS), buses (EventBridge), streams (Kinesis); see `AwsTransport`.

Needs the extra ``aws``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from eip.transports.aws.eventbridge import EventBridgeBus as EventBridgeBus
    from eip.transports.aws.kinesis import KinesisStream as KinesisStream
    from eip.transports.aws.kinesis import ReadRate as ReadRate
    from eip.transports.aws.sns import SnsTopic as SnsTopic
    from eip.transports.aws.sqs import SqsQueue as SqsQueue
    from eip.transports.aws.transport import AwsTransport as AwsTransport

__all__ = ["AwsTransport", "EventBridgeBus", "KinesisStream", "ReadRate", "SnsTopic", "SqsQueue"]

_MODULES: Final = {
    "AwsTransport": "transport",
    "EventBridgeBus": "eventbridge",
    "KinesisStream": "kinesis",
    "ReadRate": "kinesis",
    "SnsTopic": "sns",
    "SqsQueue": "sqs",
}


def __getattr__(name: str) -> Any:
    """Import the drivers where they are first asked for: a Lambda function that only handles loads no SDK."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
