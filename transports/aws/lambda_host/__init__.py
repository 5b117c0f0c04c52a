"""AWS Lambda as a host of handlers: the same handler that a poller runs, called by an event source.

    handler = lambda_handler(handle, concurrency=10)         # in the function's module: its entry point

Each invocation is consumed by an ordinary `Consumer`, so that retries, message groups, packs, expiry, dead letters and
"publish, then acknowledge" mean what they mean everywhere. Delivery is at-least-once. The answers:

    SQS                          ``batchItemFailures``, so that only failed messages come again; of a FIFO group also
                                 those behind
    Kinesis, DynamoDB streams    the first failed record of the batch: it and what follows come again
    SNS, EventBridge, Scheduler, S3, Amazon MQ, RabbitMQ, Kafka
                                 the invocation fails where a message failed: all that it was called with comes again

Give an event source mapping of SQS, Kinesis or DynamoDB ``ReportBatchItemFailures`` (`EventSourceMappingSpec` does). A
message that is not done a second before the function would be ended is given back.
"""

from eip.transports.aws.lambda_host._invocation import LambdaContext as LambdaContext
from eip.transports.aws.lambda_host._invocation import LambdaInvocation as LambdaInvocation
from eip.transports.aws.lambda_host._invocation import TumblingWindow as TumblingWindow
from eip.transports.aws.lambda_host._invocation import current_invocation as current_invocation
from eip.transports.aws.lambda_host.handler import InvocationFailed as InvocationFailed
from eip.transports.aws.lambda_host.handler import LambdaHandler as LambdaHandler
from eip.transports.aws.lambda_host.handler import OnWindow as OnWindow
from eip.transports.aws.lambda_host.handler import Response as Response
from eip.transports.aws.lambda_host.handler import Setup as Setup
from eip.transports.aws.lambda_host.handler import lambda_handler as lambda_handler

__all__ = [
    "InvocationFailed",
    "LambdaContext",
    "LambdaHandler",
    "LambdaInvocation",
    "OnWindow",
    "Response",
    "Setup",
    "TumblingWindow",
    "current_invocation",
    "lambda_handler",
]
