"""A recipient list whose channels fail: what is raised decides whether the message is tried again."""

from __future__ import annotations

import pytest

from eip import Consumer, Message
from eip.channels import Sender
from eip.errors import ConnectionLost, InvalidMessage, MessageTooLarge
from eip.patterns.recipient_list import fan_out
from eip.retry import Backoff
from eip.testing import run
from eip.transports.memory import MemoryTransport


class Failing(Sender):
    """Raises the given errors, one at each send, and then accepts."""

    name = address = "failing"

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self.sent: list[Message] = []

    async def send(self, *messages: Message) -> None:
        if self._errors:
            raise self._errors.pop(0)
        self.sent += messages


async def test_an_error_that_may_pass_counts_before_a_permanent_one():
    """The message is tried again for the sake of the first; the other is noted."""
    lost, invalid = ConnectionLost("away"), InvalidMessage("never")
    with pytest.raises(ConnectionLost) as raised:
        await fan_out(Failing(invalid), Failing(lost), Failing())(Message(1))
    assert raised.value is lost
    assert raised.value.__notes__ == ["2 of 3 recipients failed; InvalidMessage: never"]


async def test_only_permanent_errors_are_permanent():
    with pytest.raises(MessageTooLarge):
        await fan_out(Failing(MessageTooLarge(2, 1)), Failing())(Message(1))


def test_a_message_that_a_recipient_can_never_carry_is_dead_lettered_at_once():
    """An exception group hid that: it was tried again until its attempts were used up."""

    async def main() -> tuple[list[str], int]:
        async with MemoryTransport() as transport:
            queue, dead = transport.queue("orders"), transport.queue("dead")
            good = Failing()
            await queue.send(Message(1))
            async with (
                Consumer(
                    queue,
                    fan_out(Failing(*[InvalidMessage("never")] * 9), good),
                    dead_letters=dead,
                    retry=Backoff(base=1),
                ),
                dead.receiver() as receiver,
            ):
                (found,) = await receiver.receive(1, wait=60)
            return [found.message.headers["dead-letter-reason"]], len(good.sent)

    (reason,), sent = run(main())
    assert "never" in reason
    assert sent == 1
