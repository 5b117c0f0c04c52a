"""A topology as a CloudFormation template: sound by cfn-lint, and what it makes is what the topology plans."""

from __future__ import annotations

import json
import warnings
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from eip.matching import EventPattern, FilterPolicy
from eip.topology import (
    ArchiveSpec,
    BusSpec,
    QueueSpec,
    RuleSpec,
    StreamSpec,
    SubscriptionSpec,
    TargetSpec,
    TopicSpec,
    Topology,
)
from eip.transports.aws import AwsTransport
from eip.transports.aws.cloudformation import template

ROLE = "arn:aws:iam::123456789012:role/events"


def everything(name: str) -> Topology:
    return Topology(
        QueueSpec(f"{name}-plain", visibility=90, retention=timedelta(days=1), max_receive_count=3),
        QueueSpec(f"{name}-q.fifo", content_based_deduplication=True),
        QueueSpec(f"{name}-bare", dead_letters=False),
        TopicSpec(f"{name}-t"),
        TopicSpec(f"{name}-t.fifo", content_based_deduplication=True),
        SubscriptionSpec(f"{name}-t", "a", filter=FilterPolicy({"kind": ["a"]})),
        SubscriptionSpec(f"{name}-t", "b", filter=FilterPolicy({"kind": ["b"]}, scope="MessageBody"), raw=False),
        SubscriptionSpec(f"{name}-t", "c", filter=lambda message: bool(message.body), dead_letters=False),
        SubscriptionSpec(f"{name}-t.fifo", "s"),
        BusSpec(f"{name}-bus"),
        BusSpec(),
        RuleSpec(f"{name}-bus", "own", EventPattern({"detail-type": ["X"]})),
        RuleSpec(
            f"{name}-bus",
            "others",
            targets=(
                TargetSpec(queue=f"{name}-plain", template='{"at": "<at>"}', input_paths={"at": "$.time"}),
                TargetSpec(queue=f"{name}-q.fifo", group_id="g"),
                TargetSpec(topic=f"{name}-t", input_path="$.detail", max_attempts=3, max_age=timedelta(minutes=5)),
                TargetSpec(stream=f"{name}-stream", role=ROLE, partition_key="$.source"),
            ),
            enabled=False,
        ),
        ArchiveSpec(f"{name}-archive", f"{name}-bus", EventPattern({"source": ["s"]}), timedelta(days=7), "all of s"),
        StreamSpec(f"{name}-stream", shards=2, retention=timedelta(hours=48)),
        StreamSpec(f"{name}-demand", shards=None),
    )


def findings(made: dict[str, Any]) -> list[str]:
    """What cfn-lint has against a template."""
    from cfnlint.api import lint  # type: ignore[import-untyped]  # takes most of a second

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [
            str(each)
            for each in lint(json.dumps(made), regions=["us-east-1", "eu-central-1"])
            if each.rule.severity != "informational"
        ]


def test_the_template_is_sound():
    assert findings(template(everything("x"))) == []


def test_names_that_differ_by_signs_only_have_ids_of_their_own():
    made = template(Topology(*(QueueSpec(name, dead_letters=False) for name in ("a-b", "a_b", "A-b"))))
    names = sorted(each["Properties"]["QueueName"] for each in made["Resources"].values())
    assert names == ["A-b", "a-b", "a_b"]
    assert all(each.isalnum() for each in made["Resources"])


def test_what_holds_messages_outlives_the_stack_and_only_declared_senders_are_let_in():
    resources = template(everything("x"))["Resources"]
    for each in resources.values():
        keeps = each["Type"] in ("AWS::SQS::Queue", "AWS::Kinesis::Stream", "AWS::Events::Archive")
        assert (each.get("DeletionPolicy") == "Retain") == keeps
    (statement,) = resources["QueuePolicyXTA"]["Properties"]["PolicyDocument"]["Statement"]
    assert statement["Condition"] == {"ArnEquals": {"aws:SourceArn": {"Ref": "TopicXT"}}}
    assert statement["Principal"] == {"Service": "sns.amazonaws.com"}
    assert "QueuePolicyXBare" not in resources
    assert resources["ArchiveXArchive"]["Properties"]["Description"] == "all of s"
    assert "FilterPolicy" not in resources["SubscriptionXTC"]["Properties"]


@pytest.mark.aws
async def test_what_the_template_makes_is_what_the_topology_plans(moto_server):
    name = f"c{uuid4().hex[:8]}"
    topology = Topology(
        QueueSpec(f"{name}-plain", visibility=90, retention=timedelta(days=1), max_receive_count=3),
        QueueSpec(f"{name}-q.fifo", content_based_deduplication=True),
        TopicSpec(f"{name}-t"),
        SubscriptionSpec(f"{name}-t", "a", filter=FilterPolicy({"kind": ["a"]})),
    )
    stack = moto_server.client("cloudformation")
    stack.create_stack(StackName=name, TemplateBody=json.dumps(template(topology)))
    async with AwsTransport(
        region=moto_server.region, session=moto_server.session, endpoint_url=moto_server.url, long_poll=1.0
    ) as aws:
        plan = await topology.plan(aws)
        assert not plan["change"], str(plan)
        assert {step.kind for step in plan["create"]} == {"subscription"}, str(plan)  # which moto's stacks do not have
        assert len(plan["same"]) == 8
