"""A mapping's settings as the service has them: for the API, for CloudFormation, and for comparison."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from eip.codec import dump_json
from eip.transports.aws.lambda_functions.kinds import KINDS
from eip.transports.aws.lambda_functions.mappings import EventSourceMappingSpec

__all__ = ["comparable", "creation", "settings"]

_DEFAULTS: Final[Mapping[str, Any]] = {
    "BisectBatchOnFunctionError": False,
    "MaximumRecordAgeInSeconds": -1,
    "MaximumRetryAttempts": -1,
    "ParallelizationFactor": 1,
    "TumblingWindowInSeconds": 0,
    "FunctionResponseTypes": [],
    "SourceAccessConfigurations": [],
    "FilterCriteria": {},
    "ScalingConfig": {},
    "ProvisionedPollerConfig": {},
    "MetricsConfig": {},
    "DestinationConfig": {},
}
"""What a setting is where the service does not name it."""
_POSITIONS: Final = {"oldest": "TRIM_HORIZON", "newest": "LATEST"}


def settings(mapping: EventSourceMappingSpec, *, destination: Callable[[str], Any]) -> dict[str, Any]:
    """The settings that can be changed, by the service's names.

    Args:
        mapping: as declared.
        destination: what a name or ARN of ``on_failure`` is written as.
    """
    patterns, options = mapping.filter_patterns(), KINDS[mapping.source_kind].options
    made: dict[str, Any] = {
        "BatchSize": mapping.resolved_batch_size,
        "FilterCriteria": {"Filters": [{"Pattern": each} for each in patterns]} if patterns else {},
        "MetricsConfig": {"Metrics": ["EventCount"] if mapping.metrics else []},
        "Enabled": mapping.enabled,
    }
    if mapping.batch_window is not None:
        made["MaximumBatchingWindowInSeconds"] = _seconds(mapping.batch_window)
    if "partial_responses" in options:
        made["FunctionResponseTypes"] = ["ReportBatchItemFailures"] if mapping.reports_failures else []
    if "max_concurrency" in options:
        most = mapping.max_concurrency
        made["ScalingConfig"] = {} if most is None else {"MaximumConcurrency": most}
    if "pollers" in options:
        made["ProvisionedPollerConfig"] = _pollers(mapping.pollers)
    if "on_failure" in options:
        kept = mapping.on_failure
        made["DestinationConfig"] = {"OnFailure": {} if kept is None else {"Destination": destination(kept)}}
    if mapping.secret is not None:
        kind = "BASIC_AUTH" if mapping.broker is not None else "SASL_SCRAM_512_AUTH"
        made["SourceAccessConfigurations"] = [{"Type": kind, "URI": mapping.secret}]
    if mapping.virtual_host is not None:
        made["SourceAccessConfigurations"].append({"Type": "VIRTUAL_HOST", "URI": mapping.virtual_host})
    if "parallelization" in options:
        made["ParallelizationFactor"] = mapping.parallelization or 1
        made["TumblingWindowInSeconds"] = _seconds(mapping.tumbling_window or timedelta())
    if mapping.limits_retries:
        made |= _retries(mapping)
    return made


def _retries(mapping: EventSourceMappingSpec) -> dict[str, Any]:
    return {
        "BisectBatchOnFunctionError": mapping.bisect is True,
        "MaximumRecordAgeInSeconds": -1 if mapping.max_age is None else _seconds(mapping.max_age),
        "MaximumRetryAttempts": -1 if mapping.max_attempts is None else mapping.max_attempts,
    }


def _pollers(pollers: tuple[int, int] | None) -> dict[str, int]:
    return {} if pollers is None else {"MinimumPollers": pollers[0], "MaximumPollers": pollers[1]}


def _seconds(span: timedelta) -> int:
    return round(span.total_seconds())


def creation(mapping: EventSourceMappingSpec) -> dict[str, Any]:
    """What a mapping is given once, at its creation, besides function, source and tags."""
    made: dict[str, Any] = {}
    start = mapping.starts_at
    if isinstance(start, datetime):
        made |= {"StartingPosition": "AT_TIMESTAMP", "StartingPositionTimestamp": start.timestamp()}
    elif start is not None:
        made["StartingPosition"] = _POSITIONS[start]
    if mapping.destination is not None:
        made["Queues"] = [mapping.destination]
    if mapping.kafka_topic is not None:
        made["Topics"] = [mapping.kafka_topic]
    if mapping.consumer_group is not None:
        made["AmazonManagedKafkaEventSourceConfig"] = {"ConsumerGroupId": mapping.consumer_group}
    return made


def comparable(found: Mapping[str, Any]) -> dict[str, str]:
    """Settings, declared or found, as texts that are equal where the settings mean the same."""
    texts: dict[str, str] = {}
    for name, value in found.items():
        plain = _plain(name, value)
        if plain not in (_DEFAULTS.get(name), None, {}, []):
            texts[name] = plain if isinstance(plain, str) else dump_json(plain).decode()
    return texts


def _plain(name: str, value: Any) -> Any:
    """A setting without what means nothing: the service leaves out, or adds, empty objects and other keys."""
    match name, value:
        case "FilterCriteria", {"Filters": list(filters)}:
            return sorted(str(each.get("Pattern")) for each in filters)
        case "MetricsConfig", {"Metrics": metrics}:
            return metrics
        case "DestinationConfig", {"OnFailure": {"Destination": destination}}:
            return destination
        case "DestinationConfig", _:
            return None
        case "SourceAccessConfigurations", list(found):
            return sorted(f"{each['Type']} {each['URI']}" for each in found)
    return value
