"""The embedded transport; see `MemoryTransport`."""

from eip.transports.memory.bus import MemoryBus as MemoryBus
from eip.transports.memory.queue import MemoryQueue as MemoryQueue
from eip.transports.memory.stream import MemoryStream as MemoryStream
from eip.transports.memory.topic import MemoryTopic as MemoryTopic
from eip.transports.memory.transport import MemoryTransport as MemoryTransport

__all__ = ["MemoryBus", "MemoryQueue", "MemoryStream", "MemoryTopic", "MemoryTransport"]
