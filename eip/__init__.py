"""Enterprise integration patterns as composable asyncio primitives (Hohpe & Woolf, 2003).

What an application needs is here: messages, channels, consumers, topologies. Patterns are in `eip.patterns`, drivers in
`eip.transports`.
"""

from typing import TYPE_CHECKING

from eip._lazy import export_lazily
from eip.channels import Bus as Bus
from eip.channels import Delivery as Delivery
from eip.channels import Queue as Queue
from eip.channels import Receiver as Receiver
from eip.channels import Sender as Sender
from eip.channels import Source as Source
from eip.channels import Stream as Stream
from eip.channels import TemporaryQueue as TemporaryQueue
from eip.channels import Topic as Topic
from eip.channels import Transport as Transport
from eip.channels.addresses import ReturnAddresses as ReturnAddresses
from eip.errors import EipError as EipError
from eip.errors import Park as Park
from eip.errors import Reject as Reject
from eip.errors import RequestTimeout as RequestTimeout
from eip.errors import Retry as Retry
from eip.message import Message as Message
from eip.message import SequenceInfo as SequenceInfo
from eip.retry import Backoff as Backoff
from eip.runtime.consumer import Consumer as Consumer
from eip.runtime.consumer import current_delivery as current_delivery
from eip.runtime.garbage import GarbageCollection as GarbageCollection
from eip.runtime.handlers import Handler as Handler
from eip.runtime.handlers import Middleware as Middleware
from eip.runtime.handlers import Result as Result
from eip.runtime.handlers import middleware as middleware
from eip.runtime.service import Service as Service
from eip.runtime.service import run as run
from eip.runtime.service import running as running

if TYPE_CHECKING:
    from eip.app import App as App
    from eip.app import AppSettings as AppSettings
    from eip.matching import EventPattern as EventPattern
    from eip.matching import FilterPolicy as FilterPolicy
    from eip.runtime.dispatch import Handlers as Handlers
    from eip.topology import ArchiveSpec as ArchiveSpec
    from eip.topology import BusSpec as BusSpec
    from eip.topology import QueueSpec as QueueSpec
    from eip.topology import RuleSpec as RuleSpec
    from eip.topology import StreamSpec as StreamSpec
    from eip.topology import SubscriptionSpec as SubscriptionSpec
    from eip.topology import TargetSpec as TargetSpec
    from eip.topology import TopicSpec as TopicSpec
    from eip.topology import Topology as Topology

__version__ = "0.1.0"

__all__ = [
    "App",
    "AppSettings",
    "ArchiveSpec",
    "Backoff",
    "Bus",
    "BusSpec",
    "Consumer",
    "Delivery",
    "EipError",
    "EventPattern",
    "FilterPolicy",
    "GarbageCollection",
    "Handler",
    "Handlers",
    "Message",
    "Middleware",
    "Park",
    "Queue",
    "QueueSpec",
    "Receiver",
    "Reject",
    "RequestTimeout",
    "Result",
    "Retry",
    "ReturnAddresses",
    "RuleSpec",
    "Sender",
    "SequenceInfo",
    "Service",
    "Source",
    "Stream",
    "StreamSpec",
    "SubscriptionSpec",
    "TargetSpec",
    "TemporaryQueue",
    "Topic",
    "TopicSpec",
    "Topology",
    "Transport",
    "__version__",
    "current_delivery",
    "middleware",
    "run",
    "running",
]

export_lazily(
    __name__,
    {
        "App": "eip.app",
        "AppSettings": "eip.app.settings",
        "Handlers": "eip.runtime.dispatch",
        "EventPattern": "eip.matching",
        "FilterPolicy": "eip.matching",
        "ArchiveSpec": "eip.topology",
        "BusSpec": "eip.topology",
        "QueueSpec": "eip.topology",
        "RuleSpec": "eip.topology",
        "StreamSpec": "eip.topology",
        "SubscriptionSpec": "eip.topology",
        "TargetSpec": "eip.topology",
        "TopicSpec": "eip.topology",
        "Topology": "eip.topology",
    },
)
