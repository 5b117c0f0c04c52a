"""Message Filter: only the messages that pass are handled; by policy, by pattern, or by a function.

Prints:

    alarm: 91 degrees
    ignored: 1
"""

import asyncio

from eip import Consumer, Message
from eip.matching import FilterPolicy
from eip.patterns.message_filter import message_filter
from eip.transports.memory import MemoryTransport


async def main() -> None:
    async with MemoryTransport() as memory:
        readings, ignored = memory.queue("readings"), memory.queue("ignored")

        # The filter policy of SNS: pushed down to the service where a subscription is given it, evaluated here
        # with the same result.
        too_hot = FilterPolicy({"celsius": [{"numeric": [">", 80]}]}, scope="MessageBody")

        @message_filter(too_hot, rejected=ignored)
        async def alarm(message: Message) -> None:
            print(f"alarm: {message.body['celsius']} degrees")

        await readings.send(Message({"celsius": 21}), Message({"celsius": 91}))
        consumer = Consumer(readings, alarm)
        async with consumer:
            while len(readings):
                await asyncio.sleep(0.01)
        print(f"ignored: {len(ignored)}")


asyncio.run(main())
