"""What a function's role may do: exactly what its handler's channels and stores call, and what its mappings read.

A test records the calls of a run and compares them with these. Sources: AWS Lambda Developer Guide, the permissions of
each event source; Service Authorization Reference, 2026.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

from eip.transports.aws.lambda_functions.functions import FunctionSpec
from eip.transports.aws.lambda_functions.kinds import SourceKind
from eip.transports.aws.lambda_functions.mappings import EventSourceMappingSpec
from eip.transports.aws.policies import ArnOf, statement, using

__all__ = ["TRUST", "Statements", "statements"]

Statements: TypeAlias = list[dict[str, Any]]

_READING: Final[Mapping[SourceKind, tuple[str, ...]]] = {
    "queue": ("sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"),
    "stream": (
        *("kinesis:DescribeStream", "kinesis:DescribeStreamSummary", "kinesis:GetRecords", "kinesis:GetShardIterator"),
        *("kinesis:ListShards",),
    ),
    "table_stream": ("dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"),
    "broker": ("mq:DescribeBroker",),
    "cluster": ("kafka:DescribeCluster", "kafka:DescribeClusterV2", "kafka:GetBootstrapBrokers"),
}
_NETWORK: Final = (
    *("ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface", "ec2:DescribeNetworkInterfaces"),
    *("ec2:DescribeSecurityGroups", "ec2:DescribeSubnets", "ec2:DescribeVpcs"),
)
"""Of brokers and clusters, which are in a network of their own; these actions take no resource."""
_FAN_OUT: Final = ("kinesis:DescribeStreamConsumer", "kinesis:SubscribeToShard")

TRUST: Final[Mapping[str, Any]] = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"},
    ],
}
"""Who assumes a function's role."""


def statements(function: FunctionSpec, mappings: Iterable[EventSourceMappingSpec], arn: ArnOf) -> Statements:
    """The statements of the function's role.

    Args:
        function: as declared.
        mappings: all that are declared; those of other functions do not count.
        arn: makes the ARN of a kind and name: a channel's, ``"table"``, ``"bucket"``, ``"logs"``; ARNs are given as
            they are.
    """
    made = [statement(("logs:CreateLogStream", "logs:PutLogEvents"), [arn("logs", function.name)])]
    made += [using(each, arn) for each in dict.fromkeys(function.used())]
    for resource, actions in function.allowed():
        made.append(statement(actions, [resource]) if isinstance(resource, str) else using(resource, arn, actions))
    for mapping in mappings:
        if mapping.function == function.name:
            made += _of_mapping(mapping, arn)
    return made


def _of_mapping(mapping: EventSourceMappingSpec, arn: ArnOf) -> Statements:
    """What Lambda's pollers do with the function's role."""
    kind, source = mapping.source_kind, mapping.source
    if kind == "stream" and "/consumer/" in source:
        stream = source.partition("/consumer/")[0]
        made = [statement(_READING[kind], [stream]), statement(_FAN_OUT, [source])]
    else:
        made = [statement(_READING[kind], [arn(kind, source)])]
    if kind in ("broker", "cluster"):
        made.append(statement(_NETWORK, ["*"]))
    if mapping.secret is not None:
        made.append(statement(("secretsmanager:GetSecretValue",), [mapping.secret]))
    if mapping.on_failure is not None:
        made.append(statement(_noting(mapping.on_failure), [arn("queue", mapping.on_failure)]))
    return made


def _noting(destination: str) -> tuple[str, ...]:
    """What it takes to note a batch that was given up."""
    service = destination.split(":")[2] if destination.startswith("arn:") else "sqs"
    return {
        "sns": ("sns:Publish",),
        "s3": ("s3:ListBucket", "s3:PutObject"),
        "lambda": ("lambda:InvokeFunction",),
    }.get(service, ("sqs:SendMessage",))
