"""What the services are asked to do: the calls, messages and bytes that appear on a bill.

Every driver reports each call to its transport's meter, so that cost per handled message is a measured figure.
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["Meter"]


class Meter(Protocol):
    """Receives one report per call to a service; must be fast and must not raise."""

    def record(
        self,
        service: str,
        channel: str,
        operation: str,
        *,
        messages: int = 0,
        size: int = 0,
        units: int = 1,
        calls: int = 1,
    ) -> None:
        """Count a call.

        Args:
            service: ``"sqs"``, ``"sns"``, ``"eventbridge"``, ``"kinesis"``, ``"activemq"``, ``"memory"``.
            channel: the channel's name.
            operation: the service's own name of the call, e.g. ``"SendMessageBatch"``.
            messages: messages carried; 0 for an empty receive.
            size: payload bytes carried.
            units: billed requests of the call (64 KB chunks on SQS and SNS).
            calls: HTTP calls or frames, where several are reported at once.
        """
        ...
