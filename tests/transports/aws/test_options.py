"""What Amazon's services alone know of a declared channel: made, compared, changed, exported."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import NamedTuple
from uuid import uuid4

import pytest

from eip.errors import ConfigurationError
from eip.topology import QueueSpec, StreamSpec, SubscriptionSpec, TopicSpec, Topology
from eip.transports.aws import AwsTransport, DeliveryLogging, KinesisOptions, SnsOptions, SqsOptions
from eip.transports.aws.cloudformation import template
from tests.transports.aws.test_cloudformation import findings

ROLE = "arn:aws:iam::123456789012:role/logs"
KEY = "alias/shop"


def before(name: str) -> list[QueueSpec | TopicSpec | StreamSpec | SubscriptionSpec]:
    return [
        QueueSpec(f"{name}-q", tags={"team": "shop"}, options=[SqsOptions(encryption="sqs")]),
        QueueSpec(f"{name}-q.fifo", dead_letters=False),
        QueueSpec(f"{name}-dlq", dead_letters=False, options=[SqsOptions(redrive_from="none")]),
        TopicSpec(f"{name}-t", tags={"team": "shop"}),
        TopicSpec(f"{name}-t.fifo"),
        SubscriptionSpec(f"{name}-t", "s"),
        StreamSpec(f"{name}-s", tags={"team": "shop"}),
    ]


def after(name: str) -> list[QueueSpec | TopicSpec | StreamSpec | SubscriptionSpec]:
    key = SqsOptions(encryption=KEY, key_reuse=timedelta(hours=1))
    logging = [DeliveryLogging(endpoint="SQS", role=ROLE, success_rate=10), DeliveryLogging(endpoint="HTTP", role=ROLE)]
    return [
        QueueSpec(f"{name}-q", tags={"team": "sales", "cost": "7"}, options=[key], max_message_bytes=65536),
        QueueSpec(f"{name}-q.fifo", dead_letters=False, deduplication_scope="group"),
        QueueSpec(f"{name}-dlq", dead_letters=False, options=[SqsOptions(redrive_from=[f"{name}-q", f"{name}-r"])]),
        TopicSpec(
            f"{name}-t",
            tags={"team": "sales"},
            options=[SnsOptions(encryption=KEY, signature_version=2, tracing=True, logging=logging)],
        ),
        TopicSpec(f"{name}-t.fifo", deduplication_scope="group", options=[SnsOptions(archive=timedelta(days=30))]),
        SubscriptionSpec(f"{name}-t", "s"),
        StreamSpec(
            f"{name}-s",
            tags={"team": "sales"},
            options=[KinesisOptions(encryption=KEY, shard_metrics=["IncomingBytes", "OutgoingBytes"])],
        ),
    ]


class Emulated(NamedTuple):
    """An emulator, and the settings that it takes and forgets; the other one judges them."""

    aws: AwsTransport
    forgets: tuple[str, ...]

    async def differences(self, topology: Topology) -> list[str]:
        steps = [each for each in (await topology.plan(self.aws)).steps if each.action != "same"]
        return [str(each) for each in steps if not any(each.detail.startswith(name) for name in self.forgets)]


FORGOTTEN = {
    "aws": ("RedriveAllowPolicy", "FifoThroughputScope", "ArchivePolicy", "SignatureVersion"),
    "second_aws": ("tag team: none", "encryption", "shard metrics"),
}


@pytest.fixture(params=FORGOTTEN)
def emulated(request):
    return Emulated(request.getfixturevalue(request.param), FORGOTTEN[request.param])


async def test_options_are_made_compared_and_changed(emulated: Emulated):
    name = f"o{uuid4().hex[:6]}"
    first, second = Topology(*before(name)), Topology(*after(name))
    await first.apply(emulated.aws)
    assert await emulated.differences(first) == []
    plan = await second.plan(emulated.aws)
    changed = {each.name: each.detail for each in plan["change"]}
    assert set(changed) == {f"{name}-{each}" for each in ("q", "q.fifo", "dlq", "t", "t.fifo", "s", "q-dead")}
    assert "KmsMasterKeyId: none -> alias/shop" in changed[f"{name}-q"]
    assert "tag team: shop -> sales" in changed[f"{name}-q"]
    assert "tag cost: none -> 7" in changed[f"{name}-q-dead"]  # as its queue
    assert "DeduplicationScope: queue -> messageGroup" in changed[f"{name}-q.fifo"]
    assert "FifoThroughputScope: Topic -> MessageGroup" in changed[f"{name}-t.fifo"]
    assert "tag team: shop -> sales" in changed[f"{name}-s"]
    assert "encryption: none -> alias/shop" in changed[f"{name}-s"]
    assert "shard metrics: enable IncomingBytes, OutgoingBytes" in changed[f"{name}-s"]
    assert (await second.plan(emulated.aws)).steps == plan.steps  # a plan changes nothing
    assert (await second.apply(emulated.aws)).steps == plan.steps
    assert await emulated.differences(second) == []
    attributes = await emulated.aws.queue(f"{name}-q").attributes()
    assert (attributes["KmsMasterKeyId"], attributes["MaximumMessageSize"]) == (KEY, "65536")


async def test_options_are_given_when_a_channel_is_made(emulated: Emulated):
    name = f"o{uuid4().hex[:6]}"
    declared = Topology(*after(name))
    await declared.apply(emulated.aws)
    assert await emulated.differences(declared) == []


async def test_tags_and_settings_that_are_not_declared_stay(emulated: Emulated):
    name = f"o{uuid4().hex[:6]}"
    await Topology(*after(name)).apply(emulated.aws)
    plain = [
        replace(each, tags={}, options=[]) if not isinstance(each, SubscriptionSpec) else each for each in after(name)
    ]
    assert await emulated.differences(Topology(*plain)) == []


def test_the_template_has_them_and_is_sound():
    made = template(Topology(*after("o")))
    assert findings(made) == []
    resources = made["Resources"]
    assert resources["QueueOQ"]["Properties"]["KmsMasterKeyId"] == KEY
    assert resources["QueueOQDead"]["Properties"]["KmsMasterKeyId"] == KEY
    assert resources["QueueOQFifo"]["Properties"]["FifoThroughputLimit"] == "perMessageGroupId"
    assert resources["TopicOTFifo"]["Properties"]["ArchivePolicy"] == {"MessageRetentionPeriod": 30}
    assert resources["StreamOS"]["Properties"]["DesiredShardLevelMetrics"] == ["IncomingBytes", "OutgoingBytes"]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: SqsOptions(encryption=""), "encryption must be 'sqs' or a KMS key"),
        (lambda: SqsOptions(key_reuse=timedelta(seconds=5)), "key_reuse must be 1 minute to 24 hours"),
        (lambda: SqsOptions(redrive_from="some"), "redrive_from must be one of"),
        (lambda: SqsOptions(redrive_from=[]), "redrive_from must name 1 to 10"),
        (lambda: SnsOptions(archive=timedelta(hours=30)), "archive must be 0 to 365 whole days"),
        (lambda: SnsOptions(signature_version=3), "signature_version must be one of"),  # type: ignore[arg-type]
        (lambda: DeliveryLogging(endpoint="SQS", role=ROLE, success_rate=101), "success_rate must be 0 to 100"),
        (lambda: DeliveryLogging(endpoint="SQS", role="logs"), "role must be the ARN"),
        (lambda: KinesisOptions(max_record_bytes=11 * 2**20), "max_record_bytes must be 1 to 10 MiB"),
        (lambda: KinesisOptions(shard_metrics=["Heat"]), "shard_metrics must be one of"),  # type: ignore[list-item]
        (lambda: QueueSpec("q", deduplication_scope="group"), "needs a FIFO queue or topic"),
        (lambda: QueueSpec("q.fifo", deduplication_scope="queue"), "deduplication_scope must be one of"),  # type: ignore[arg-type]
        (lambda: QueueSpec("q", max_message_bytes=0), "max_message_bytes must be >= 1"),
    ],
)
def test_values_out_of_range_are_refused(make, reason):
    with pytest.raises(ConfigurationError, match=reason):
        make()


@pytest.mark.parametrize(
    "wrong", [{"tags": ["a"]}, {"tags": {"a": 1}}, {"options": SqsOptions()}, {"options": ["kms"]}]
)
def test_wrong_types_are_named(wrong):
    with pytest.raises(TypeError, match=next(iter(wrong))):
        QueueSpec("q", **wrong)


async def test_what_the_service_would_refuse_is_refused_in_the_plan(emulated: Emulated):
    for wrong, reason in (
        (QueueSpec("q", max_message_bytes=2**21), "max_message_bytes must be 1 KiB to 1 MiB"),
        (QueueSpec("q", options=[SqsOptions(), SqsOptions()]), "one SqsOptions at most"),
        (TopicSpec("t", options=[SnsOptions(archive=timedelta(days=1))]), "archive needs a FIFO topic"),
        (TopicSpec("t.fifo", options=[SnsOptions(tracing=True)]), "tracing needs a standard topic"),
    ):
        with pytest.raises(ConfigurationError, match=reason):
            await Topology(wrong).plan(emulated.aws)
