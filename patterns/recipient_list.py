"""Recipient List and fan-out (Hohpe & Woolf, chapter 7): one message to several channels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from eip.channels import Sender
from eip.message import Message
from eip.patterns._fan_out import send_to_all
from eip.patterns.diagram import Channel, Diagram, condition_text
from eip.runtime.handlers import Result

__all__ = ["RecipientList", "fan_out"]


class RecipientList:
    """A handler that sends each message to every channel that ``recipients`` chooses for it.

    The message is acknowledged once all have accepted it. Where one fails, the others have it already, and all get it
    again on the retry, with the same id: delivery is at-least-once to each.

    Args:
        recipients: the channels of a message; none is allowed.
    """

    def __init__(self, recipients: Callable[[Message[Any]], Iterable[Sender]]) -> None:
        self._recipients = recipients
        self._diagram = Diagram(name=f"recipient_list {condition_text(recipients)}")

    def diagram(self) -> Diagram:
        """Its channels, where they are the same for all messages."""
        return self._diagram

    async def __call__(self, message: Message[Any]) -> Result:
        """Send the message to its recipients, at the same time.

        Where some fail, raises the error that decides whether it is tried again: one that may pass, or where all are
        permanent, one of these. The others are in a note of it.
        """
        await send_to_all(list(self._recipients(message)), message)
        return None


def fan_out(*senders: Sender) -> RecipientList:
    """A handler that sends each message to all the channels (a topic does so by itself where the service has one)."""
    made = RecipientList(lambda _: senders)
    made._diagram = Diagram(name="fan_out", channels=tuple(Channel(each.name) for each in senders))  # noqa: SLF001
    return made
