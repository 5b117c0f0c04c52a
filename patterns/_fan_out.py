"""One message to several channels at the same time, and the one error that decides what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from eip.channels import Sender
from eip.errors import error_text
from eip.message import Message
from eip.runtime._recovery import is_permanent

__all__ = ["send_to_all"]


async def send_to_all(senders: Sequence[Sender], message: Message[Any]) -> None:
    """Send the message to all of the channels, whatever becomes of the others.

    Raises:
        Exception: the error of one channel, with those of the others as a note: one that another attempt may overcome,
            where there is one; otherwise one that is permanent, so that the message is dead-lettered.
    """
    outcomes = await asyncio.gather(*(sender.send(message) for sender in senders), return_exceptions=True)
    errors = [each for each in outcomes if isinstance(each, Exception)]
    if not errors:
        return
    error = next((each for each in errors if not is_permanent(each)), errors[0])
    if len(senders) > 1:
        others = "".join(f"; {error_text(each)}" for each in errors if each is not error)
        error.add_note(f"{len(errors)} of {len(senders)} recipients failed{others}")
    raise error
