"""Wire Tap: a copy of each message for the auditors, without what they may not see; it never stops a message.

Prints:

    charged 4111 with 30
    audit: {'amount': 30}
    charged 4222 with 50, though the tap was broken
"""

import asyncio

from eip import Consumer, Message, Sender
from eip.errors import ConnectionLost
from eip.patterns.wire_tap import wire_tap
from eip.transports.memory import MemoryTransport


class Broken(Sender):
    """A channel that is not there."""

    name = address = "broken"

    async def send(self, *messages: Message) -> None:
        raise ConnectionLost("the auditors are out")


def without_card(message: Message) -> Message:
    return message.with_body({"amount": message.body["amount"]})


async def charge(message: Message) -> None:
    suffix = ", though the tap was broken" if message.body["card"] == "4222" else ""
    print(f"charged {message.body['card']} with {message.body['amount']}{suffix}")


async def main() -> None:
    async with MemoryTransport() as memory:
        payments, audit = memory.queue("payments"), memory.queue("audit")
        await payments.send(Message({"card": "4111", "amount": 30}))
        consumer = Consumer(payments, wire_tap(audit, copy=without_card)(charge))
        async with consumer:
            while len(payments):
                await asyncio.sleep(0.01)
        for message in audit.messages():
            print(f"audit: {message.body}")

        await wire_tap(Broken())(charge)(Message({"card": "4222", "amount": 50}))


asyncio.run(main())
