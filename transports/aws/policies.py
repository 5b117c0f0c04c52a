"""Least-privilege policies: what a process that uses and consumes channels calls, on exactly these.

    json.dumps(policy(topology, consumes=["queue:orders"], uses=["topic:quotes"], account="1234…", region="eu-west-1"))

Tests record the calls of a run and compare them with these. Source: Service Authorization Reference, 2026.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast, get_args

from eip._checks import check_type
from eip.errors import ConfigurationError
from eip.topology import QueueSpec, Topology
from eip.topology.names import is_fifo
from eip.transports.aws.arns import Arns, Kind

__all__ = ["ArnOf", "ResourceKind", "Used", "policy", "statement", "used", "using"]

ResourceKind: TypeAlias = Literal["queue", "topic", "bus", "stream", "table", "bucket"]
ArnOf: TypeAlias = Callable[[str, str], Any]
"""Makes the ARN of a kind and name, or what stands for it in a template."""

_SENDING: Final[Mapping[ResourceKind, tuple[str, ...]]] = {
    "queue": ("sqs:GetQueueUrl", "sqs:SendMessage"),
    "topic": ("sns:Publish",),
    "bus": ("events:PutEvents",),
    "stream": ("kinesis:DescribeStreamSummary", "kinesis:PutRecords"),
    "table": (
        *("dynamodb:BatchWriteItem", "dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query"),
    ),
    "bucket": ("s3:GetObject", "s3:PutObject"),
}
_READING_FIFO: Final[Mapping[ResourceKind, str]] = {
    "queue": "sqs:GetQueueAttributes",
    "topic": "sns:GetTopicAttributes",
}
_CONSUMING: Final[Mapping[ResourceKind, tuple[str, ...]]] = {
    "queue": (
        *("sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:GetQueueUrl"),
        "sqs:ReceiveMessage",
    ),
    "stream": ("kinesis:GetRecords", "kinesis:GetShardIterator", "kinesis:ListShards"),
}


class Used(NamedTuple):
    """Something that a program uses."""

    kind: ResourceKind
    name: str
    """Or ARN."""


def used(text: str, parameter: str = "uses") -> Used:
    """Read ``kind:name``; raises `ConfigurationError` for anything else."""
    kind, colon, name = check_type(parameter, text, str, "a list of strings").partition(":")
    kinds = get_args(ResourceKind)
    if kind not in kinds or not colon or not name:
        raise ConfigurationError(f"{parameter} must be kind:name, with a kind of {', '.join(kinds)}, got {text[:80]!r}")
    return Used(cast("ResourceKind", kind), name)


def using(resource: Used, arn: ArnOf, actions: Sequence[str] | None = None) -> dict[str, Any]:
    """The statement that lets a program use a resource.

    Args:
        resource: a channel to send to, a `DynamoStore`'s table, an `S3Objects`' bucket.
        arn: makes its ARN.
        actions: default: those that sending, or the store, takes.
    """
    allowed, found = _sending(resource) if actions is None else actions, arn(resource.kind, resource.name)
    match resource.kind:
        case "bucket":
            return statement(allowed, [_inside(found, "/*")])
        case "table" if "dynamodb:Query" in allowed:
            return statement(allowed, [found, _inside(found, "/index/*")])
        case _:
            return statement(allowed, [found])


def _sending(resource: Used) -> Sequence[str]:
    """What sending takes; of a FIFO channel its attributes are read, to know whether it deduplicates by content."""
    reading = _READING_FIFO.get(resource.kind)
    own = (reading,) if reading is not None and is_fifo(resource.name) else ()
    return sorted((*_SENDING[resource.kind], *own))


def _inside(arn: Any, rest: str) -> Any:
    """An ARN, or what makes it in a template, with more behind it."""
    match arn:
        case str():
            return arn + rest
        case {"Fn::Sub": str(text)}:
            return {"Fn::Sub": text + rest}
        case _:
            return {"Fn::Join": ["", [arn, rest]]}


def statement(actions: Iterable[str], resources: list[Any]) -> dict[str, Any]:
    """A statement that allows actions on resources."""
    return {"Effect": "Allow", "Action": list(actions), "Resource": resources}


def policy(
    topology: Topology | None = None,
    *,
    account: str,
    region: str,
    partition: str = "aws",
    uses: Sequence[str] = (),
    consumes: Sequence[str] = (),
) -> dict[str, Any]:
    """The policy of a process.

    Args:
        topology: what is declared; a consumer of a declared queue may also send to its dead-letter queue.
        account: 12 digits.
        region: e.g. ``eu-central-1``.
        partition: ``aws``, ``aws-cn``, ...
        uses: what it sends to or stores in, as of `FunctionSpec`: ``"topic:quotes"``, ``"table:jobs"``.
        consumes: queues and streams that it reads: ``"queue:orders"``, ``"stream:clicks"``; a subscription is
            its queue. A group of a stream keeps its leases in a store, which it uses.

    Raises:
        ConfigurationError: a text that is not ``kind:name``, or a kind that cannot be consumed.
    """
    arns = Arns(partition, region, account)
    read = [used(each, "consumes") for each in consumes]
    sent = [used(each) for each in uses] + [Used("queue", each) for each in _dead_letters(topology, read)]
    made = [statement(_consuming(each), [_arn(arns, each.kind, each.name)]) for each in dict.fromkeys(read)]
    made += [using(each, lambda kind, name: _arn(arns, kind, name)) for each in dict.fromkeys(sent)]
    return {"Version": "2012-10-17", "Statement": made}


def _consuming(resource: Used) -> tuple[str, ...]:
    found = _CONSUMING.get(resource.kind)
    if found is None:
        raise ConfigurationError(f"consumes must be of {' and '.join(_CONSUMING)}, got {resource.kind}:{resource.name}")
    return found


def _dead_letters(topology: Topology | None, read: Sequence[Used]) -> list[str]:
    names = {each.name for each in read if each.kind == "queue"}
    declared = () if topology is None else topology.resources
    return [
        each.dead_letter_name
        for each in declared
        if isinstance(each, QueueSpec) and each.name in names and each.dead_letter_name is not None
    ]


def _arn(arns: Arns, kind: str, name: str) -> str:
    if name.startswith("arn:"):
        return name
    if kind == "table":
        return f"arn:{arns.partition}:dynamodb:{arns.region}:{arns.account}:table/{name}"
    return f"arn:{arns.partition}:s3:::{name}" if kind == "bucket" else arns.of(cast("Kind", kind), name)
