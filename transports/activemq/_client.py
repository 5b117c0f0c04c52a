"""What the channels of one transport share: how to connect, and the connection that sends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from eip._ids import new_id
from eip.errors import ConfigurationError, StateError
from eip.limits import Capabilities
from eip.telemetry.meter import Meter
from eip.transports._send_completion import SendCompletion
from eip.transports.activemq._addresses import SCHEME
from eip.transports.activemq._batching import BatchAccumulator, Entry
from eip.transports.activemq._stomp.connecting import Connector
from eip.transports.activemq._stomp.reconnecting import ReconnectingConnection

__all__ = ["Client", "temporary_name"]

_FLUSH_TIMEOUT_S: Final = 10.0
"""Seconds for what was accepted for sending, when the client is closed."""
_TEMPORARY_PREFIX: Final = "eip-"
_TEMPORARY_ADDRESS: Final = f"{SCHEME}temp-queue/{_TEMPORARY_PREFIX}"


def temporary_name() -> str:
    """Return a name for a temporary queue of this process."""
    return f"{_TEMPORARY_PREFIX}{new_id()}"


class Client:
    """Connections to the brokers of one transport.

    One connection sends, confirmed; each receiver adds its own to `connections`.

    Args:
        connector: makes the connections.
        limits: of messages.
        meter: records frames; None: nothing is recorded.
    """

    def __init__(self, connector: Connector, *, limits: Capabilities, meter: Meter | None) -> None:
        self.connector, self.limits, self.meter = connector, limits, meter
        self.connections: set[ReconnectingConnection] = set()
        self.sender = ReconnectingConnection(connector, name="sender")
        self._batches = BatchAccumulator(self.sender, meter)
        self._reply_batches: dict[str, BatchAccumulator] = {}
        self.closed = False

    def use_meter(self, meter: Meter | None) -> None:
        """Record frames there from now on."""
        self.meter = self._batches.meter = meter

    def record(self, channel: str, command: str, *, messages: int = 0, size: int = 0) -> None:
        """Record a frame of a channel."""
        if self.meter is not None:
            self.meter.record("activemq", channel, command, messages=messages, size=size, units=0)

    async def open(self) -> None:
        """Connect; raises what `ReconnectingConnection.connection` raises."""
        self.check_open()
        self.connections.add(self.sender)
        await self.sender.connection(timeout=self.connector.open_timeout)

    def check_open(self) -> None:
        """Raise `StateError` if it was closed."""
        if self.closed:
            raise StateError(f"the ActiveMQTransport of {self.connector} is closed: make a new one")

    async def send(self, entries: Sequence[Entry]) -> None:
        """Return when each was accepted; raises `PartialSendError`, or the error of all.

        Requests whose replies go to a temporary queue are sent over that queue's connection, as the broker knows its
        name only there.
        """
        self.check_open()
        if not any((entry.message.return_address or "").startswith(_TEMPORARY_ADDRESS) for entry in entries):
            await self._batches.send(entries)
            return
        completion, parts = SendCompletion(len(entries)), dict[BatchAccumulator, list[Entry]]()
        for place, entry in enumerate(entries):
            entry.completion, entry.place = completion, place
            parts.setdefault(self._batches_for(entry.message.return_address or ""), []).append(entry)
        for batches, those in parts.items():
            await batches.accept(those)
        await completion.wait()

    def _batches_for(self, return_address: str) -> BatchAccumulator:
        if not return_address.startswith(_TEMPORARY_ADDRESS):
            return self._batches
        if return_address not in self._reply_batches:
            raise ConfigurationError(
                f"nobody receives replies at {return_address}: open a receiver of the temporary queue before sending"
            )
        return self._reply_batches[return_address]

    def add_replies(self, address: str, batches: BatchAccumulator) -> None:
        """Send requests with this return address over ``batches`` from now on."""
        if address in self._reply_batches:
            raise ConfigurationError(f"{address} has a receiver already; a temporary queue has one at a time")
        self._reply_batches[address] = batches

    def remove_replies(self, address: str, batches: BatchAccumulator) -> None:
        """Undo `add_replies`."""
        if self._reply_batches.get(address) is batches:
            del self._reply_batches[address]

    async def aclose(self) -> None:
        """Send what was accepted for sending, in bounded time, and end all connections. Idempotent."""
        if self.closed:
            return
        self.closed = True
        try:
            async with asyncio.timeout(_FLUSH_TIMEOUT_S if self.sender.current is not None else 0):
                await self._batches.flush()
        except TimeoutError:
            pass
        finally:
            await self._batches.aclose()
            await asyncio.gather(*(each.aclose() for each in self.connections))
            self.connections.clear()
