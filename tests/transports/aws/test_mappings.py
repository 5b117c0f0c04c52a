"""Event source mappings as declared values: checked, made, compared, changed, ended, exported; and really invoked."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import pytest

from eip import Message
from eip.errors import ChannelNotFound, ConfigurationError, Conflict, InvalidPattern
from eip.matching import EventPattern, FilterPolicy
from eip.topology import BusSpec, QueueSpec, RuleSpec, StreamSpec, TargetSpec, Topology
from eip.transports.aws import AwsTransport, EventSourceMappingSpec, FunctionSpec
from eip.transports.aws.arns import Arns
from eip.transports.aws.cloudformation import template
from eip.transports.aws.lambda_functions.provisioning import provision_mapping
from eip.transports.memory import MemoryTransport
from tests.transports.aws.test_cloudformation import findings

if TYPE_CHECKING:
    from eip.transports.aws._client.service_client import ServiceClient

REGION = "arn:aws:{}:eu-central-1:123456789012:{}"
ROLE = "arn:aws:iam::123456789012:role/lambda"
TABLE = REGION.format("dynamodb", "table/orders/stream/2026-01-01T00:00:00.000")
BROKER = REGION.format("mq", "broker:b:b-1")
CLUSTER = REGION.format("kafka", "cluster/c/0b1c")
SECRET = REGION.format("secretsmanager", "secret:mq-AbCdEf")
TOPIC = REGION.format("sns", "failed")
BODY = FilterPolicy({"kind": ["a"]}, scope="MessageBody")

TAGS = {"team": "shop"}
CODE = """
import json, os, urllib.request

def handler(event, context):
    body = json.dumps(event).encode()
    urllib.request.urlopen(urllib.request.Request(os.environ["SEEN"], data=body, method="PUT"), timeout=10)
    failed = [each["messageId"] for each in event["Records"] if "fail" in each["body"]]
    return {"batchItemFailures": [{"itemIdentifier": each} for each in failed]}
