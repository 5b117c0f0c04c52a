"""Drivers, one folder each; what they share is `eip.channels`.

    from eip.transports import AwsTransport

A driver is imported when its name is first used.
"""

from typing import TYPE_CHECKING

from eip._lazy import export_lazily

if TYPE_CHECKING:
    from eip.transports.activemq import ActiveMQTransport as ActiveMQTransport
    from eip.transports.aws import AwsTransport as AwsTransport
    from eip.transports.memory import MemoryTransport as MemoryTransport

__all__ = ["ActiveMQTransport", "AwsTransport", "MemoryTransport"]

export_lazily(
    __name__,
    {
        "ActiveMQTransport": "eip.transports.activemq",
        "AwsTransport": "eip.transports.aws",
        "MemoryTransport": "eip.transports.memory",
    },
)
