"""A topology as a CloudFormation template, for those who deploy that way.

    json.dumps(template(topology), indent=2)

Sources: "AWS resource and property types reference" (CloudFormation User Guide), SQS, SNS, EventBridge and Kinesis.
"""

from __future__ import annotations

from typing import Any, Final, assert_never

from eip.topology import (
    ArchiveSpec,
    BusSpec,
    DriverResource,
    QueueSpec,
    Resource,
    RuleSpec,
    StreamSpec,
    SubscriptionSpec,
    TopicSpec,
    Topology,
)
from eip.topology.names import is_fifo
from eip.transports.aws._template import Template, arn, tags
from eip.transports.aws._template_buses import add_api_destination, add_archive, add_bus, add_connection, add_rule
from eip.transports.aws._template_functions import Functions
from eip.transports.aws._template_schedules import add_group, add_schedule
from eip.transports.aws._template_subscriptions import add_endpoint, add_subscription
from eip.transports.aws.api_destinations import ApiDestinationSpec, ConnectionSpec
from eip.transports.aws.endpoint_subscriptions import EndpointSubscriptionSpec
from eip.transports.aws.lambda_functions.functions import FunctionSpec
from eip.transports.aws.lambda_functions.mappings import EventSourceMappingSpec
from eip.transports.aws.options import DISTRIBUTIONS, DeliveryLogging, KinesisOptions, SnsOptions, SqsOptions, option_of
from eip.transports.aws.schedules import ScheduleGroupSpec, ScheduleSpec

__all__ = ["template"]

_VERSION: Final = "2010-09-09"
_SAM: Final = "AWS::Serverless-2016-10-31"
_PROTOCOLS: Final = {
    "SQS": "sqs",
    "HTTP": "http/s",
    "Lambda": "lambda",
    "Firehose": "firehose",
    "Application": "application",
}
_KEPT: Final = {"DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain"}
"""As with `Topology.apply`: resources that hold messages are not deleted with the stack."""


def template(topology: Topology, *, sam: bool = False) -> dict[str, Any]:
    """Return the template: all resources under their names, their policies and roles.

    Queues, streams and archives outlive the stack. The secrets of connections are parameters of the stack, and so is
    where the functions' code lies. The values are plain, so `json.dumps` writes them.

    Args:
        topology: what is declared.
        sam: a template for AWS SAM, which brings the functions' code itself.
    """
    made = Template()
    functions = Functions(made, topology.resources, sam=sam)
    for resource in topology.resources:
        _add(made, functions, resource)
    made.add_policies()
    transform = {"Transform": _SAM} if sam else {}
    parameters = {"Parameters": made.parameters} if made.parameters else {}
    return {"AWSTemplateFormatVersion": _VERSION, **transform, **parameters, "Resources": made.resources}


def _add(made: Template, functions: Functions, resource: Resource) -> None:
    match resource:
        case QueueSpec():
            _queue(made, resource)
        case TopicSpec():
            _topic(made, resource)
        case SubscriptionSpec():
            add_subscription(made, resource)
        case StreamSpec():
            _stream(made, resource)
        case BusSpec():
            add_bus(made, resource)
        case RuleSpec():
            add_rule(made, resource)
        case ArchiveSpec():
            add_archive(made, resource, _KEPT)
        case DriverResource():
            _add_own(made, functions, resource)
        case _:
            assert_never(resource)


def _add_own(made: Template, functions: Functions, resource: DriverResource) -> None:
    """Add the resources that only this driver knows; those of other drivers are not in the template."""
    match resource:
        case ConnectionSpec():
            add_connection(made, resource)
        case ApiDestinationSpec():
            add_api_destination(made, resource)
        case FunctionSpec():
            functions.add(resource)
        case EventSourceMappingSpec():
            functions.add_mapping(resource)
        case EndpointSubscriptionSpec():
            add_endpoint(made, resource)
        case ScheduleGroupSpec():
            add_group(made, resource)
        case ScheduleSpec():
            add_schedule(made, resource)
        case _:
            return