"""


def mapping(**more: Any) -> EventSourceMappingSpec:
    return EventSourceMappingSpec(**{"function": "f", "queue": "q", **more})


def of_stream(**more: Any) -> EventSourceMappingSpec:
    return EventSourceMappingSpec(function="f", stream="s", **more)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"function": ""}, "function must be"),
    ({"stream": "s"}, "exactly one of"),
    ({"queue": None}, "got none"),
    ({"batch_size": 0}, "batch_size must be >= 1"),
    ({"batch_size": 10_001}, "batch_size must be at most 10,000"),
    ({"batch_size": 100}, "needs a batch_window"),
    ({"queue": "q.fifo", "batch_size": 11}, "at most 10"),
    ({"queue": "q.fifo", "batch_window": timedelta(seconds=1)}, "FIFO"),
    ({"batch_window": timedelta(minutes=6)}, "batch_window must be"),
    ({"batch_window": timedelta(milliseconds=1500)}, "whole seconds"),
    ({"batch_window": 5}, "batch_window must be a timedelta"),
    ({"max_concurrency": 1}, "max_concurrency must be 2 to 1,000"),
    ({"max_concurrency": 5, "pollers": (1, 2)}, "exclude"),
    ({"pollers": (5, 2)}, r"pollers\[1\] must be 5"),
    ({"pollers": (0, 2)}, r"pollers\[0\] must be 1"),
    ({"bisect": True}, "a queue has no bisect"),
    ({"on_failure": "dead"}, "a queue has no on_failure"),
    ({"starting_position": "oldest"}, "a queue has no starting_position"),
    ({"queue": None, "stream": "s", "starting_position": "middle"}, "starting_position must be"),
    ({"queue": None, "stream": "s", "starting_position": datetime(2026, 1, 1)}, "time zone"),  # noqa: DTZ001
    ({"queue": None, "stream": "s", "parallelization": 11}, "parallelization must be 1 to 10"),
    ({"queue": None, "stream": "s", "tumbling_window": timedelta(minutes=16)}, "tumbling_window must be"),
    ({"queue": None, "stream": "s", "max_age": timedelta(seconds=5)}, "max_age must be"),
    ({"queue": None, "stream": "s", "max_attempts": 10_001}, "max_attempts must be"),
    ({"queue": None, "stream": "s", "max_concurrency": 5}, "a stream has no max_concurrency"),
    ({"queue": None, "table_stream": "orders"}, "must be an ARN"),
    ({"queue": None, "table_stream": TABLE, "starting_position": datetime(2026, 1, 1, tzinfo=UTC)}, "table_stream"),
    ({"queue": None, "table_stream": TABLE, "filter": BODY}, "give patterns"),
    ({"queue": None, "broker": BROKER, "secret": SECRET}, "needs destination"),
    ({"queue": None, "broker": BROKER, "destination": "q"}, "needs secret"),
    ({"queue": None, "broker": BROKER, "destination": "q", "secret": "s"}, "secret must be an ARN"),
    ({"queue": None, "cluster": CLUSTER}, "needs kafka_topic"),
    ({"queue": None, "cluster": CLUSTER, "kafka_topic": "t", "bisect": True}, "needs pollers"),
    ({"virtual_host": "v"}, "a queue has no virtual_host"),
    ({"filter": FilterPolicy({"kind": ["a"]})}, "attributes apart"),
    ({"filter": EventPattern({"source": ["s"]})}, "cannot be evaluated by Lambda"),
    ({"filter": BODY, "patterns": [{"body": {"a": [1]}}]}, "exclude"),
    ({"patterns": [{"body": {"a": [n]}} for n in range(11)]}, "at most 10"),
    ({"patterns": [{"body": {"a": ["x" * 5000]}}]}, "at most 4,096"),
]


@pytest.mark.parametrize(("given", "text"), REFUSED, ids=[text for _, text in REFUSED])
def test_what_lambda_would_refuse_is_refused_when_it_is_declared(given, text):
    with pytest.raises((ConfigurationError, TypeError), match=text):
        mapping(**given)


def test_patterns_that_are_none_are_refused():
    with pytest.raises(InvalidPattern):
        mapping(patterns=[{"body": {"a": 1}}])


def test_a_mapping_is_declared_once_and_other_drivers_leave_it_out():
    with pytest.raises(ConfigurationError, match="declared twice"):
        Topology(QueueSpec("q"), mapping(), mapping(batch_size=5))


async def test_the_embedded_transport_leaves_functions_out_of_its_plan():
    topology = Topology(QueueSpec("q", dead_letters=False), mapping(), FunctionSpec(name="f", handler="a.b"))
    async with MemoryTransport() as memory:
        assert {each.kind for each in (await topology.plan(memory)).steps} == {"queue"}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"name": "a b"}, "name must be"),
        ({"handler": "app"}, "handler must be"),
        ({"memory": 64}, "memory must be"),
        ({"timeout": timedelta(minutes=16)}, "timeout must be"),
        ({"timeout": timedelta(milliseconds=500)}, "timeout must be"),
        ({"uses": ["quotes"]}, "uses must be kind:name"),
        ({"uses": ["topics:quotes"]}, "uses must be kind:name"),
        ({"uses": ["topic:"]}, "uses must be kind:name"),
    ],
)
def test_a_function_that_cannot_be_is_refused_when_it_is_declared(given, text):
    with pytest.raises(ConfigurationError, match=text):
        FunctionSpec(**{"name": "f", "handler": "app.handler", **given})


# On the emulators.


def deploy(server: Any, name: str, **variables: str) -> None:
    """A function, with its code."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("app.py", CODE)
    iam = server.client("iam")
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    server.client("lambda").create_function(
        FunctionName=name,
        Runtime="python3.11",
        Role=role,
        Handler="app.handler",
        Code={"ZipFile": packed.getvalue()},
        Timeout=20,
        MemorySize=128,
        Environment={"Variables": variables},
    )


def declared(name: str, **more: Any) -> FunctionSpec:
    given = {"handler": "app.handler", "runtime": "python3.11", "timeout": timedelta(seconds=20), "memory": 128}
    return FunctionSpec(name=name, **{**given, **more})


