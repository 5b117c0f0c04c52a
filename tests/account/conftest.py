"""The tests of `make test-aws`: on a real account, named by EIP_TEST_AWS_ACCOUNT, and never without it.

What a topology makes is tagged, noted and removed when its test has ended; tables that were not there before, too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from aiobotocore.session import get_session
from botocore.exceptions import ClientError

from eip.topology import BusSpec, QueueSpec, Resource, StreamSpec, TopicSpec
from eip.transports.aws import AwsTransport
from tests.support.environment import ACCOUNT_VARIABLE, is_account_run
from tests.transports.aws.conftest import AwsHarness

collect_ignore_glob = [] if is_account_run() else ["test_*.py"]

TAG = "aioeip-test"
RUN = f"{TAG}-{uuid4().hex[:8]}"
ENDPOINT = os.environ.get("EIP_TEST_AWS_ENDPOINT")
"""An emulator's, to try the tests themselves."""
GONE = ("NonExistentQueue", "QueueDoesNotExist", "NotFound", "ResourceNotFound")


class Made:
    """What the transports of this process made."""

    def __init__(self) -> None:
        self.resources: list[Any] = []

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        """Tag and note whatever is provisioned from now on."""
        provision = AwsTransport.provision

        async def provision_tagged(transport: AwsTransport, resource: Resource, *, apply: bool) -> Any:
            if isinstance(resource, (QueueSpec, TopicSpec, BusSpec, StreamSpec)):
                resource = dataclasses.replace(resource, tags={**resource.tags, TAG: RUN})
            steps = list(await provision(transport, resource, apply=apply))
            if apply and any(step.action == "create" for step in steps):
                self.resources.append(resource)
            return steps

        patch.setattr(AwsTransport, "provision", provision_tagged)

    async def remove(self) -> None:
        """Remove it, the last first; what is gone already is no error."""
        while self.resources:
            resource = self.resources.pop()
            with contextlib.suppress(Missing):
                await _remove(resource)


class Missing(Exception):
    """It is gone already."""


async def sdk(service: str, operation: str, **parameters: Any) -> Any:
    """One call of the SDK."""
    async with get_session().create_client(service, endpoint_url=ENDPOINT) as client:
        try:
            return await getattr(client, operation)(**parameters)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if any(each in code for each in GONE):
                raise Missing(code) from error
            raise


async def _remove(resource: Any) -> None:
    match resource:
        case QueueSpec(name=name):
            await sdk("sqs", "delete_queue", QueueUrl=(await sdk("sqs", "get_queue_url", QueueName=name))["QueueUrl"])
        case TopicSpec(name=name):
            identity = await sdk("sts", "get_caller_identity")
            region = get_session().get_config_variable("region")
            partition = get_session().get_partition_for_region(region)
            await sdk("sns", "delete_topic", TopicArn=f"arn:{partition}:sns:{region}:{identity['Account']}:{name}")
        case StreamSpec(name=name):
            await sdk("kinesis", "delete_stream", StreamName=name, EnforceConsumerDeletion=True)
        case BusSpec(name=name):
            for rule in (await sdk("events", "list_rules", EventBusName=name))["Rules"]:
                of_bus = {"Rule": rule["Name"], "EventBusName": name}
                targets = (await sdk("events", "list_targets_by_rule", **of_bus))["Targets"]
                if targets:
                    await sdk("events", "remove_targets", **of_bus, Ids=[each["Id"] for each in targets])
                await sdk("events", "delete_rule", Name=rule["Name"], EventBusName=name)
            await sdk("events", "delete_event_bus", Name=name)


async def tables() -> set[str]:
    return set((await sdk("dynamodb", "list_tables"))["TableNames"])


@pytest.fixture(autouse=True)
async def made(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Made]:
    """Refuse any other account than the named one; remove what the test made."""
    named, found = os.environ[ACCOUNT_VARIABLE], (await sdk("sts", "get_caller_identity"))["Account"]
    if named != found:
        pytest.exit(f"{ACCOUNT_VARIABLE} is {named}, but the credentials are of {found}: nothing was done", 1)
    found = Made()
    found.watch(monkeypatch)
    before = await tables()
    try:
        yield found
    finally:
        await found.remove()
        for table in await tables() - before:
            await sdk("dynamodb", "delete_table", TableName=table)


@pytest.fixture
async def aws() -> AsyncIterator[AwsTransport]:
    async with AwsTransport(endpoint_url=ENDPOINT, long_poll=5.0 if ENDPOINT is None else 1.0) as transport:
        yield transport


class Emulator:
    """The other program, for `AwsHarness`."""

    def client(self, service: str) -> Any:
        import boto3

        return boto3.client(service, endpoint_url=ENDPOINT)


@pytest.fixture
def harness(aws: AwsTransport) -> AwsHarness:
    found = AwsHarness(aws, Emulator())
    if ENDPOINT is None:  # far away, and consistent only after a while
        found.lease, found.quiet, found.timeout = 10.0, 5.0, 120.0
    return found
