"""What only Amazon's services know of a declared channel: encryption, permissions, logging, throughput.

    QueueSpec("orders", tags={"team": "shop"}, options=[SqsOptions(encryption="alias/shop")])

Encryption with a key of yours needs more than its name: the key's policy must let each service that sends to the
channel use it (``kms:GenerateDataKey``, ``kms:Decrypt`` for ``sns.amazonaws.com``, ``events.amazonaws.com``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Literal, TypeAlias, TypeVar

from eip._checks import check_integer, check_one_of
from eip.errors import ConfigurationError
from eip.topology import DriverOptions

__all__ = [
    "DISTRIBUTIONS",
    "SHARD_METRICS",
    "DeliveryLogging",
    "Endpoint",
    "KinesisOptions",
    "ShardMetric",
    "SnsOptions",
    "SqsOptions",
    "option_of",
]

_O = TypeVar("_O", bound=DriverOptions)

_KEY_REUSE: Final = (timedelta(minutes=1), timedelta(hours=24))
_MAX_SOURCES: Final = 10
"""Queues that a RedriveAllowPolicy names (SQS, CreateQueue)."""
_PERCENT: Final = 100

DISTRIBUTIONS: Final = {"key": "USER_PARTITION_KEY", "auto": "AUTO"}
"""How a stream on demand distributes its records, by our words, as Kinesis names it."""

Endpoint: TypeAlias = Literal["SQS", "HTTP", "Lambda", "Firehose", "Application"]
"""Kinds of endpoints, as SNS names them in its attributes."""
_ENDPOINTS: Final = ("SQS", "HTTP", "Lambda", "Firehose", "Application")

ShardMetric: TypeAlias = Literal[
    "IncomingBytes",
    "IncomingRecords",
    "OutgoingBytes",
    "OutgoingRecords",
    "WriteProvisionedThroughputExceeded",
    "ReadProvisionedThroughputExceeded",
    "IteratorAgeMilliseconds",
    "ALL",
]
"""What Kinesis measures of each shard."""
SHARD_METRICS: Final[tuple[ShardMetric, ...]] = (
    "IncomingBytes",
    "IncomingRecords",
    "OutgoingBytes",
    "OutgoingRecords",
    "WriteProvisionedThroughputExceeded",
    "ReadProvisionedThroughputExceeded",
    "IteratorAgeMilliseconds",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SqsOptions(DriverOptions):
    """Of a queue on SQS.

    Args:
        encryption: ``"sqs"``: with keys of SQS; otherwise a KMS key: its id, ARN or ``alias/...``. Default: as it is;
            SQS encrypts new queues with its own keys.
        key_reuse: how long SQS uses a data key before it asks KMS again, 1 minute to 24 hours.
        redrive_from: which queues may have this one as their dead-letter queue: ``"all"``, ``"none"``, or up to 10
            names or ARNs. Default: as it is.

    Raises:
        ConfigurationError: a value out of range.
    """

    encryption: str | None = None
    key_reuse: timedelta = timedelta(minutes=5)
    redrive_from: Literal["all", "none"] | Sequence[str] | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        """Validate the parameters."""
        _check_key(self.encryption)
        shortest, longest = _KEY_REUSE
        if not shortest <= self.key_reuse <= longest:
            raise ConfigurationError(f"key_reuse must be 1 minute to 24 hours, got {self.key_reuse}")
        if isinstance(self.redrive_from, str):
            check_one_of("redrive_from", self.redrive_from, ("all", "none"))
        elif self.redrive_from is not None and not 0 < len(self.redrive_from) <= _MAX_SOURCES:
            raise ConfigurationError(
                f"redrive_from must name 1 to {_MAX_SOURCES} queues, or be 'all' or 'none', got {self.redrive_from!r}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryLogging:
    """What a topic writes to CloudWatch Logs about its deliveries to endpoints of one kind.

    Args:
        endpoint: ``"SQS"``, ``"HTTP"``, ``"Lambda"``, ``"Firehose"`` or ``"Application"``.
        role: ARN of the role with which SNS writes failures, and successes where ``success_rate`` is not 0.
        success_rate: percentage of the successful deliveries, 0 to 100; failed ones are all logged.

    Raises:
        ConfigurationError: a value out of range.
    """

    endpoint: Endpoint
    role: str
    success_rate: int = 0

    def __post_init__(self) -> None:
        """Validate the parameters."""
        check_one_of("endpoint", self.endpoint, _ENDPOINTS)
        if not 0 <= self.success_rate <= _PERCENT:
            raise ConfigurationError(f"success_rate must be 0 to 100 percent, got {self.success_rate}")
        if not self.role.startswith("arn:"):
            raise ConfigurationError(f"role must be the ARN of a role, got {self.role!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SnsOptions(DriverOptions):
    """Of a topic on SNS; what is not given stays as it is.

    Args:
        encryption: a KMS key: its id, ARN or ``alias/...``; ``""``: none.
        signature_version: of what HTTP endpoints get: 1 (SHA-1) or 2 (SHA-256).
        tracing: whether SNS sends segments to X-Ray by itself. Standard topics only.
        archive: how long a FIFO topic archives its messages for replays, 1 to 365 whole days; zero: not.
        logging: one `DeliveryLogging` for each kind of endpoint.

    Raises:
        ConfigurationError: a value out of range.
    """

    encryption: str | None = None
    signature_version: Literal[1, 2] | None = None
    tracing: bool | None = None
    archive: timedelta | None = None
    logging: Sequence[DeliveryLogging] = field(default=(), hash=False)

    def __post_init__(self) -> None:
        """Validate the parameters."""
        if self.encryption != "":
            _check_key(self.encryption)
        check_one_of("signature_version", self.signature_version, (None, 1, 2))
        if self.archive is not None and (
            not timedelta() <= self.archive <= timedelta(days=365) or self.archive % timedelta(days=1)
        ):
            raise ConfigurationError(f"archive must be 0 to 365 whole days, got {self.archive}")
        kinds = [each.endpoint for each in self.logging]
        if len(set(kinds)) != len(kinds):
            raise ConfigurationError(f"logging must have each kind of endpoint once, got {', '.join(kinds)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class KinesisOptions(DriverOptions):
    """Of a stream on Kinesis; what is not given stays as it is.

    Args:
        encryption: a KMS key: its id, ARN or ``alias/...`` (``alias/aws/kinesis``: Amazon's own); ``""``: none.
        shard_metrics: metrics of each shard in CloudWatch, which cost extra: names of them, ``["ALL"]``, or ``[]``.
        max_record_bytes: of the largest record, 1 to 10 MiB in whole KiB.
        warm_throughput: MiB a second that a stream on demand takes without growing first; 0: as its traffic was. Needs
            the account's MinimumThroughputBillingCommitment.
        distribution: of records over the shards of a stream on demand: ``"key"``: by partition key; ``"auto"``: evenly,
            so that no message group keeps its order.

    Raises:
        ConfigurationError: a value out of range.
    """

    encryption: str | None = None
    shard_metrics: Sequence[ShardMetric] | None = field(default=None, hash=False)
    max_record_bytes: int | None = None
    warm_throughput: int | None = None
    distribution: Literal["key", "auto"] | None = None

    def __post_init__(self) -> None:
        """Validate the parameters."""
        if self.encryption != "":
            _check_key(self.encryption)
        for each in self.shard_metrics or ():
            check_one_of("shard_metrics", each, (*SHARD_METRICS, "ALL"))
        size = self.max_record_bytes
        if size is not None and (not 2**20 <= size <= 10 * 2**20 or size % 1024):
            raise ConfigurationError(f"max_record_bytes must be 1 to 10 MiB, in whole KiB, got {size}")
        if self.warm_throughput is not None:
            check_integer("warm_throughput", self.warm_throughput, least=0)
        check_one_of("distribution", self.distribution, (None, *DISTRIBUTIONS))


def option_of(options: Sequence[DriverOptions], kind: type[_O]) -> _O | None:
    """The options of one kind; raises `ConfigurationError` where there are several."""
    found = [each for each in options if isinstance(each, kind)]
    if len(found) > 1:
        raise ConfigurationError(f"options must have one {kind.__name__} at most, got {len(found)}")
    return found[0] if found else None


def _check_key(key: str | None) -> None:
    if key == "":
        raise ConfigurationError("encryption must be 'sqs' or a KMS key: an id, an ARN or 'alias/...', got ''")