@pytest.fixture(params=["moto_server", "ministack"])
def server(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
async def transport(server):
    async with AwsTransport(
        region=server.region, session=server.session, endpoint_url=server.url, long_poll=1.0
    ) as aws:
        yield aws


def first(name: str) -> Topology:
    return Topology(
        QueueSpec(name, dead_letters=False),
        StreamSpec(name),
        declared(name),
        EventSourceMappingSpec(function=name, queue=name, filter=BODY, max_concurrency=5),
        EventSourceMappingSpec(function=name, stream=name, starting_position="oldest", bisect=True),
    )


def second(name: str) -> Topology:
    return Topology(
        QueueSpec(name, dead_letters=False),
        StreamSpec(name),
        declared(name, memory=256, environment={"MODE": "secret"}, tags=TAGS),
        EventSourceMappingSpec(
            function=name, queue=name, batch_size=5, tags={"team": "shop"}, enabled=False, partial_responses=False
        ),
        EventSourceMappingSpec(
            function=name,
            stream=name,
            batch_window=timedelta(seconds=10),
            parallelization=3,
            max_attempts=7,
            max_age=timedelta(hours=1),
            on_failure=name,
        ),
    )


async def settled(topology: Topology, aws: AwsTransport) -> str:
    """What still differs, once the service has done what it does later."""
    for _ in range(300):
        differing = [str(each) for each in (await topology.plan(aws)).steps if each.action != "same"]
        if not differing:
            break
        await asyncio.sleep(0.1)
    return "\n".join(differing)


@pytest.mark.aws
async def test_mappings_are_made_compared_changed_and_ended(server, transport):
    name = f"m{uuid4().hex[:8]}"
    with pytest.raises(ConfigurationError, match="is not deployed"):
        await first(name).apply(transport)
    deploy(server, name)
    plan = await first(name).apply(transport)
    assert {each.action for each in plan.steps if each.kind == "mapping"} == {"create"}
    assert await settled(first(name), transport) == ""

    plan = await second(name).plan(transport)
    details = {each.kind: each.detail for each in plan["change"]}
    assert "MemorySize: 128 -> 256" in details["function"]
    assert "tag team: none -> shop" in details["function"]
    assert "variable MODE: none -> set" in details["function"], "its value may be a secret"
    queue, stream = (each.detail for each in plan["change"] if each.kind == "mapping")
    assert "BatchSize: 10 -> 5" in queue
    assert "tag team: none -> shop" in queue
    assert "FilterCriteria: " in queue
    assert "ScalingConfig: " in queue
    assert "Enabled: none -> " not in queue
    assert "BisectBatchOnFunctionError: true -> none" in stream
    assert "MaximumRetryAttempts: none -> 7" in stream
    await second(name).apply(transport)
    assert await settled(second(name), transport) == ""

    rest = Topology(QueueSpec(name, dead_letters=False), declared(name, memory=256, environment={"MODE": "secret"}))
    drift = (await rest.plan(transport))["drift"]
    assert sorted(each.kind for each in drift) == ["mapping", "mapping"]
    await rest.apply(transport, delete=True)
    assert await settled(rest, transport) == ""


class First:
    """A service where another process has made the mapping between the look and the call; no emulator refuses that."""

    def __init__(self, *, there: bool) -> None:
        self._lists = [[], [{"UUID": "1"}] if there else []]

    async def call(self, service: str, operation: str, **given: Any) -> dict[str, Any]:
        if operation == "CreateEventSourceMapping":
            raise Conflict("an event source mapping with this function and source exists")
        return {"EventSourceMappings": self._lists.pop(0)}


async def test_a_mapping_that_another_process_made_meanwhile_is_made():
    arns = Arns("aws", "eu-central-1", "123456789012")
    step = await provision_mapping(cast("ServiceClient", First(there=True)), arns, mapping(), apply=True)
    assert step.action == "create"
    with pytest.raises(Conflict):
        await provision_mapping(cast("ServiceClient", First(there=False)), arns, mapping(), apply=True)


@pytest.mark.aws
async def test_a_mapping_of_a_function_that_is_not_there_says_so(moto_server, aws):
    name = f"m{uuid4().hex[:8]}"
    topology = Topology(QueueSpec(name, dead_letters=False), mapping(function=name, queue=name))
    assert [each.action for each in (await topology.plan(aws)).steps] == ["create", "create"]
    with pytest.raises(ChannelNotFound):
        await topology.apply(aws)


@pytest.mark.aws
async def test_a_mapping_invokes_its_function_with_what_its_filter_lets_through(ministack):
    """The function puts its event into a bucket, where it is looked for."""
    name = f"m{uuid4().hex[:8]}"
    s3 = ministack.client("s3")
    s3.create_bucket(Bucket=name)
    deploy(ministack, name, SEEN=f"{ministack.url}/{name}/seen")
    topology = Topology(
        QueueSpec(name, visibility=60, dead_letters=False), mapping(function=name, queue=name, filter=BODY)
    )
    async with AwsTransport(
        region=ministack.region, session=ministack.session, endpoint_url=ministack.url, long_poll=1.0
    ) as aws:
        await topology.apply(aws)
        await aws.queue(name).send(Message({"kind": "b", "n": 1}), Message({"kind": "a", "n": 2}))
        for _ in range(600):
            if s3.list_objects_v2(Bucket=name).get("KeyCount"):
                break
            await asyncio.sleep(0.1)
    event = json.loads(s3.get_object(Bucket=name, Key="seen")["Body"].read())
    assert [json.loads(each["body"]) for each in event["Records"]] == [{"kind": "a", "n": 2}]


# As a template.


def everything() -> Topology:
    return Topology(
        QueueSpec("orders", visibility=120),
        StreamSpec("clicks"),
        BusSpec("shop"),
        RuleSpec("shop", "billing", targets=(TargetSpec(function="billing"),)),
        FunctionSpec(
            name="billing", handler="billing.app.handler", uses=["topic:quotes", "queue:orders-dead", "bucket:lake"]
        ),
        mapping(function="billing", queue="orders", filter=BODY, max_concurrency=5, metrics=True, tags={"a": "b"}),
        EventSourceMappingSpec(
            function="billing",
            stream="clicks",
            starting_position=datetime(2026, 1, 1, tzinfo=UTC),
            bisect=True,
            parallelization=2,
            max_age=timedelta(hours=1),
            on_failure="orders-dead",
        ),
        EventSourceMappingSpec(
            function="billing",
            table_stream=TABLE,
            patterns=[{"dynamodb": {"NewImage": {"paid": {"BOOL": [True]}}}}],
            tumbling_window=timedelta(minutes=1),
            on_failure=TOPIC,
        ),
        EventSourceMappingSpec(
            function="billing", broker=BROKER, destination="orders", secret=SECRET, virtual_host="v"
        ),
        EventSourceMappingSpec(
            function="other", cluster=CLUSTER, kafka_topic="orders", consumer_group="g", pollers=(1, 4), max_attempts=3
        ),
    )


@pytest.mark.parametrize("sam", [False, True])
def test_the_template_is_sound(sam):
    assert findings(template(everything(), sam=sam)) == []


def test_a_rule_may_call_a_function_of_its_stack_once_that_is_there():
    resources = template(everything())["Resources"].values()
    (permission,) = [each["Properties"] for each in resources if each["Type"] == "AWS::Lambda::Permission"]
    assert permission["FunctionName"] == {"Fn::GetAtt": ["FunctionBilling", "Arn"]}


def test_the_template_has_what_is_declared():
    resources = template(everything())["Resources"].values()
    made = [each["Properties"] for each in resources if each["Type"] == "AWS::Lambda::EventSourceMapping"]
    queue, stream, table, broker, cluster = made
    assert queue["FilterCriteria"] == {"Filters": [{"Pattern": '{"body": {"kind": ["a"]}}'}]}
    assert queue["ScalingConfig"] == {"MaximumConcurrency": 5}
    assert queue["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert queue["EventSourceArn"] == {"Fn::GetAtt": ["QueueOrders", "Arn"]}
    assert (stream["StartingPosition"], stream["StartingPositionTimestamp"]) == ("AT_TIMESTAMP", 1767225600)
    assert stream["DestinationConfig"] == {"OnFailure": {"Destination": {"Fn::GetAtt": ["QueueOrdersDead", "Arn"]}}}
    assert table["TumblingWindowInSeconds"] == 60
    assert broker["SourceAccessConfigurations"] == [
        {"Type": "BASIC_AUTH", "URI": SECRET},
        {"Type": "VIRTUAL_HOST", "URI": "v"},
    ]
    assert (cluster["FunctionName"], cluster["Topics"]) == ("other", ["orders"])
    assert cluster["MaximumRetryAttempts"] == 3
    assert cluster["ProvisionedPollerConfig"] == {"MinimumPollers": 1, "MaximumPollers": 4}
