"""Makes queues, and compares them with what there is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from eip.errors import ChannelNotFound, ConfigurationError
from eip.topology import QueueSpec, Step
from eip.transports.aws._client.service_client import ServiceClient
from eip.transports.aws._provisioning import changed_tags, describe_changes, differences
from eip.transports.aws.arns import Arns
from eip.transports.aws.options import SqsOptions, option_of

__all__ = ["provision_queue"]

_ALLOW_ALL: Final = json.dumps({"redrivePermission": "allowAll"})
_MAX_VISIBILITY_S: Final = 43_200
_MIN_RETENTION: Final = timedelta(minutes=1)
_MAX_RETENTION: Final = timedelta(days=14)
_MAX_RECEIVES: Final = 1000
_MESSAGE_BYTES: Final = (1024, 1_048_576)
_DEFAULTS: Final = {"DeduplicationScope": "queue", "FifoThroughputLimit": "perQueue", "RedriveAllowPolicy": _ALLOW_ALL}
"""What a queue has that was never set, and some emulators do not list."""


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
            more: dict[str, Any] = {"tags": dict(queue.tags)} if queue.tags else {}
            await client.call("sqs", "CreateQueue", channel=queue.name, QueueName=queue.name, Attributes=given, **more)
        return Step("create", "queue", queue.name)
    found = await client.call("sqs", "GetQueueAttributes", QueueUrl=url, AttributeNames=["All"])
    changes = differences(wanted, _DEFAULTS | found.get("Attributes", {}))
    tags = await changed_tags(client, queue.tags, "sqs", "ListQueueTags", channel=queue.name, QueueUrl=url)
    if not changes and not tags:
        return Step("same", "queue", queue.name)
    if apply and changes:
        changed = {name: wanted[name] for name in changes}
        await client.call("sqs", "SetQueueAttributes", channel=queue.name, QueueUrl=url, Attributes=changed)
    if apply and tags:
        await client.call("sqs", "TagQueue", channel=queue.name, QueueUrl=url, Tags=dict(queue.tags))
    return Step("change", "queue", queue.name, describe_changes(changes | tags))


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
    smallest, largest = _MESSAGE_BYTES
    if queue.max_message_bytes is not None and not smallest <= queue.max_message_bytes <= largest:
        raise ConfigurationError(
            f"queue {queue.name}: max_message_bytes must be 1 KiB to 1 MiB, got {queue.max_message_bytes}"
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
        by_group = queue.deduplication_scope == "group"
        wanted["DeduplicationScope"] = "messageGroup" if by_group else "queue"
        wanted["FifoThroughputLimit"] = "perMessageGroupId" if by_group else "perQueue"
    if queue.max_message_bytes is not None:
        wanted["MaximumMessageSize"] = str(queue.max_message_bytes)
    options = option_of(queue.options, SqsOptions)
    return wanted if options is None else wanted | _of_options(arns, options)


def _of_options(arns: Arns, options: SqsOptions) -> dict[str, str]:
    wanted: dict[str, str] = {}
    if options.encryption == "sqs":
        wanted |= {"SqsManagedSseEnabled": "true", "KmsMasterKeyId": ""}
    elif options.encryption is not None:
        wanted["KmsMasterKeyId"] = options.encryption
        wanted["KmsDataKeyReusePeriodSeconds"] = str(round(options.key_reuse.total_seconds()))
    if options.redrive_from is not None:
        wanted["RedriveAllowPolicy"] = json.dumps(_redrive_allow_policy(options.redrive_from, arns))
    return wanted


def _redrive_allow_policy(sources: str | Sequence[str], arns: Arns) -> dict[str, Any]:
    """The policy of which queues may have this one as their dead-letter queue."""
    if isinstance(sources, str):
        return {"redrivePermission": "allowAll" if sources == "all" else "denyAll"}
    queues = sorted(each if each.startswith("arn:") else arns.of("queue", each) for each in sources)
    return {"redrivePermission": "byQueue", "sourceQueueArns": queues}
