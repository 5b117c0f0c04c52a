"""Messages as EventBridge events, both ways: what a bus carries, and what its targets get.

    type    -> detail-type         body     -> detail, a JSON object, with the reserved key ``eip`` for the envelope
    source  -> source              created  -> time, in whole seconds

Events of others (AWS services, partners, programs without this library) are read the same way. What a message has no
field for is in its headers: ``event-id``, ``event-account``, ``event-region``, ``event-time``, ``event-resources``
(a JSON list), and ``replay-name`` for an event that a replay brought.

Shared by the AWS driver and the embedded one, which writes and reads the same events.
"""

from eip.transports._event_format.reading import event_time as event_time
from eip.transports._event_format.reading import is_event as is_event
from eip.transports._event_format.reading import message_of as message_of
from eip.transports._event_format.reading import read_event as read_event
from eip.transports._event_format.reading import undelivered as undelivered
from eip.transports._event_format.sent_event import SentEvent as SentEvent
from eip.transports._event_format.writing import EventEntry as EventEntry
from eip.transports._event_format.writing import as_bus_predicate as as_bus_predicate
from eip.transports._event_format.writing import entry_of as entry_of

__all__ = [
    "EventEntry",
    "SentEvent",
    "as_bus_predicate",
    "entry_of",
    "event_time",
    "is_event",
    "message_of",
    "read_event",
    "undelivered",
]
