"""Amazon's services: queues (SQS), topics (SNS), buses (EventBridge), streams (Kinesis); see `AwsTransport`.

Needs the extra ``aws``.
"""

from eip.transports.aws.eventbridge import EventBridgeBus as EventBridgeBus
from eip.transports.aws.kinesis import KinesisStream as KinesisStream
from eip.transports.aws.kinesis import ReadRate as ReadRate
from eip.transports.aws.sns import SnsTopic as SnsTopic
from eip.transports.aws.sqs import SqsQueue as SqsQueue
from eip.transports.aws.transport import AwsTransport as AwsTransport

__all__ = ["AwsTransport", "EventBridgeBus", "KinesisStream", "ReadRate", "SnsTopic", "SqsQueue"]
