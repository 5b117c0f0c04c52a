"""Functions and event source mappings in a template: the function, its log group, its role, what feeds it.

Source: "AWS::Lambda" (CloudFormation User Guide), "AWS::Serverless::Function" (SAM Developer Guide), 2026.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from eip.topology import BusSpec, QueueSpec, Resource, StreamSpec, TopicSpec
from eip.transports.aws._template import Template, arn, tags
from eip.transports.aws.lambda_functions.functions import FunctionSpec
from eip.transports.aws.lambda_functions.mappings import EventSourceMappingSpec
from eip.transports.aws.lambda_functions.permissions import TRUST, statements
from eip.transports.aws.lambda_functions.settings import comparable, creation, settings

__all__ = ["Functions"]

_LOG_DAYS: Final = 30
_PLACES: Final[Mapping[str, tuple[str, str]]] = {
    "queue": ("sqs", ""),
    "topic": ("sns", ""),
    "bus": ("events", "event-bus/"),
    "stream": ("kinesis", "stream/"),
    "table": ("dynamodb", "table/"),
    "logs": ("logs", "log-group:/aws/lambda/"),
}
"""The service of each kind, and what its ARNs have before the name."""
_DECLARED: Final[Mapping[type, str]] = {QueueSpec: "queue", TopicSpec: "topic", BusSpec: "bus", StreamSpec: "stream"}


class Functions:
    """Adds functions and mappings to a template.

    Args:
        template: under way.
        resources: all that is declared.
        sam: whether functions are SAM's, whose code ``sam build`` and ``sam deploy`` bring; otherwise their code is in
            a bucket that the stack's parameters name.
    """

    def __init__(self, template: Template, resources: Iterable[Resource], *, sam: bool) -> None:
        self._made, self._sam = template, sam
        found = list(resources)
        self._declared = {(_DECLARED[type(each)], each.name) for each in found if type(each) in _DECLARED}
        template.functions = frozenset(each.name for each in found if isinstance(each, FunctionSpec))
        self._mappings = [each for each in found if isinstance(each, EventSourceMappingSpec)]

    def add(self, function: FunctionSpec) -> None:
        """Add a function with its log group and its role."""
        logs = {"LogGroupName": f"/aws/lambda/{function.name}", "RetentionInDays": _LOG_DAYS}
        kept = {"DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain"}
        group = self._made.put("Logs", function.name, "AWS::Logs::LogGroup", logs, **kept)
        policy = {"Version": "2012-10-17", "Statement": statements(function, self._mappings, self._arn)}
        role = {"AssumeRolePolicyDocument": dict(TRUST), "Policies": [{"PolicyName": "eip", "PolicyDocument": policy}]}
        self._made.put("Role", function.name, "AWS::IAM::Role", role)
        kind = "AWS::Serverless::Function" if self._sam else "AWS::Lambda::Function"
        properties = self._properties(function) | self._code(function)
        self._made.put("Function", function.name, kind, properties, DependsOn=group)

    def _properties(self, function: FunctionSpec) -> dict[str, Any]:
        made: dict[str, Any] = {
            "FunctionName": function.name,
            "Handler": function.handler,
            "Runtime": function.runtime,
            "MemorySize": function.memory,
            "Timeout": round(function.timeout.total_seconds()),
            "Role": self._made.arn("Role", function.name),
        }
        if function.environment:
            made["Environment"] = {"Variables": dict(function.environment)}
        if function.tags:
            made |= {"Tags": dict(function.tags)} if self._sam else tags(function.tags)
        return made

    def _code(self, function: FunctionSpec) -> dict[str, Any]:
        if self._sam:
            return {"CodeUri": function.code}
        key = self._made.id("CodeKey", function.name)
        self._made.parameters["CodeBucket"] = {"Type": "String", "Description": "Bucket with the functions' code"}
        self._made.parameters[key] = {"Type": "String", "Description": f"Key of the zipped code of {function.name}"}
        return {"Code": {"S3Bucket": {"Ref": "CodeBucket"}, "S3Key": {"Ref": key}}}

    def add_mapping(self, mapping: EventSourceMappingSpec) -> None:
        """Add a mapping."""
        given = settings(mapping, destination=lambda name: self._arn("queue", name))
        start = creation(mapping)
        if "StartingPositionTimestamp" in start:
            start["StartingPositionTimestamp"] = round(start["StartingPositionTimestamp"])
        properties = {
            "FunctionName": self._function(mapping.function),
            "EventSourceArn": self._arn(mapping.source_kind, mapping.source),
            **start,
            **{name: value for name, value in given.items() if comparable({name: value})},
            "Enabled": mapping.enabled,
            **tags(mapping.tags),
        }
        self._made.put("Mapping", mapping.name, "AWS::Lambda::EventSourceMapping", properties)

    def _function(self, name: str) -> Any:
        return {"Ref": self._made.id("Function", name)} if name in self._made.functions else name

    def _arn(self, kind: str, name: str) -> Any:
        """What makes the ARN: of the stack's own resource where that is declared, or of its account and region."""
        if name.startswith("arn:"):
            return name
        if (kind, name) in self._declared:
            return self._made.arn(kind.capitalize(), name)
        if kind == "bucket":
            return {"Fn::Sub": f"arn:${{AWS::Partition}}:s3:::{name}"}
        service, prefix = _PLACES[kind]
        return arn(service, f"{prefix}{name}{':*' if kind == 'logs' else ''}")
