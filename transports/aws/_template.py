"""A template under way: resources by logical id, and who may send to whom."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from eip.transports.aws._role_policies import permissions

__all__ = ["ACCOUNT", "PARTITION", "Template", "arn", "tags"]

ACCOUNT: Final = {"Ref": "AWS::AccountId"}
PARTITION: Final = {"Ref": "AWS::Partition"}


def arn(service: str, resource: str) -> Any:
    """The ARN of what is in the stack's account and region, by its name."""
    return {"Fn::Sub": f"arn:${{AWS::Partition}}:{service}:${{AWS::Region}}:${{AWS::AccountId}}:{resource}"}


def tags(declared: Mapping[str, str]) -> dict[str, Any]:
    """The property of tags; none where none are declared."""
    return {"Tags": [{"Key": name, "Value": value} for name, value in declared.items()]} if declared else {}


class Template:
    """Resources by logical id. Senders are gathered per queue and topic, as each has one policy."""

    def __init__(self) -> None:
        self.resources: dict[str, dict[str, Any]] = {}
        self.parameters: dict[str, dict[str, Any]] = {}
        self.functions: frozenset[str] = frozenset()
        """Names of the functions that the stack makes."""
        self._ids: dict[tuple[str, str], str] = {}
        self._senders: dict[tuple[str, str], list[tuple[str, Any]]] = {}
        """By kind and name of the receiver: the services and ARNs that may send to it."""

    def put(self, kind: str, name: str, of_type: str, properties: dict[str, Any], **more: Any) -> str:
        """Add a resource; returns its logical id."""
        made = self.id(kind, name)
        self.resources[made] = {"Type": of_type, "Properties": properties, **more}
        return made

    def id(self, kind: str, name: str) -> str:
        """The logical id: letters and digits of the name, and a hash where two names have the same."""
        known = self._ids.get((kind, name))
        if known is None:
            known = kind + "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", name))
            if known in self._ids.values():
                known += hashlib.sha256(name.encode()).hexdigest()[:8]
            self._ids[kind, name] = known
        return known

    def arn(self, kind: str, name: str) -> Any:
        """What makes the ARN of a declared resource; an ARN stays as it is."""
        if name.startswith("arn:"):
            return name
        if kind == "Bus" and name == "default":
            return arn("events", "event-bus/default")
        return {"Ref": self.id(kind, name)} if kind == "Topic" else {"Fn::GetAtt": [self.id(kind, name), "Arn"]}

    def role(self, name: str, trusts: dict[str, Any], receivers: Sequence[Any]) -> Any:
        """Add a role that may send to these receivers; returns what makes its ARN."""
        document = {"Version": "2012-10-17", "Statement": permissions(receivers)}
        properties = {
            "Path": "/eip/",
            "AssumeRolePolicyDocument": trusts,
            "Policies": [{"PolicyName": "eip", "PolicyDocument": document}],
        }
        return {"Fn::GetAtt": [self.put("Role", name, "AWS::IAM::Role", properties), "Arn"]}

    def let_invoke(self, name: str, function: Any, service: str, source: Any) -> None:
        """Let a source invoke a function."""
        properties = {
            "FunctionName": function,
            "Action": "lambda:InvokeFunction",
            "Principal": f"{service}.amazonaws.com",
            "SourceArn": source,
        }
        self.put("Permission", name, "AWS::Lambda::Permission", properties)

    def let_in(self, kind: str, name: str, service: str, source: Any) -> None:
        """Let a source send to a queue or topic of the stack."""
        if not name.startswith("arn:"):
            self._senders.setdefault((kind, name), []).append((service, source))

    def add_policies(self) -> None:
        """One policy for each receiver: exactly its topics and rules may send to it."""
        for (kind, name), senders in self._senders.items():
            receiver = self.arn(kind, name)
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
            listed = {"Queues" if kind == "Queue" else "Topics": [{"Ref": self.id(kind, name)}]}
            document = {"Version": "2012-10-17", "Statement": statements}
            of_type = "AWS::SQS::QueuePolicy" if kind == "Queue" else "AWS::SNS::TopicPolicy"
            self.put(f"{kind}Policy", name, of_type, {"PolicyDocument": document, **listed})
