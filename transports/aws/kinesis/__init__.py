"""Amazon Kinesis Data Streams; see `KinesisStream`."""

from eip.transports.aws.kinesis.rates import ReadRate as ReadRate
from eip.transports.aws.kinesis.stream import KinesisStream as KinesisStream

__all__ = ["KinesisStream", "ReadRate"]
