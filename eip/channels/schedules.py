"""The protocol of services that send messages at their time by themselves, for `eip.patterns.MessageScheduler`."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Protocol, runtime_checkable

from eip.channels._sending import Sender
from eip.message import Message

__all__ = ["Schedules"]


@runtime_checkable
class Schedules(Protocol):
    """Schedules of messages that a service keeps and carries out, e.g. `AwsTransport.schedules`."""

    @abstractmethod
    async def put(
        self,
        key: str,
        message: Message[Any],
        to: Sender,
        *,
        first: float,
        interval: float | None,
        cron: str | None,
        timezone: str,
    ) -> None:
        """Have the service send the message; replaces what it has under the key.

        Args:
            key: any text.
            message: as it is to be sent.
            to: a channel of the same service.
            first: when it is due first, seconds since the epoch.
            interval: seconds between sendings, where it repeats.
            cron: five fields, where it repeats so.
            timezone: of ``cron``.

        Raises:
            ConfigurationError: what the service cannot: such a timetable, or a channel of another service.
            InvalidMessage: a message that cannot travel so.
            TransportError: the service failed.
        """
        ...

    @abstractmethod
    async def remove(self, key: str) -> bool:
        """Have it not sent any more; False where the service does not have it (any more).

        Raises:
            TransportError: the service failed.
        """
        ...
