"""A topology as a CloudFormation template, for those who deploy that way.

    json.dumps(template(topology), indent=2)

Sources: "AWS resource and property types reference" (CloudFormation User Guide), SQS, SNS, EventBridge and Kinesis.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final, assert_never

from eip.matching import push_down
from eip.topology import (
    ArchiveSpec,
    BusSpec,
    QueueSpec,
    Resource,
    RuleSpec,
    StreamSpec,
    SubscriptionSpec,
    TargetSpec,
    TopicSpec,
    Topology,
)
from eip.topology.names import is_fifo
from eip.transports.aws.options import DeliveryLogging, KinesisOptions, SnsOptions, SqsOptions, option_of

__all__ = ["template"]

_VERSION: Final = "2010-09-09"
_PROTOCOLS: Final = {
    "SQS": "sqs",
    "HTTP": "http/s",
    "Lambda": "lambda",
    "Firehose": "firehose",
    "Application": "application",
}
_KEPT: Final = {"DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain"}
"""As with `Topology.apply`: resources that hold messages are not deleted with the stack."""


def template(topology: Topology) -> dict[str, Any]:
    """Return the template: all resources under their names, and their policies.

    Queues, streams and archives outlive the stack. The values are plain, so `json.dumps` writes them.
    """
    made = _Template()
    for resource in topology.resources:
        made.add(resource)
    made.add_policies()
    return {"AWSTemplateFormatVersion": _VERSION, "Resources": made.resources}


class _Template:
    """Resources by logical id. Senders are gathered per queue and topic, as each has one policy."""

    def __init__(self) -> None:
        self.resources: dict[str, dict[str, Any]] = {}
        self._ids: dict[tuple[str, str], str] = {}
        self._senders: dict[tuple[str, str], list[tuple[str, Any]]] = {}
        """By kind and name of the receiver: the services and ARNs that may send to it."""

    def add(self, resource: Resource) -> None:
        match resource:
            case QueueSpec():
                self._queue(resource)
            case TopicSpec():
                self._topic(resource)
            case SubscriptionSpec():
                self._subscription(resource)
            case BusSpec():
                if resource.name != "default":
                    self._put("Bus", resource.name, "AWS::Events::EventBus", {"Name": resource.name})
            case RuleSpec():
                self._rule(resource)
            case ArchiveSpec():
                self._archive(resource)
            case StreamSpec():
                self._stream(resource)
            case _:
                assert_never(resource)

    def _put(self, kind: str, name: str, of_type: str, properties: dict[str, Any], **more: Any) -> str:
        made = self._id(kind, name)
        self.resources[made] = {"Type": of_type, "Properties": properties, **more}
        return made

    def _id(self, kind: str, name: str) -> str:
        """The logical id: letters and digits of the name, and a hash where two names have the same."""
        known = self._ids.get((kind, name))
        if known is None:
            known = kind + "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", name))
            if known in self._ids.values():
                known += hashlib.sha256(name.encode()).hexdigest()[:8]
            self._ids[kind, name] = known
        return known

    def _arn(self, kind: str, name: str) -> Any:
        if name.startswith("arn:"):
            return name
        if kind == "Bus" and name == "default":
            return {"Fn::Sub": "arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:event-bus/default"}
        return {"Ref": self._id(kind, name)} if kind == "Topic" else {"Fn::GetAtt": [self._id(kind, name), "Arn"]}

    def _let_in(self, kind: str, name: str, service: str, source: Any) -> None:
        if not name.startswith("arn:"):
            self._senders.setdefault((kind, name), []).append((service, source))

    def _queue(self, queue: QueueSpec) -> None:
        properties: dict[str, Any] = {
            "QueueName": queue.name,
            "VisibilityTimeout": round(queue.visibility),
            "MessageRetentionPeriod": round(queue.retention.total_seconds()),
        }
        if queue.dead_letter_name is not None:
            properties["RedrivePolicy"] = {
                "deadLetterTargetArn": self._arn("Queue", queue.dead_letter_name),
                "maxReceiveCount": queue.max_receive_count,
            }
        if queue.fifo:
            properties |= {"FifoQueue": True, "ContentBasedDeduplication": queue.content_based_deduplication}
            if queue.deduplication_scope == "group":
                properties |= {"DeduplicationScope": "messageGroup", "FifoThroughputLimit": "perMessageGroupId"}
        if queue.max_message_bytes is not None:
            properties["MaximumMessageSize"] = queue.max_message_bytes
        properties |= _tags(queue.tags) | self._options_of_queue(option_of(queue.options, SqsOptions))
        self._put("Queue", queue.name, "AWS::SQS::Queue", properties, **_KEPT)

    def _options_of_queue(self, options: SqsOptions | None) -> dict[str, Any]:
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

    def _topic(self, topic: TopicSpec) -> None:
        properties: dict[str, Any] = {"TopicName": topic.name}
        if is_fifo(topic.name):
            properties |= {"FifoTopic": True, "ContentBasedDeduplication": topic.content_based_deduplication}
            if topic.deduplication_scope == "group":
                properties["FifoThroughputScope"] = "MessageGroup"
        properties |= _tags(topic.tags) | _options_of_topic(option_of(topic.options, SnsOptions))
        self._put("Topic", topic.name, "AWS::SNS::Topic", properties)

    def _subscription(self, subscription: SubscriptionSpec) -> None:
        topic = self._arn("Topic", subscription.topic)
        properties: dict[str, Any] = {
            "TopicArn": topic,
            "Protocol": "sqs",
            "Endpoint": self._arn("Queue", subscription.target.name),
            "RawMessageDelivery": subscription.raw,
        }
        pushed = None if subscription.filter is None else push_down(subscription.filter, "sns")
        if pushed is not None and pushed.pushed is not None:
            properties["FilterPolicy"] = json.loads(pushed.pushed)
            properties["FilterPolicyScope"] = pushed.scope or "MessageAttributes"
        self._let_in("Queue", subscription.target.name, "sns", topic)
        if subscription.undelivered_name is not None:
            properties["RedrivePolicy"] = {"deadLetterTargetArn": self._arn("Queue", subscription.undelivered_name)}
            self._let_in("Queue", subscription.undelivered_name, "sns", topic)
        name = f"{subscription.topic}-{subscription.name}"
        self._put("Subscription", name, "AWS::SNS::Subscription", properties)

    def _rule(self, rule: RuleSpec) -> None:
        name = f"{rule.bus}-{rule.name}"
        source = self._arn("Rule", name)
        properties = {
            "Name": rule.name,
            "EventBusName": "default" if rule.bus == "default" else {"Ref": self._id("Bus", rule.bus)},
            "EventPattern": json.loads(rule.event_pattern.text),
            "State": "ENABLED" if rule.enabled else "DISABLED",
            "Targets": [self._target(target) for target in rule.resolved_targets()],
        }
        for target in rule.resolved_targets():
            if target.kind in ("queue", "topic"):
                self._let_in(target.kind.capitalize(), target.name, "events", source)
            if target.dead_letters is not None:
                self._let_in("Queue", target.dead_letters, "events", source)
        self._put("Rule", name, "AWS::Events::Rule", properties)

    def _target(self, target: TargetSpec) -> dict[str, Any]:
        made: dict[str, Any] = {
            "Id": target.id,
            "Arn": self._arn(target.kind.capitalize(), target.name),
            "RetryPolicy": {
                "MaximumRetryAttempts": target.max_attempts,
                "MaximumEventAgeInSeconds": round(target.max_age.total_seconds()),
            },
            "RoleArn": target.role,
            "Input": target.input,
            "InputPath": target.input_path,
        }
        if target.dead_letters is not None:
            made["DeadLetterConfig"] = {"Arn": self._arn("Queue", target.dead_letters)}
        if target.group_id is not None:
            made["SqsParameters"] = {"MessageGroupId": target.group_id}
        if target.partition_key is not None:
            made["KinesisParameters"] = {"PartitionKeyPath": target.partition_key}
        if target.template is not None:
            made["InputTransformer"] = {"InputPathsMap": dict(target.input_paths), "InputTemplate": target.template}
        return {name: value for name, value in made.items() if value is not None}

    def _archive(self, archive: ArchiveSpec) -> None:
        properties: dict[str, Any] = {
            "ArchiveName": archive.name,
            "SourceArn": self._arn("Bus", archive.bus),
            "RetentionDays": archive.retention_days,
        }
        if archive.pattern is not None:
            properties["EventPattern"] = json.loads(archive.pattern.text)
        if archive.description:
            properties["Description"] = archive.description
        self._put("Archive", archive.name, "AWS::Events::Archive", properties, **_KEPT)

    def _stream(self, stream: StreamSpec) -> None:
        properties: dict[str, Any] = {
            "Name": stream.name,
            "RetentionPeriodHours": round(stream.retention.total_seconds() / 3600),
            "StreamModeDetails": {"StreamMode": "ON_DEMAND" if stream.shards is None else "PROVISIONED"},
        }
        if stream.shards is not None:
            properties["ShardCount"] = stream.shards
        properties |= _tags(stream.tags) | _options_of_stream(option_of(stream.options, KinesisOptions))
        self._put("Stream", stream.name, "AWS::Kinesis::Stream", properties, **_KEPT)

    def add_policies(self) -> None:
        """One policy for each receiver: exactly its topics and rules may send to it."""
        for (kind, name), senders in self._senders.items():
            receiver = self._arn(kind, name)
            statements = [
                {
                    "Effect": "Allow",
                    "Principal": {"Service": f"{service}.amazonaws.com"},
                    "Action": "sqs:SendMessage" if kind == "Queue" else "sns:Publish",
                    "Resource": receiver,
                    "Condition": {"ArnEquals": {"aws:SourceArn": source}},
                }
                for number, (service, source) in enumerate(senders)
                if (service, source) not in senders[:number]
            ]
            listed = {"Queues" if kind == "Queue" else "Topics": [{"Ref": self._id(kind, name)}]}
            document = {"Version": "2012-10-17", "Statement": statements}
            of_type = "AWS::SQS::QueuePolicy" if kind == "Queue" else "AWS::SNS::TopicPolicy"
            self._put(f"{kind}Policy", name, of_type, {"PolicyDocument": document, **listed})


def _queue_arn(name: str) -> Any:
    """By name, not by reference: the queue refers to its dead-letter queue already."""
    if name.startswith("arn:"):
        return name
    return {"Fn::Sub": f"arn:${{AWS::Partition}}:sqs:${{AWS::Region}}:${{AWS::AccountId}}:{name}"}


def _tags(tags: Mapping[str, str]) -> dict[str, Any]:
    return {"Tags": [{"Key": name, "Value": value} for name, value in tags.items()]} if tags else {}


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
    return properties
