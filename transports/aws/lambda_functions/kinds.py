"""The kinds of event sources that Lambda polls, and which options each has.

Source: API reference of AWS Lambda, CreateEventSourceMapping; Developer Guide, the parameters of each source, 2026.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

from eip.matching.pushdown import Target

__all__ = ["KINDS", "RETRIES", "SERVICES", "Kind", "SourceKind"]

SourceKind: TypeAlias = Literal["queue", "stream", "table_stream", "broker", "cluster"]


class Kind(NamedTuple):
    """What one kind of source allows."""

    batch_size: int
    """Lambda's own, where none is given."""
    target: Target | None
    """Of filters; None: Lambda's patterns see another form of the messages than filters do."""
    options: frozenset[str]
    """The options that it has besides those of all sources."""
    partial: bool = False


RETRIES: Final = frozenset(("bisect", "max_attempts", "max_age"))
"""Options of streams, and of clusters in provisioned mode."""
_STREAMS: Final = RETRIES | frozenset(
    ("starting_position", "parallelization", "tumbling_window", "on_failure", "partial_responses")
)
KINDS: Final[Mapping[SourceKind, Kind]] = {
    "queue": Kind(10, "lambda-sqs", frozenset(("max_concurrency", "pollers", "partial_responses")), partial=True),
    "stream": Kind(100, "lambda-kinesis", _STREAMS, partial=True),
    "table_stream": Kind(100, None, _STREAMS, partial=True),
    "broker": Kind(100, "lambda-mq", frozenset(("destination", "secret", "virtual_host"))),
    "cluster": Kind(
        *(100, "lambda-kafka"),
        frozenset(("kafka_topic", "consumer_group", "starting_position", "pollers", "secret", "on_failure")) | RETRIES,
    ),
}
SERVICES: Final[Mapping[str, SourceKind]] = {
    "sqs": "queue",
    "kinesis": "stream",
    "dynamodb": "table_stream",
    "mq": "broker",
    "kafka": "cluster",
}
"""The kind of source by the service of its ARN."""
