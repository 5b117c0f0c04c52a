"""Makes queues, and compares them with what there is."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Final

from eip.errors import ChannelNotFound, ConfigurationError
from eip.topology import QueueSpec, Step
from eip.transports.aws._client.service_client import ServiceClient
from eip.transports.aws._provisioning import describe_changes, differences
from eip.transports.aws.arns import Arns

__all__ = ["provision_queue"]

_MAX_VISIBILITY_S: Final = 43_200
_MIN_RETENTION: Final = timedelta(minutes=1)
_MAX_RETENTION: Final = timedelta(days=14)
_MAX_RECEIVES: Final = 1000


async def provision_queue(client: ServiceClient, arns: Arns, queue: QueueSpec, *, apply: bool) -> Step:
    """The step for a queue."""
    _check(queue)
    wanted = _attributes(arns, queue)
    try:
        url = (await client.call("sqs", "GetQueueUrl", channel=queue.name, QueueName=queue.name))["QueueUrl"]
    except ChannelNotFound:
        if apply:
            given = {name: value for name, value in wanted.items() if value}
            if queue.fifo:
                given["FifoQueue"] = "true"
            await client.call("sqs", "CreateQueue", channel=queue.name, QueueName=queue.name, Attributes=given)
        return Step("create", "queue", queue.name)
    found = await client.call("sqs", "GetQueueAttributes", QueueUrl=url, AttributeNames=["All"])
    changes = differences(wanted, found.get("Attributes", {}))
    if not changes:
        return Step("same", "queue", queue.name)
    if apply:
        changed = {name: wanted[name] for name in changes}
        await client.call("sqs", "SetQueueAttributes", channel=queue.name, QueueUrl=url, Attributes=changed)
    return Step("change", "queue", queue.name, describe_changes(changes))


def _check(queue: QueueSpec) -> None:
    """Validate what SQS alone restricts (CreateQueue, API reference)."""
    if queue.visibility > _MAX_VISIBILITY_S:
        raise ConfigurationError(f"queue {queue.name}: visibility must be at most 12 hours, got {queue.visibility:g} s")
    if not _MIN_RETENTION <= queue.retention <= _MAX_RETENTION:
        raise ConfigurationError(f"queue {queue.name}: retention must be 1 minute to 14 days, got {queue.retention}")
    if queue.max_receive_count > _MAX_RECEIVES:
        raise ConfigurationError(
            f"queue {queue.name}: max_receive_count must be at most {_MAX_RECEIVES:,}, got {queue.max_receive_count}"
        )


def _attributes(arns: Arns, queue: QueueSpec) -> dict[str, str]:
    """The declared attributes as SQS has them; empty: none."""
    wanted = {
        "VisibilityTimeout": str(round(queue.visibility)),
        "MessageRetentionPeriod": str(round(queue.retention.total_seconds())),
        "RedrivePolicy": "",
    }
    if queue.dead_letter_name is not None:
        dead_letters = arns.of("queue", queue.dead_letter_name)
        policy = {"deadLetterTargetArn": dead_letters, "maxReceiveCount": queue.max_receive_count}
        wanted["RedrivePolicy"] = json.dumps(policy)
    if queue.fifo:
        wanted["ContentBasedDeduplication"] = str(queue.content_based_deduplication).lower()
    return wanted
