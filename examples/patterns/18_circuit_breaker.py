"""Circuit Breaker: a service that fails is left alone for a while; messages wait, and none is lost.

Prints:

    closed
    open after 3 calls
    closed again; calls while it was down: 4, invoices sent: 10
"""

import asyncio

from eip import Backoff, Consumer, Message
from eip.errors import ConnectionLost
from eip.patterns.circuit_breaker import CircuitBreaker
from eip.testing import run  # in virtual time, so that the pauses pass at once
from eip.transports.memory import MemoryTransport


class Billing:
    """A service that is down at first."""

    def __init__(self) -> None:
        self.down, self.failed, self.sent = True, 0, 0

    async def send(self, invoice: Message) -> None:
        if self.down:
            self.failed += 1
            raise ConnectionLost("billing is down")
        self.sent += 1


async def main() -> None:
    async with MemoryTransport() as memory:
        invoices, billing = memory.queue("invoices"), Billing()
        breaker = CircuitBreaker("billing", max_failures=3, open_for=30)
        print(breaker.state)
        await invoices.send(*(Message(number) for number in range(10)))
        consumer = Consumer(invoices, breaker(billing.send), concurrency=1, retry=Backoff(base=0.1))
        async with consumer:
            await asyncio.sleep(10)
            print(f"{breaker.state} after {billing.failed} calls")
            await asyncio.sleep(40)  # one invoice tries after 30 seconds, and fails
            billing.down = False
            while len(invoices):
                await asyncio.sleep(1)
        print(f"{breaker.state} again; calls while it was down: {billing.failed}, invoices sent: {billing.sent}")


run(main())
