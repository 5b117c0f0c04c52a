"""Replies through an outbox: each row knows its address, and the relay sends it there."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any, Final

from typing_extensions import override

from eip.channels import Sender
from eip.channels.addresses import ReturnAddresses
from eip.errors import AddressRefused, ChannelNotFound, FailedEntry, InvalidMessage, PartialSendError, error_text
from eip.message import Message

__all__ = ["REPLIES", "ReplySender", "addressed"]

REPLIES: Final = "eip:replies"
"""The channel's name in the outbox."""
_ADDRESS_HEADER: Final = "outbox-address"
"""Where the row is to be sent; not on the wire."""


def addressed(reply: Message[Any], address: str) -> Message[Any]:
    """The reply as it is written to the outbox."""
    return reply.replace(headers={**reply.headers, _ADDRESS_HEADER: address})


class ReplySender(Sender):
    """Sends each message to the address that it was given with; an address that fails holds up no other.

    A reply queue that is gone is the end of its replies: they are refused, as nobody waits for them.

    Args:
        addresses: which addresses are allowed.
    """

    name = address = REPLIES

    def __init__(self, addresses: ReturnAddresses) -> None:
        self._addresses = addresses

    @override
    async def send(self, *messages: Message[Any]) -> None:
        by_address: defaultdict[str, list[Message[Any]]] = defaultdict(list)
        for each in messages:
            by_address[each.headers.get(_ADDRESS_HEADER, "")].append(each)
        sending = (self._send_to(address, those) for address, those in by_address.items())
        failed = [entry for found in await asyncio.gather(*sending) for entry in found]
        if failed:
            raise PartialSendError(failed, sent=len(messages) - len(failed))

    async def _send_to(self, address: str, messages: list[Message[Any]]) -> list[FailedEntry]:
        """Send messages to one address, and return those that it refused, with the reasons."""
        try:
            await self._addresses.resolve(address).send(*map(_plain, messages))
        except PartialSendError as error:
            reasons = {each.message.id: each.error for each in error.failed}
            return [FailedEntry(each, _refusal(reasons[each.id])) for each in messages if each.id in reasons]
        except Exception as error:  # noqa: BLE001 - of whatever kind, it is this address's
            return [FailedEntry(each, _refusal(error)) for each in messages]
        return []


def _plain(message: Message[Any]) -> Message[Any]:
    return message.replace(headers={key: text for key, text in message.headers.items() if key != _ADDRESS_HEADER})


def _refusal(error: Exception) -> Exception:
    """An error after which no other attempt is made, where another one would only repeat it."""
    return InvalidMessage(error_text(error)) if isinstance(error, (AddressRefused, ChannelNotFound)) else error
