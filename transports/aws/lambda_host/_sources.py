"""The event sources by the name that AWS Lambda has for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from eip.transports.aws.lambda_host._dynamodb import DYNAMODB
from eip.transports.aws.lambda_host._kafka import KAFKA
from eip.transports.aws.lambda_host._kinesis import KINESIS
from eip.transports.aws.lambda_host._mq import ACTIVEMQ
from eip.transports.aws.lambda_host._rabbitmq import RABBITMQ
from eip.transports.aws.lambda_host._record import EventSource
from eip.transports.aws.lambda_host._s3 import S3
from eip.transports.aws.lambda_host._sns import SNS
from eip.transports.aws.lambda_host._sqs import SQS

__all__ = ["SOURCES"]

SOURCES: Final[Mapping[str, EventSource]] = {
    "aws:sqs": SQS,
    "aws:sns": SNS,
    "aws:kinesis": KINESIS,
    "aws:dynamodb": DYNAMODB,
    "aws:kafka": KAFKA,
    "SelfManagedKafka": KAFKA,
    "aws:mq": ACTIVEMQ,
    "aws:amq": ACTIVEMQ,
    "aws:rmq": RABBITMQ,
    "aws:s3": S3,
}
