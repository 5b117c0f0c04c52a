"""Buses, rules and their targets as only EventBridge has them: settings, policies, roles, HTTP endpoints."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from eip.errors import ConfigurationError
from eip.matching import EventPattern
from eip.topology import BusSpec, QueueSpec, RuleSpec, StreamSpec, TargetSpec, Topology
from eip.transports.aws import (
    ApiDestinationSpec,
    ApiKey,
    AwsTransport,
    BasicAuth,
    BusAccess,
    ConnectionSpec,
    EventBridgeOptions,
    OAuth,
)
from eip.transports.aws.cloudformation import template
from eip.transports.memory import MemoryTransport
from tests.transports.aws.test_cloudformation import findings

pytestmark = pytest.mark.aws

SOLD = EventPattern({"detail-type": ["Sold"]})
STRANGER = "999999999999"
KEY = ApiKey(name="X-Api-Key", value="secret")


@pytest.fixture(params=["moto_server", "ministack"])
def emulator(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
async def aws(emulator):
    async with AwsTransport(region=emulator.region, session=emulator.session, endpoint_url=emulator.url) as aws:
        yield aws


@pytest.fixture
def name():
    return f"b{uuid4().hex[:8]}"


def differing(plan: Any) -> list[str]:
    return [str(each) for each in plan.steps if each.action != "same"]


def function(emulator: Any, name: str) -> str:
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("main.py", "def handler(event, context): ...")
    role = emulator.client("iam").create_role(RoleName=f"{name}-f", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    made = emulator.client("lambda").create_function(
        FunctionName=name, Runtime="python3.11", Role=role, Handler="main.handler", Code={"ZipFile": code.getvalue()}
    )
    return str(made["FunctionArn"])


def every_target(name: str) -> Topology:
    here, there = f"arn:aws:sqs:us-east-1:{STRANGER}:jobs", f"arn:aws:events:eu-west-1:{STRANGER}:event-bus/audit"
    return Topology(
        ConnectionSpec(name, KEY),
        ApiDestinationSpec(f"{name}-api", name, url="https://partner.example/orders/*"),
        BusSpec(name),
        BusSpec(f"{name}-other"),
        StreamSpec(f"{name}-s"),
        QueueSpec(f"{name}-q"),
        QueueSpec(f"{name}-q.fifo", content_based_deduplication=True),
        RuleSpec(
            name,
            "one",
            SOLD,
            (
                TargetSpec(function=name),
                TargetSpec(state_machine="orders"),
                TargetSpec(firehose="lake"),
                TargetSpec(
                    api_destination=f"{name}-api",
                    path_values=["$.detail.n"],
                    headers={"X-Kind": "sold"},
                    query={"n": "$.detail.n"},
                ),
                TargetSpec(stream=f"{name}-s", partition_key="$.detail.customer"),
            ),
        ),
        RuleSpec(
            name,
            "two",
            SOLD,
            (
                TargetSpec(queue=f"{name}-q", group_id="fair"),
                TargetSpec(queue=f"{name}-q.fifo", group_id="one"),
                TargetSpec(queue=here),
                TargetSpec(bus=there),
                TargetSpec(bus=f"{name}-other"),
            ),
        ),
    )


async def test_rules_send_to_all_kinds_of_targets_with_least_privilege(aws, emulator, name):
    """Policies let the rule alone send; a role of its own may send to what has no policy, and to nothing else."""
    function_arn = function(emulator, name)
    declared = every_target(name)
    plan = await declared.plan(aws)
    assert {each.action for each in plan.steps} == {"create"}
    made = await declared.apply(aws)
    assert made.steps == plan.steps
    assert differing(await declared.apply(aws)) == []
    events, iam = emulator.client("events"), emulator.client("iam")
    targets = {
        each["Id"]: each
        for rule in ("one", "two")
        for each in events.list_targets_by_rule(Rule=rule, EventBusName=name)["Targets"]
    }
    destination = events.describe_api_destination(Name=f"{name}-api")["ApiDestinationArn"]
    http = targets[f"api_destination-{name}-api"]
    assert http["Arn"] == destination
    assert http["HttpParameters"] == {
        "PathParameterValues": ["$.detail.n"],
        "HeaderParameters": {"X-Kind": "sold"},
        "QueryStringParameters": {"n": "$.detail.n"},
    }
    assert targets[f"stream-{name}-s"]["KinesisParameters"] == {"PartitionKeyPath": "$.detail.customer"}
    assert targets[f"queue-{name}-q"]["SqsParameters"] == {"MessageGroupId": "fair"}
    assert "RoleArn" not in targets[f"queue-{name}-q"]
    assert "RoleArn" not in targets[f"function-{name}"]
    policy = json.loads(emulator.client("lambda").get_policy(FunctionName=name)["Policy"])
    (statement,) = policy["Statement"]
    assert statement["Principal"] == {"Service": "events.amazonaws.com"}
    assert statement["Resource"] == function_arn
    assert aws._arns.rule(name, "one") in json.dumps(statement["Condition"])
    role_name = http["RoleArn"].rpartition("/")[2]
    may = iam.get_role_policy(RoleName=role_name, PolicyName="eip")["PolicyDocument"]["Statement"]
    base = f"{emulator.region}:{emulator.account}"
    has_id = destination.count("/") == 2  # as the service writes it; ministack's ARN ends in the name
    assert {each["Action"][0]: each["Resource"] for each in may} == {
        "events:InvokeApiDestination": [f"{destination.rpartition('/')[0]}/*" if has_id else destination],
        "firehose:PutRecord": [f"arn:aws:firehose:{base}:deliverystream/lake"],
        "kinesis:PutRecord": [f"arn:aws:kinesis:{base}:stream/{name}-s"],
        "states:StartExecution": [f"arn:aws:states:{base}:stateMachine:orders"],
    }
    (trusted,) = iam.get_role(RoleName=role_name)["Role"]["AssumeRolePolicyDocument"]["Statement"]
    assert trusted["Condition"]["ArnLike"] == {"aws:SourceArn": aws._arns.rule(name, "one")}
    other = targets[f"bus-{name}-other"]["RoleArn"].rpartition("/")[2]
    may = iam.get_role_policy(RoleName=other, PolicyName="eip")["PolicyDocument"]["Statement"]
    assert {each["Action"][0]: len(each["Resource"]) for each in may} == {"sqs:SendMessage": 1, "events:PutEvents": 2}


async def test_what_was_changed_by_hand_is_planned_with_both_values_and_put_right(aws, emulator, name):
    function(emulator, name)
    declared = every_target(name)
    await declared.apply(aws)
    emulator.client("lambda").remove_permission(FunctionName=name, StatementId=statement_id(emulator, name))
    role = next(each.name for each in (await declared.plan(aws)).steps if each.kind == "role")
    wider = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": ["*"]}]}
    emulator.client("iam").put_role_policy(RoleName=role, PolicyName="eip", PolicyDocument=json.dumps(wider))
    changes = {each.kind: each.detail for each in (await declared.plan(aws))["change"]}
    assert f"policy of {name}: none -> events may send" in changes["rule"]
    assert changes["role"].startswith("policy: * on * -> ")
    await declared.apply(aws)
    assert differing(await declared.plan(aws)) == []


def statement_id(emulator: Any, function_name: str) -> str:
    policy = json.loads(emulator.client("lambda").get_policy(FunctionName=function_name)["Policy"])
    return str(policy["Statement"][0]["Sid"])


async def test_a_role_that_is_given_is_used_and_none_is_made(aws, emulator, name):
    role = f"arn:aws:iam::{emulator.account}:role/mine"
    declared = Topology(
        BusSpec(name), RuleSpec(name, "r", SOLD, (TargetSpec(firehose="lake", role=role),), dead_letters=False)
    )
    made = await declared.apply(aws)
    assert "role" not in {each.kind for each in made.steps}
    (target,) = emulator.client("events").list_targets_by_rule(Rule="r", EventBusName=name)["Targets"]
    assert target["RoleArn"] == role
    released = Topology(BusSpec(name), RuleSpec(name, "r", SOLD, (TargetSpec(firehose="lake"),), dead_letters=False))
    assert differing(await released.plan(aws)) == [], "a role that is there serves"


async def test_the_role_goes_with_its_rule_when_asked(aws, emulator, name):
    declared = Topology(BusSpec(name), RuleSpec(name, "r", SOLD, (TargetSpec(firehose="lake"),), dead_letters=False))
    await declared.apply(aws)
    bare = Topology(BusSpec(name))
    drift = (await bare.plan(aws))["drift"]
    assert [each.kind for each in drift] == ["rule", "role"]
    assert (await bare.plan(aws))["drift"] == drift
    assert len((await bare.apply(aws, delete=True))["delete"]) == 2
    with pytest.raises(emulator.client("iam").exceptions.NoSuchEntityException):
        emulator.client("iam").get_role(RoleName=drift[1].name)


async def test_connections_and_api_destinations_are_made_compared_and_changed(aws, emulator, name):
    def declared(connection: ConnectionSpec, **destination: Any) -> Topology:
        return Topology(connection, ApiDestinationSpec(name, name, url="https://partner.example/", **destination))

    first = declared(ConnectionSpec(name, KEY))
    assert "secret" not in repr(first.resources)
    await first.apply(aws)
    assert differing(await first.plan(aws)) == []
    second = declared(ConnectionSpec(name, BasicAuth(username="shop", value="p4ss"), revision="2"), method="PUT")
    changes = {each.kind: each.detail for each in (await second.plan(aws))["change"]}
    assert "X-Api-Key" in changes["connection"]
    assert "shop" in changes["connection"]
    assert "p4ss" not in changes["connection"]
    assert "secret" not in changes["connection"]
    assert "revision: none -> 2" in changes["connection"]
    assert changes["api_destination"] == "HttpMethod: POST -> PUT"
    await second.apply(aws)
    assert differing(await second.plan(aws)) == []
    oauth = OAuth(client_id="me", value="s", endpoint="https://id.example/token", body={"scope": "orders"})
    third = Topology(ConnectionSpec(name, oauth, headers={"X-Shop": "1"}))
    await third.apply(aws)
    plan = await third.plan(aws)
    assert not plan["change"]
    assert [each.name for each in plan["drift"]] == [name], "an API destination of a declared connection"
    await third.apply(aws, delete=True)
    assert differing(await third.plan(aws)) == []


async def test_a_buss_settings_are_made_compared_and_changed(emulator, aws, name):
    """Moto has no UpdateEventBus and forgets LogConfig, ministack forgets policies: each is asked for what it has."""
    moto = type(emulator).__name__ == "MotoServer"
    options = EventBridgeOptions(description="of the shop", encryption="alias/shop")
    first = Topology(BusSpec(name, dead_letters=True, tags={"team": "shop"}, options=[options]))
    await first.apply(aws)
    assert differing(await first.plan(aws)) == []
    found = emulator.client("events").describe_event_bus(Name=name)
    assert found["DeadLetterConfig"]["Arn"].endswith(f":{name}-bus-undelivered")
    assert found["KmsKeyIdentifier"] == "alias/shop"
    attributes = await aws.queue(f"{name}-bus-undelivered").attributes()
    assert aws.bus(name).address in attributes["Policy"]
    logged = replace(options, log_level="ERROR", log_details=True, encryption="alias/other")
    second = Topology(BusSpec(name, dead_letters=True, tags={"team": "sales"}, options=[logged]))
    step = next(each for each in (await second.plan(aws))["change"] if each.kind == "bus")
    assert "KmsKeyIdentifier: alias/shop -> alias/other" in step.detail
    assert 'LogConfig: none -> {"IncludeDetail": "FULL", "Level": "ERROR"}' in step.detail
    assert "tag team: shop -> sales" in step.detail
    if not moto:
        await second.apply(aws)
        assert differing(await second.plan(aws)) == []


async def test_others_may_put_events_on_a_bus_and_what_its_policy_says_else_stays(moto_server, name):
    """On moto: ministack takes a whole policy for a statement without a principal."""
    partner = BusAccess(name="partner", accounts=[STRANGER], sources=["partner"])
    everybody = BusAccess(name="all", organization="o-abcdefghij")
    async with AwsTransport(
        region=moto_server.region, session=moto_server.session, endpoint_url=moto_server.url
    ) as aws:

        def declared(*access: BusAccess) -> Topology:
            return Topology(BusSpec(name, options=[EventBridgeOptions(access=access)]))

        await declared(partner).apply(aws)
        assert differing(await declared(partner).plan(aws)) == []
        events = moto_server.client("events")
        events.put_permission(EventBusName=name, StatementId="mine", Principal=STRANGER, Action="events:PutEvents")
        wider = replace(partner, sources=["partner", "billing"])
        (step,) = (await declared(wider, everybody).plan(aws))["change"]
        assert "access partner: {" in step.detail
        assert "access all: none -> {" in step.detail
        await declared(wider, everybody).apply(aws)
        assert differing(await declared(wider, everybody).plan(aws)) == []
        plan = await declared(everybody).plan(aws)
        assert differing(plan) == [f"drift   access        {name} > partner"]
        await declared(everybody).apply(aws, delete=True)
        assert differing(await declared(everybody).plan(aws)) == []
        policy = json.loads(events.describe_event_bus(Name=name)["Policy"])
        assert {each["Sid"] for each in policy["Statement"]} == {"mine", "eip-all"}


def test_the_template_has_all_of_it_and_no_secret():
    options = EventBridgeOptions(
        encryption="alias/shop",
        log_level="INFO",
        access=[BusAccess(name="partner", accounts=[STRANGER]), BusAccess(name="all", organization="o-abcdefghij")],
    )
    resources = [each for each in every_target("x").resources if each.name != "x" or not isinstance(each, BusSpec)]
    declared = [each for each in resources if not isinstance(each, QueueSpec) or each.name in ("x-q", "x-q.fifo")]
    made = template(Topology(*declared, BusSpec("x", dead_letters=True, tags={"team": "shop"}, options=[options])))
    assert findings(made) == []
    assert "secret" not in json.dumps(made)
    assert made["Parameters"]["SecretX"]["NoEcho"] is True
    types = {each["Type"] for each in made["Resources"].values()}
    assert {"AWS::IAM::Role", "AWS::Lambda::Permission", "AWS::Events::EventBusPolicy"} <= types


async def test_an_embedded_bus_leaves_out_what_only_eventbridge_has():
    """Its events for a function go to the dead letters: there is none."""
    declared = Topology(
        ConnectionSpec("c", KEY),
        ApiDestinationSpec("a", "c", url="https://partner.example/"),
        BusSpec("b", dead_letters=True, options=[EventBridgeOptions(log_level="INFO")]),
        QueueSpec("q"),
        RuleSpec("b", "r", SOLD, (TargetSpec(function="f"), TargetSpec(queue="q", group_id="g"))),
    )
    async with MemoryTransport() as memory:
        made = await declared.apply(memory)
        assert {each.kind for each in made.steps} == {"queue", "bus", "rule", "target"}
        assert (await declared.plan(memory)).in_force
        await memory.bus("b").put_event({"source": "shop", "detail-type": "Sold", "detail": {"n": 1}})
        (sent,) = memory.queue("q").messages()
        (undelivered,) = memory.queue("b-r-undelivered").messages()
        assert sent.group_id == "g"
        assert undelivered.headers["dead-letter-reason"].startswith("NO_RESOURCE")


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: ConnectionSpec("no good", KEY), "name of a connection"),
        (lambda: ApiDestinationSpec("a", "c", url="http://partner.example/"), "url must be an https URL"),
        (lambda: ApiDestinationSpec("a", "c", url="https://x/", max_rate=0), "max_rate must be >= 1"),
        (lambda: ApiDestinationSpec("a", "c", url="https://x/", method="TRACE"), "method must be one of"),  # type: ignore[arg-type]
        (lambda: OAuth(client_id="i", value="s", endpoint="ftp://x"), "endpoint must be an https URL"),
        (lambda: BusAccess(name="x"), "give either accounts or an organization"),
        (lambda: BusAccess(name="x", accounts=["12"]), "12 digits"),
        (lambda: BusAccess(name="x", organization="acme"), "organization must be an id"),
        (lambda: BusAccess(name="<x>", accounts=[STRANGER]), "name must be"),
        (lambda: EventBridgeOptions(log_level="LOUD"), "log_level must be one of"),  # type: ignore[arg-type]
        (lambda: EventBridgeOptions(log_details=True), "log_details needs a log_level"),
        (lambda: EventBridgeOptions(description="x" * 513), "at most 512"),
        (lambda: Topology(ConnectionSpec("c", KEY), ConnectionSpec("c", KEY)), "declared twice"),
    ],
)
def test_what_the_service_would_refuse_is_refused(make, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        make()


def test_a_wrong_type_is_named():
    with pytest.raises(TypeError, match="authorization must be an ApiKey"):
        ConnectionSpec("c", "secret")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="access must be a list of BusAccess"):
        EventBridgeOptions(access=["partner"])  # type: ignore[list-item]