def _queue(made: Template, queue: QueueSpec) -> None:
    properties: dict[str, Any] = {
        "QueueName": queue.name,
        "VisibilityTimeout": round(queue.visibility),
        "MessageRetentionPeriod": round(queue.retention.total_seconds()),
    }
    if queue.dead_letter_name is not None:
        properties["RedrivePolicy"] = {
            "deadLetterTargetArn": made.arn("Queue", queue.dead_letter_name),
            "maxReceiveCount": queue.max_receive_count,
        }
    if queue.fifo:
        properties |= {"FifoQueue": True, "ContentBasedDeduplication": queue.content_based_deduplication}
        if queue.deduplication_scope == "group":
            properties |= {"DeduplicationScope": "messageGroup", "FifoThroughputLimit": "perMessageGroupId"}
    if queue.max_message_bytes is not None:
        properties["MaximumMessageSize"] = queue.max_message_bytes
    properties |= tags(queue.tags) | _options_of_queue(option_of(queue.options, SqsOptions))
    made.put("Queue", queue.name, "AWS::SQS::Queue", properties, **_KEPT)


def _options_of_queue(options: SqsOptions | None) -> dict[str, Any]:
    if options is None:
        return {}
    properties: dict[str, Any] = {}
    if options.encryption == "sqs":
        properties["SqsManagedSseEnabled"] = True
    elif options.encryption is not None:
        reuse = round(options.key_reuse.total_seconds())
        properties |= {"KmsMasterKeyId": options.encryption, "KmsDataKeyReusePeriodSeconds": reuse}
    if isinstance(options.redrive_from, str):
        permission = "allowAll" if options.redrive_from == "all" else "denyAll"
        properties["RedriveAllowPolicy"] = {"redrivePermission": permission}
    elif options.redrive_from is not None:
        sources = [_queue_arn(each) for each in options.redrive_from]
        properties["RedriveAllowPolicy"] = {"redrivePermission": "byQueue", "sourceQueueArns": sources}
    return properties


def _topic(made: Template, topic: TopicSpec) -> None:
    properties: dict[str, Any] = {"TopicName": topic.name}
    if is_fifo(topic.name):
        properties |= {"FifoTopic": True, "ContentBasedDeduplication": topic.content_based_deduplication}
        if topic.deduplication_scope == "group":
            properties["FifoThroughputScope"] = "MessageGroup"
    properties |= tags(topic.tags) | _options_of_topic(option_of(topic.options, SnsOptions))
    made.put("Topic", topic.name, "AWS::SNS::Topic", properties)


def _stream(made: Template, stream: StreamSpec) -> None:
    properties: dict[str, Any] = {
        "Name": stream.name,
        "RetentionPeriodHours": round(stream.retention.total_seconds() / 3600),
        "StreamModeDetails": {"StreamMode": "ON_DEMAND" if stream.shards is None else "PROVISIONED"},
    }
    if stream.shards is not None:
        properties["ShardCount"] = stream.shards
    properties |= tags(stream.tags) | _options_of_stream(option_of(stream.options, KinesisOptions))
    made.put("Stream", stream.name, "AWS::Kinesis::Stream", properties, **_KEPT)


def _queue_arn(name: str) -> Any:
    """By name, not by reference: the queue refers to its dead-letter queue already."""
    if name.startswith("arn:"):
        return name
    return arn("sqs", name)


def _options_of_topic(options: SnsOptions | None) -> dict[str, Any]:
    if options is None:
        return {}
    properties: dict[str, Any] = {
        "KmsMasterKeyId": options.encryption or None,
        "SignatureVersion": None if options.signature_version is None else str(options.signature_version),
        "TracingConfig": None if options.tracing is None else ("PassThrough", "Active")[options.tracing],
        "ArchivePolicy": {"MessageRetentionPeriod": options.archive.days} if options.archive else None,
        "DeliveryStatusLogging": [_logging(each) for each in options.logging] or None,
    }
    return {name: value for name, value in properties.items() if value is not None}


def _logging(logging: DeliveryLogging) -> dict[str, Any]:
    made = {"Protocol": _PROTOCOLS[logging.endpoint], "FailureFeedbackRoleArn": logging.role}
    if logging.success_rate:
        made |= {"SuccessFeedbackRoleArn": logging.role, "SuccessFeedbackSampleRate": str(logging.success_rate)}
    return made


def _options_of_stream(options: KinesisOptions | None) -> dict[str, Any]:
    if options is None:
        return {}
    properties: dict[str, Any] = {}
    if options.encryption:
        properties["StreamEncryption"] = {"EncryptionType": "KMS", "KeyId": options.encryption}
    if options.shard_metrics:
        properties["DesiredShardLevelMetrics"] = list(options.shard_metrics)
    if options.max_record_bytes is not None:
        properties["MaxRecordSizeInKiB"] = options.max_record_bytes // 1024
    if options.warm_throughput is not None:
        properties["WarmThroughputMiBps"] = options.warm_throughput
    if options.distribution is not None:
        properties["RecordDistributionStrategy"] = DISTRIBUTIONS[options.distribution]
    return properties
