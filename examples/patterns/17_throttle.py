"""Throttle: a handler is called no more often than what it calls can take; here, for each customer.

Prints:

    0.0 s: ann 1
    0.0 s: bob 1
    0.5 s: ann 2
    1.0 s: ann 3
"""

import asyncio

from eip import Consumer, Message
from eip.patterns.throttle import throttle
from eip.testing import run  # in virtual time, so that the waits pass at once
from eip.transports.memory import MemoryTransport


async def main() -> None:
    async with MemoryTransport() as memory:
        calls = memory.queue("calls")
        clock = asyncio.get_running_loop()
        began = clock.time()

        @throttle(2, per=1, key=lambda message: message.body[0])
        async def call(message: Message) -> None:
            name, number = message.body
            print(f"{clock.time() - began:.1f} s: {name} {number}")

        await calls.send(*(Message(each) for each in (["ann", 1], ["ann", 2], ["bob", 1], ["ann", 3])))
        consumer = Consumer(calls, call)
        async with consumer:
            while len(calls):
                await asyncio.sleep(0.1)


run(main())
