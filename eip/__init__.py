"""Enterprise integration patterns as composable asyncio primitives (Hohpe & Woolf, 2003).

The core is here: messages, channels, the consumer. Patterns are in `eip.patterns`, drivers in `eip.transports`.
"""

from eip.addresses import ReturnAddresses as ReturnAddresses
from eip.channels import Bus as Bus
from eip.channels import Delivery as Delivery
from eip.channels import Queue as Queue
from eip.channels import Receiver as Receiver
from eip.channels import Sender as Sender
from eip.channels import Source as Source
from eip.channels import Stream as Stream
from eip.channels import Topic as Topic
from eip.channels import Transport as Transport
from eip.consumer import Consumer as Consumer
from eip.consumer import current_delivery as current_delivery
from eip.handler import Handler as Handler
from eip.message import Message as Message
from eip.message import SequenceInfo as SequenceInfo
from eip.retry import Backoff as Backoff
from eip.service import run as run

__version__ = "0.1.0"

__all__ = [
    "Backoff",
    "Bus",
    "Consumer",
    "Delivery",
    "Handler",
    "Message",
    "Queue",
    "Receiver",
    "ReturnAddresses",
    "Sender",
    "SequenceInfo",
    "Source",
    "Stream",
    "Topic",
    "Transport",
    "__version__",
    "current_delivery",
    "run",
]
