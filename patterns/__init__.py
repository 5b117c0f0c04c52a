"""The patterns, one module each, named as in the book (Hohpe & Woolf).

    from eip.patterns import ScatterGather, idempotent

A pattern's module is imported when one of its names is first used.
"""

from typing import TYPE_CHECKING

from eip._lazy import export_lazily

if TYPE_CHECKING:
    from eip.patterns.aggregator import Aggregate as Aggregate
    from eip.patterns.aggregator import Aggregator as Aggregator
    from eip.patterns.batching import batched as batched
    from eip.patterns.circuit_breaker import CircuitBreaker as CircuitBreaker
    from eip.patterns.claim_check import ClaimCheckSender as ClaimCheckSender
    from eip.patterns.claim_check import claim_checked as claim_checked
    from eip.patterns.cloud_events import CloudEvents as CloudEvents
    from eip.patterns.cloud_events import cloud_events as cloud_events
    from eip.patterns.content_based_router import ContentBasedRouter as ContentBasedRouter
    from eip.patterns.content_enricher import content_enricher as content_enricher
    from eip.patterns.dynamic_router import DynamicRouter as DynamicRouter
    from eip.patterns.expiration import Expiring as Expiring
    from eip.patterns.expiration import expiration as expiration
    from eip.patterns.fifo import DeduplicatingSender as DeduplicatingSender
    from eip.patterns.fifo import SequencingSender as SequencingSender
    from eip.patterns.idempotent_receiver import IdempotentReceiver as IdempotentReceiver
    from eip.patterns.idempotent_receiver import idempotent as idempotent
    from eip.patterns.inbox import Inbox as Inbox
    from eip.patterns.message_filter import message_filter as message_filter
    from eip.patterns.message_history import Hop as Hop
    from eip.patterns.message_history import history_of as history_of
    from eip.patterns.message_history import message_history as message_history
    from eip.patterns.message_scheduler import MessageScheduler as MessageScheduler
    from eip.patterns.message_scheduler import ScheduledMessage as ScheduledMessage
    from eip.patterns.message_store import MessageStore as MessageStore
    from eip.patterns.normalizer import Normalizer as Normalizer
    from eip.patterns.outbox import OutboxRelay as OutboxRelay
    from eip.patterns.packer import Packer as Packer
    from eip.patterns.pipeline import Pipeline as Pipeline
    from eip.patterns.pipeline import pipeline as pipeline
    from eip.patterns.process import Context as Context
    from eip.patterns.process import Instance as Instance
    from eip.patterns.process import Process as Process
    from eip.patterns.process import ProcessEnded as ProcessEnded
    from eip.patterns.process import Steps as Steps
    from eip.patterns.process_manager import ProcessManager as ProcessManager
    from eip.patterns.recipient_list import RecipientList as RecipientList
    from eip.patterns.recipient_list import fan_out as fan_out
    from eip.patterns.redrive import redrive as redrive
    from eip.patterns.replay import Replay as Replay
    from eip.patterns.replay import replay_messages as replay_messages
    from eip.patterns.replay import replay_stream as replay_stream
    from eip.patterns.replay import start_replay as start_replay
    from eip.patterns.reply_queues import ReplyQueues as ReplyQueues
    from eip.patterns.request_reply import RequestFailed as RequestFailed
    from eip.patterns.request_reply import RequestReply as RequestReply
    from eip.patterns.resequencer import Resequencer as Resequencer
    from eip.patterns.scatter_gather import Gathered as Gathered
    from eip.patterns.scatter_gather import Gathering as Gathering
    from eip.patterns.scatter_gather import ScatterGather as ScatterGather
    from eip.patterns.splitter import splitter as splitter
    from eip.patterns.throttle import limited_by as limited_by
    from eip.patterns.throttle import throttle as throttle
    from eip.patterns.topic_replay import TopicReplay as TopicReplay
    from eip.patterns.topic_replay import start_topic_replay as start_topic_replay
    from eip.patterns.translator import translator as translator
    from eip.patterns.webhook import Webhook as Webhook
    from eip.patterns.webhook_signatures import HmacSignature as HmacSignature
    from eip.patterns.wire_tap import wire_tap as wire_tap

