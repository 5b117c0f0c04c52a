"""Event source mappings, declared as values: from where Lambda brings messages to a function, and how.

Source: API reference of AWS Lambda, CreateEventSourceMapping; Developer Guide, "Event source mappings", 2026.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final, Literal, TypeAlias

from typing_extensions import override

from eip._checks import check_integer, check_name, check_one_of, check_type
from eip.errors import ConfigurationError
from eip.matching import EventPattern, FilterPolicy, push_down
from eip.topology import DriverResource
from eip.topology.names import is_fifo
from eip.transports.aws.lambda_functions._ranges import check_number, check_span
from eip.transports.aws.lambda_functions.functions import FunctionSpec
from eip.transports.aws.lambda_functions.kinds import KINDS, RETRIES, SourceKind

__all__ = ["EventSourceMappingSpec", "StartingPosition", "mapping_name"]

StartingPosition: TypeAlias = Literal["oldest", "newest"] | datetime


_MAX_BATCH: Final = 10_000
_MAX_FIFO_BATCH: Final = 10
_MAX_UNGATHERED: Final = 10
"""Messages of a queue that a batch may have without a window."""
_MAX_WINDOW: Final = timedelta(minutes=5)
_MAX_TUMBLING: Final = timedelta(minutes=15)
_CONCURRENCY: Final = (2, 1000)
_MAX_POLLERS: Final = 2000
_MAX_MIN_POLLERS: Final = 200
_MAX_PARALLELIZATION: Final = 10
_MAX_ATTEMPTS: Final = 10_000
_AGE: Final = (timedelta(minutes=1), timedelta(days=7))
_MAX_PATTERNS: Final = 10
"""Patterns of a mapping; five unless the account has a higher quota."""
_MAX_PATTERN_CHARACTERS: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSourceMappingSpec(DriverResource):
    """Lambda calls a function with the messages of exactly one queue, stream, table's stream, broker or cluster.

    What is not given is as Lambda has it; a mapping is compared as a whole. Its function and its source must exist, and
    it is known by these two (and by the broker's queue or the Kafka topic).

    Args:
        function: name or ARN, which may end in a version or an alias.
        queue: name or ARN of a queue on SQS. Its visibility must be longer than the function's timeout.
        stream: name or ARN of a stream on Kinesis, or the ARN of a consumer of it (enhanced fan-out).
        table_stream: ARN of a DynamoDB table's stream.
        broker: ARN of a broker of Amazon MQ, ActiveMQ or RabbitMQ, with ``destination`` and ``secret``.
        cluster: ARN of an MSK cluster, with ``kafka_topic``.
        destination: the broker's queue.
        virtual_host: of RabbitMQ; default: ``/``.
        kafka_topic: of the cluster.
        consumer_group: of the cluster; default: one of Lambda's making.
        secret: ARN of the secret with user and password: of a broker (required), or of a cluster (SASL/SCRAM).
        batch_size: messages of an invocation, 1 to 10,000; of a FIFO queue up to 10.
        batch_window: how long a batch may gather, up to 5 minutes; default: as Lambda has it.
        filter: what the function gets; the rest counts as done. It must be one that Lambda decides exactly the same.
        patterns: Lambda's own patterns instead, of which one must match, for a table's stream.
        partial_responses: whether the function reports single failures, as `lambda_handler` does; default: wherever it
            does (queues, streams, tables' streams).
        max_concurrency: instances of the function at once, 2 to 1,000. Queues only.
        pollers: least and most pollers of the provisioned mode. Queues and clusters only.
        metrics: whether Lambda counts events at each step (EventCount), at extra cost.
        starting_position: of a new mapping: ``"oldest"``, ``"newest"`` or a time. Streams and clusters only.
        parallelization: batches of a shard at once, 1 to 10. Streams only.
        bisect: cut a batch that failed in two. Streams, and clusters with ``pollers``; so are the next two.
        max_attempts: retries of a batch, 0 to 10,000; None: until it succeeds or its records expire.
        max_age: of a record that is tried, 1 minute to 7 days; None: as long as the stream keeps it.
        tumbling_window: the length of time windows with a state, up to 15 minutes, in whole seconds. Streams only.
        on_failure: what gets a note of a batch that is given up: the name of a queue, or an ARN of a queue, a topic, a
            function or a bucket. Streams and clusters; a queue has its own dead-letter queue.
        enabled: whether it runs.
        tags: key and value; other tags of the mapping stay.

    Raises:
        ConfigurationError: what Lambda would refuse, or a filter that it cannot evaluate.
        InvalidPattern: ``patterns`` that are none.
    """

    kind: ClassVar[str] = "mapping"
    rank: ClassVar[int] = 20

    function: str
    queue: str | None = None
    stream: str | None = None
    table_stream: str | None = None
    broker: str | None = None
    cluster: str | None = None
    destination: str | None = None
    virtual_host: str | None = None
    kafka_topic: str | None = None
    consumer_group: str | None = None
    secret: str | None = None
    batch_size: int | None = None
    batch_window: timedelta | None = None
    filter: FilterPolicy | EventPattern | None = field(default=None, compare=False)
    patterns: Sequence[Mapping[str, Any]] = field(default=(), hash=False)
    partial_responses: bool | None = None
    max_concurrency: int | None = None
    pollers: tuple[int, int] | None = None
    metrics: bool = False
    starting_position: StartingPosition | None = None
    parallelization: int | None = None
    bisect: bool | None = None
    max_attempts: int | None = None
    max_age: timedelta | None = None
    tumbling_window: timedelta | None = None
    on_failure: str | None = None
    enabled: bool = True
    tags: Mapping[str, str] = field(default_factory=dict, hash=False)
    name: str = field(init=False)

    def __post_init__(self) -> None:
        """Validate the parameters."""
        check_name(self.function, "function")
        named = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(named) != 1:
            raise ConfigurationError(
                f"a mapping must have exactly one of {', '.join(KINDS)}, got {', '.join(named) or 'none'}"
            )
        check_name(self.source, self.source_kind)
        part = self.destination or self.kafka_topic
        object.__setattr__(self, "name", mapping_name(self.function, self.source_kind, self.source, part))
        self._check_source()
        self._check_options()
        self._check_batches()
        self._check_ranges()
        self.filter_patterns()

    @property
    def source_kind(self) -> SourceKind:
        """The kind of source."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def source(self) -> str:
        """The source's name or ARN."""
        return str(getattr(self, self.source_kind))

    @property
    def reports_failures(self) -> bool:
        """Whether Lambda reads which messages failed off the function's answer."""
        return KINDS[self.source_kind].partial if self.partial_responses is None else self.partial_responses

    @property
    def resolved_batch_size(self) -> int:
        """The batch size, or Lambda's own."""
        return self.batch_size or KINDS[self.source_kind].batch_size

    @property
    def limits_retries(self) -> bool:
        """Whether Lambda takes `RETRIES`: of streams, and of clusters in provisioned mode."""
        options = KINDS[self.source_kind].options
        return options >= RETRIES and (self.cluster is None or self.pollers is not None)

    @property
    def starts_at(self) -> StartingPosition | None:
        """Where a new mapping begins; None for a source that has no positions."""
        return self.starting_position or ("newest" if "starting_position" in KINDS[self.source_kind].options else None)

    @property
    @override
    def container(self) -> tuple[type[DriverResource], str] | None:
        return FunctionSpec, self.function

    def filter_patterns(self) -> list[str]:
        """The patterns that Lambda evaluates, as JSON."""
        given = [self._pushed()] if self.filter is not None else [json.dumps(dict(each)) for each in self.patterns]
        if len(given) > _MAX_PATTERNS:
            raise ConfigurationError(f"patterns must be at most {_MAX_PATTERNS}, got {len(given)}")
        for each in given:
            EventPattern(each)
            if len(each) > _MAX_PATTERN_CHARACTERS:
                raise ConfigurationError(
                    f"a pattern must have at most {_MAX_PATTERN_CHARACTERS:,} characters, got {len(each):,}"
                )
        return given

    def _pushed(self) -> str:
        """The filter as Lambda has it; the function gets nothing else, so it must decide exactly the same."""
        if self.patterns:
            raise ConfigurationError("filter and patterns exclude each other; give one of them")
        check_type("filter", self.filter, (FilterPolicy, EventPattern), "a FilterPolicy or an EventPattern")
        target = KINDS[self.source_kind].target
        if target is None:
            raise ConfigurationError(
                f"filter cannot be evaluated by Lambda on a {self.source_kind}, whose items it sees in their typed "
                "form; give patterns=[...]"
            )
        assert self.filter is not None
        pushed = push_down(self.filter, target)
        if pushed.pushed is None or pushed.local is not None:
            raise ConfigurationError(
                f"filter cannot be evaluated by Lambda, as {pushed.reason}; filter in the handler, or give patterns"
            )
        return pushed.pushed

    def _check_source(self) -> None:
        arns_only = ("table_stream", "broker", "cluster")
        if self.source_kind in arns_only and not self.source.startswith("arn:"):
            raise ConfigurationError(f"{self.source_kind} must be an ARN, got {self.source!r}")
        required = {"broker": ("destination", "secret"), "cluster": ("kafka_topic",)}
        for name in required.get(self.source_kind, ()):
            if getattr(self, name) is None:
                raise ConfigurationError(f"mapping {self.name}: a {self.source_kind} needs {name}")
        if self.secret is not None and not self.secret.startswith("arn:"):
            raise ConfigurationError(f"secret must be an ARN, got {self.secret!r}")

    def _check_options(self) -> None:
        of_some = frozenset[str]().union(*(kind.options for kind in KINDS.values()))
        for name in sorted(of_some - KINDS[self.source_kind].options):
            if getattr(self, name) not in (None, False):
                raise ConfigurationError(f"mapping {self.name}: a {self.source_kind} has no {name}; leave it out")
        if isinstance(self.starting_position, datetime):
            if self.starting_position.tzinfo is None:
                raise ConfigurationError(f"starting_position must have a time zone, got {self.starting_position}")
            if self.table_stream is not None:
                raise ConfigurationError("starting_position of a table_stream must be 'oldest' or 'newest'")
        elif self.starting_position is not None:
            check_one_of("starting_position", self.starting_position, ("oldest", "newest"))
        given = [each for each in sorted(RETRIES) if getattr(self, each) is not None]
        if given and not self.limits_retries:
            raise ConfigurationError(f"{given[0]} of a cluster needs pollers, which is provisioned mode")

    def _check_batches(self) -> None:
        fifo = self.queue is not None and is_fifo(self.queue)
        most = _MAX_FIFO_BATCH if fifo else _MAX_BATCH
        if self.batch_size is not None and check_integer("batch_size", self.batch_size, least=1) > most:
            raise ConfigurationError(f"batch_size must be at most {most:,}, got {self.batch_size:,}")
        window = self.batch_window or timedelta()
        check_span("batch_window", self.batch_window, timedelta(), _MAX_WINDOW)
        if fifo and window:
            raise ConfigurationError(f"batch_window must be zero for a FIFO queue, got {window}")
        if self.queue is not None and self.resolved_batch_size > _MAX_UNGATHERED and not window:
            raise ConfigurationError(
                f"batch_size above {_MAX_UNGATHERED} needs a batch_window of a second or more, got {self.batch_size}"
            )

    def _check_ranges(self) -> None:
        check_number("max_concurrency", self.max_concurrency, *_CONCURRENCY)
        check_number("parallelization", self.parallelization, 1, _MAX_PARALLELIZATION)
        check_number("max_attempts", self.max_attempts, 0, _MAX_ATTEMPTS)
        check_span("max_age", self.max_age, *_AGE)
        check_span("tumbling_window", self.tumbling_window, timedelta(), _MAX_TUMBLING)
        if self.pollers is None:
            return
        if self.max_concurrency is not None:
            raise ConfigurationError("max_concurrency and pollers exclude each other; give one of them")
        least, most = self.pollers
        check_number("pollers[0]", least, 1, _MAX_MIN_POLLERS)
        check_number("pollers[1]", most, least, _MAX_POLLERS)


def mapping_name(function: str, kind: str, source: str, part: str | None) -> str:
    """What a mapping is known by."""
    return f"{function} < {kind} {source}{f' {part}' if part else ''}"
