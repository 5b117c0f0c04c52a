"""Analytics and inventory as Lambda functions, with the events that SQS sends, and no more rights than they use."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from eip.stores.dynamodb import create_table
from eip.topology import Topology
from eip.transports.aws import AwsTransport, FunctionSpec
from eip.transports.aws.cloudformation import template
from examples.job_events import channels as names
from examples.job_events import functions
from examples.job_events.channels import topology
from examples.job_events.inventory_tables import DynamoInventory
from examples.job_events.model import message_of
from examples.job_events.translation import translate
from tests.examples.job_events.test_parts import ROW, change
from tests.support.iam import actions_of, recorded_actions
from tests.support.lambda_events import Context, failures, sqs, sqs_event_record
from tests.transports.aws.test_cloudformation import findings

ROOT = Path(__file__).parents[3]


@pytest.fixture
def places(moto_server, monkeypatch) -> Iterator[Any]:
    """The bucket, the tables and the channels of one test, and functions as an execution environment finds them."""
    name = f"job-events-{uuid4().hex[:8]}"
    for variable, value in {"AWS_ENDPOINT_URL": moto_server.url, "AWS_DEFAULT_REGION": moto_server.region}.items():
        monkeypatch.setenv(variable, value)
    for constant in ("BUCKET", "LAKE_TABLE", "INVENTORY_TABLE"):
        monkeypatch.setattr(functions, constant, name if constant == "BUCKET" else f"{name}-{constant.lower()}")
    moto_server.client("s3").create_bucket(Bucket=name)
    asyncio.run(prepare(moto_server))
    yield moto_server
    functions.analytics.close()
    functions.inventory.close()
    sqs_client = moto_server.client("sqs")
    for queue in (names.ANALYTICS, names.INVENTORY):  # the next test's are empty
        sqs_client.delete_queue(QueueUrl=sqs_client.get_queue_url(QueueName=queue)["QueueUrl"])


async def prepare(server: Any) -> None:
    async with server.session.create_client("dynamodb", endpoint_url=server.url) as client:
        await create_table(client, functions.LAKE_TABLE)
        await DynamoInventory(client, functions.INVENTORY_TABLE).create()
    async with AwsTransport(
        region=server.region, session=server.session, endpoint_url=server.url, long_poll=1.0
    ) as aws:
        await topology().apply(aws)
        second = {**ROW, "job_no": "8"}
        changes = [change(1, None, ROW), change(2, ROW, {**ROW, "sal_minor": 5}), change(3, None, second)]
        events = [translate(each, name_of(server)) for each in [*changes, change(4, second, None)]]
        await aws.topic(names.TOPIC).send(*(message_of(each) for each in events if each is not None))


def name_of(server: Any) -> str:
    """An origin that this test alone has: the topic drops what it had within five minutes."""
    return functions.BUCKET


def delivered(server: Any, queue: str) -> dict[str, Any]:
    """What a queue holds, as Lambda calls a function with it."""
    client = server.client("sqs")
    url = client.get_queue_url(QueueName=queue)["QueueUrl"]
    given = {"MessageAttributeNames": ["All"], "AttributeNames": ["All"], "MaxNumberOfMessages": 10}
    records, arn = list[dict[str, Any]](), f"arn:aws:sqs:{server.region}:{server.account}:{queue}"
    while found := client.receive_message(QueueUrl=url, **given).get("Messages"):
        records += [sqs_event_record(each, arn) for each in found]
    return sqs(*records)


def lines(server: Any) -> list[dict[str, Any]]:
    s3 = server.client("s3")
    objects = s3.list_objects_v2(Bucket=functions.BUCKET).get("Contents", ())
    texts = [s3.get_object(Bucket=functions.BUCKET, Key=each["Key"])["Body"].read() for each in objects]
    return [json.loads(line) for text in texts for line in text.splitlines()]


@pytest.mark.aws
def test_the_functions_do_what_the_services_do_with_the_events_that_sqs_sends(places):
    events = delivered(places, names.ANALYTICS)
    assert len(events["Records"]) == 4
    assert failures(functions.analytics(events, Context())) == []
    assert failures(functions.analytics(events, Context())) == [], "a batch that comes twice"
    found = sorted(lines(places), key=lambda line: line["position"])
    assert [each["type"] for each in found] == ["JobCreated", "JobSalaryUpdated", "JobCreated", "JobDeleted"]

    wanted = delivered(places, names.INVENTORY)
    assert len(wanted["Records"]) == 3, "the subscription filters"
    assert failures(functions.inventory(wanted, Context())) == []
    rows = places.client("dynamodb").scan(TableName=functions.INVENTORY_TABLE)["Items"]
    assert {int(each["job_id"]["N"]): "job" in each for each in rows} == {7: True, 8: False}


@pytest.mark.aws
def test_a_message_that_is_no_event_comes_again_alone(places):
    events = delivered(places, names.ANALYTICS)
    odd = {**events["Records"][0], "messageId": "odd", "body": '{"type": "JobPainted"}', "messageAttributes": {}}
    odd["attributes"] = {**odd["attributes"], "MessageGroupId": "JOB-99"}
    assert failures(functions.analytics(sqs(odd, *events["Records"]), Context())) == ["odd"]
    assert len(lines(places)) == 4
    assert failures(functions.inventory(sqs(odd), Context())) == ["odd"]


@pytest.mark.aws
def test_each_functions_role_may_do_what_its_code_calls_and_nothing_else(places):
    made = template(functions.functions())["Resources"]
    for function, queue in ((functions.analytics, names.ANALYTICS), (functions.inventory, names.INVENTORY)):
        role = f"RoleJobEvents{'Analytics' if queue == names.ANALYTICS else 'Inventory'}"
        events = delivered(places, queue)
        with recorded_actions() as called:
            assert failures(function(events, Context())) == []
        assert called == actions_of(made[role], without=("logs", "sqs")), role


@pytest.mark.aws
async def test_deployed_and_applied_they_are_called_by_lambda_itself(ministack):
    """Topic, queues, mappings, functions, lake and table: nothing here runs but the service."""
    options = {"region": ministack.region, "session": ministack.session, "endpoint_url": ministack.url}
    here = {"AWS_ENDPOINT_URL": ministack.url, "JOB_EVENTS_BUCKET": functions.BUCKET}
    resources = [
        replace(each, environment=here) if isinstance(each, FunctionSpec) else each
        for each in functions.functions().resources
    ]
    for each in resources:
        if isinstance(each, FunctionSpec):
            deploy(ministack, each)
    ministack.client("s3").create_bucket(Bucket=functions.BUCKET)
    async with (
        AwsTransport(**options, long_poll=1.0) as aws,
        ministack.session.create_client("dynamodb", endpoint_url=ministack.url) as client,
    ):
        await create_table(client, functions.LAKE_TABLE)
        await DynamoInventory(client, functions.INVENTORY_TABLE).create()
        assert (await Topology(*resources).apply(aws))["create"]
        events = [translate(each, "db") for each in (change(1, None, ROW), change(2, ROW, {**ROW, "sal_minor": 5}))]
        await aws.topic(names.TOPIC).send(*(message_of(each) for each in events if each is not None))
        for _ in range(300):
            if len(lines(ministack)) == 2 and (await client.scan(TableName=functions.INVENTORY_TABLE))["Items"]:
                break
            await asyncio.sleep(0.1)
        else:
            pytest.fail("the functions were not called, or failed")


def deploy(server: Any, function: FunctionSpec) -> None:
    """What ``sam deploy`` does: the code, and a first configuration."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in (ROOT / "examples").rglob("*.py"):
            archive.write(path, path.relative_to(ROOT))
    given = {"Runtime": "python3.11", "Role": "arn:aws:iam::123456789012:role/f", "Handler": "app.handler"}
    code = {"ZipFile": packed.getvalue()}
    server.client("lambda").create_function(FunctionName=function.name, Code=code, **given)


def test_the_topology_of_the_functions_is_a_sound_template():
    assert findings(template(functions.functions(), sam=True)) == []
    assert findings(template(functions.functions())) == []
