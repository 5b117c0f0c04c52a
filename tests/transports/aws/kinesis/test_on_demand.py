"""Streams on demand: warm throughput, and how records are distributed. No emulator has them, so a stream stands in."""

from __future__ import annotations

from typing import Any

import botocore.session
import pytest
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator

from eip.errors import ChannelNotFound, ConfigurationError
from eip.topology import StreamSpec, Topology
from eip.transports.aws import AwsTransport, KinesisOptions
from eip.transports.aws.cloudformation import template
from eip.transports.aws.kinesis.provision import provision_stream

MODEL = botocore.session.get_session().get_service_model("kinesis")


class OneStream:
    """A stream as Kinesis describes it; each call's parameters are checked against the SDK's model where it has it."""

    def __init__(self) -> None:
        self.found: dict[str, Any] | None = None
        self.calls: list[str] = []

    async def call(self, _: str, operation: str, *, channel: str, units: int, **given: Any) -> dict[str, Any]:
        del channel, units
        if operation in MODEL.operation_names:
            report = ParamValidator().validate(given, MODEL.operation_model(operation).input_shape)
            assert not report.has_errors(), report.generate_report()
        if operation == "DescribeStreamSummary":
            if self.found is None:
                raise ChannelNotFound("no stream")
            return {"StreamDescriptionSummary": self.found}
        self.calls.append(operation)
        if operation == "CreateStream":
            arn = f"arn:aws:kinesis:eu-central-1:123456789012:stream/{given['StreamName']}"
            self.found = {"StreamARN": arn, "StreamStatus": "ACTIVE", "OpenShardCount": 4, "RetentionPeriodHours": 24}
            self.found["StreamModeDetails"] = given["StreamModeDetails"]
        elif operation == "UpdateStreamWarmThroughput" and self.found is not None:
            self.found["WarmThroughput"] = {"TargetMiBps": given["WarmThroughputMiBps"], "CurrentMiBps": 0}
        elif self.found is not None:
            self.found["RecordDistributionStrategy"] = given["RecordDistributionStrategy"]
        return {}


def declared(**options: Any) -> StreamSpec:
    return StreamSpec("clicks", shards=None, options=[KinesisOptions(**options)])


async def test_warm_throughput_and_distribution_are_made_compared_and_changed():
    service: Any = OneStream()
    wanted = declared(warm_throughput=100, distribution="auto")
    assert (await provision_stream(service, wanted, apply=True)).action == "create"
    assert service.calls == ["CreateStream", "UpdateStreamWarmThroughput", "UpdateStreamRecordDistributionStrategy"]
    assert (await provision_stream(service, wanted, apply=True)).action == "same"
    changed = declared(warm_throughput=0, distribution="key")
    step = await provision_stream(service, changed, apply=False)
    assert step.detail == ("warm throughput: 100 MiB/s -> 0 MiB/s, distribution: AUTO -> USER_PARTITION_KEY")
    assert (await provision_stream(service, changed, apply=True)) == step
    assert (await provision_stream(service, declared(), apply=True)).action == "same", "not declared: as it is"


@pytest.mark.parametrize("options", [{"warm_throughput": 10}, {"distribution": "auto"}])
async def test_they_need_a_stream_on_demand(options):
    provisioned = StreamSpec("clicks", shards=2, options=[KinesisOptions(**options)])
    with pytest.raises(ConfigurationError, match=f"{next(iter(options))} needs a stream on demand"):
        await provision_stream(OneStream(), provisioned, apply=False)  # type: ignore[arg-type]


def test_values_out_of_range_are_refused():
    with pytest.raises(ConfigurationError, match="warm_throughput must be >= 0"):
        KinesisOptions(warm_throughput=-1)
    with pytest.raises(ConfigurationError, match="distribution must be one of"):
        KinesisOptions(distribution="even")  # type: ignore[arg-type]


@pytest.mark.aws
async def test_an_sdk_that_does_not_know_a_call_says_what_to_do(moto_server):
    async with AwsTransport(
        region=moto_server.region, session=moto_server.session, endpoint_url=moto_server.url
    ) as aws:
        with pytest.raises(ConfigurationError, match="update botocore"):
            await aws._client.call("kinesis", "FoldStream")
        with pytest.raises(ClientError):  # the SDK's own client beside it
            await (await aws.client("kinesis")).describe_stream_summary(StreamName="none")


def test_the_template_has_them():
    made = template(Topology(declared(warm_throughput=100, distribution="auto")))
    properties = made["Resources"]["StreamClicks"]["Properties"]
    assert (properties["WarmThroughputMiBps"], properties["RecordDistributionStrategy"]) == (100, "AUTO")