__all__ = [
    "Aggregate",
    "Aggregator",
    "CircuitBreaker",
    "ClaimCheckSender",
    "CloudEvents",
    "ContentBasedRouter",
    "Context",
    "DeduplicatingSender",
    "DynamicRouter",
    "Expiring",
    "Gathered",
    "Gathering",
    "HmacSignature",
    "Hop",
    "IdempotentReceiver",
    "Inbox",
    "Instance",
    "MessageScheduler",
    "MessageStore",
    "Normalizer",
    "OutboxRelay",
    "Packer",
    "Pipeline",
    "Process",
    "ProcessManager",
    "RecipientList",
    "Replay",
    "ReplyQueues",
    "RequestFailed",
    "RequestReply",
    "Resequencer",
    "ScatterGather",
    "ScheduledMessage",
    "SequencingSender",
    "TopicReplay",
    "Webhook",
    "batched",
    "claim_checked",
    "cloud_events",
    "content_enricher",
    "expiration",
    "fan_out",
    "history_of",
    "idempotent",
    "limited_by",
    "message_filter",
    "message_history",
    "pipeline",
    "redrive",
    "replay_messages",
    "replay_stream",
    "splitter",
    "start_replay",
    "start_topic_replay",
    "throttle",
    "translator",
    "wire_tap",
]

export_lazily(
    __name__,
    {
        "Aggregate": "eip.patterns.aggregator",
        "Aggregator": "eip.patterns.aggregator",
        "Packer": "eip.patterns.packer",
        "batched": "eip.patterns.batching",
        "CircuitBreaker": "eip.patterns.circuit_breaker",
        "ClaimCheckSender": "eip.patterns.claim_check",
        "claim_checked": "eip.patterns.claim_check",
        "CloudEvents": "eip.patterns.cloud_events",
        "cloud_events": "eip.patterns.cloud_events",
        "ContentBasedRouter": "eip.patterns.content_based_router",
        "content_enricher": "eip.patterns.content_enricher",
        "DynamicRouter": "eip.patterns.dynamic_router",
        "Expiring": "eip.patterns.expiration",
        "expiration": "eip.patterns.expiration",
        "DeduplicatingSender": "eip.patterns.fifo",
        "SequencingSender": "eip.patterns.fifo",
        "IdempotentReceiver": "eip.patterns.idempotent_receiver",
        "idempotent": "eip.patterns.idempotent_receiver",
        "Inbox": "eip.patterns.inbox",
        "message_filter": "eip.patterns.message_filter",
        "Hop": "eip.patterns.message_history",
        "history_of": "eip.patterns.message_history",
        "message_history": "eip.patterns.message_history",
        "MessageScheduler": "eip.patterns.message_scheduler",
        "ScheduledMessage": "eip.patterns.message_scheduler",
        "MessageStore": "eip.patterns.message_store",
        "Normalizer": "eip.patterns.normalizer",
        "OutboxRelay": "eip.patterns.outbox",
        "Pipeline": "eip.patterns.pipeline",
        "pipeline": "eip.patterns.pipeline",
        "Context": "eip.patterns.process",
        "Instance": "eip.patterns.process",
        "Process": "eip.patterns.process",
        "ProcessEnded": "eip.patterns.process",
        "Steps": "eip.patterns.process",
        "ProcessManager": "eip.patterns.process_manager",
        "RecipientList": "eip.patterns.recipient_list",
        "fan_out": "eip.patterns.recipient_list",
        "redrive": "eip.patterns.redrive",
        "Replay": "eip.patterns.replay",
        "replay_messages": "eip.patterns.replay",
        "replay_stream": "eip.patterns.replay",
        "start_replay": "eip.patterns.replay",
        "TopicReplay": "eip.patterns.topic_replay",
        "start_topic_replay": "eip.patterns.topic_replay",
        "ReplyQueues": "eip.patterns.reply_queues",
        "RequestFailed": "eip.patterns.request_reply",
        "RequestReply": "eip.patterns.request_reply",
        "Resequencer": "eip.patterns.resequencer",
        "Gathered": "eip.patterns.scatter_gather",
        "Gathering": "eip.patterns.scatter_gather",
        "ScatterGather": "eip.patterns.scatter_gather",
        "splitter": "eip.patterns.splitter",
        "limited_by": "eip.patterns.throttle",
        "throttle": "eip.patterns.throttle",
        "translator": "eip.patterns.translator",
        "Webhook": "eip.patterns.webhook",
        "HmacSignature": "eip.patterns.webhook_signatures",
        "wire_tap": "eip.patterns.wire_tap",
    },
)
