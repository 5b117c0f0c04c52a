"""Amazon's services: queues (SQS) and topics (SNS); see `AwsTransport`. Needs the extra ``aws``."""

from eip.transports.aws.sns import SnsTopic as SnsTopic
from eip.transports.aws.sqs import SqsQueue as SqsQueue
from eip.transports.aws.transport import AwsTransport as AwsTransport

__all__ = ["AwsTransport", "SnsTopic", "SqsQueue"]
