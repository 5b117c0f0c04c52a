"""Channels and what a driver implements: senders, receivers, deliveries, and the transport that hands them out.

The contracts in the docstrings are what `eip.testing.conformance` holds every transport to.
"""

from eip.channels._dead_letters import send_dead_letter as send_dead_letter
from eip.channels._dead_letters import with_dead_letter_headers as with_dead_letter_headers
from eip.channels._dead_letters import without_dead_letter_headers as without_dead_letter_headers
from eip.channels._kinds import Bus as Bus
from eip.channels._kinds import Filter as Filter
from eip.channels._kinds import Queue as Queue
from eip.channels._kinds import Source as Source
from eip.channels._kinds import Stream as Stream
from eip.channels._kinds import Topic as Topic
from eip.channels._receiving import Delivery as Delivery
from eip.channels._receiving import Receiver as Receiver
from eip.channels._receiving import Unsettled as Unsettled
from eip.channels._sending import Sender as Sender
from eip.channels._temporary import TemporaryQueue as TemporaryQueue
from eip.channels._transport import ServerInfo as ServerInfo
from eip.channels._transport import Transport as Transport
from eip.channels.decorators import SenderDecorator as SenderDecorator

__all__ = [
    "Bus",
    "Delivery",
    "Filter",
    "Queue",
    "Receiver",
    "Sender",
    "SenderDecorator",
    "ServerInfo",
    "Source",
    "Stream",
    "TemporaryQueue",
    "Topic",
    "Transport",
    "Unsettled",
    "send_dead_letter",
    "with_dead_letter_headers",
    "without_dead_letter_headers",
]
