"""Topic to queue: the queue buffers what is published while the consumer is away, and a throttle spares what it calls.

60 orders a second are published for ten minutes. The consumer's process is gone from the third to the sixth minute, and
what it calls takes 80 a second, no more. In virtual time the quarter of an hour takes seconds.

Prints:

    minute  waiting  handled
         2        0     7200
         4     7200     7200
         6    14400     7200
         8    12000    16800
        10     9600    26400
        12        0    36000
        14        0    36000
    36000 published, 36000 handled, 0 lost, 0 twice; at most 80 in a second
"""

import asyncio
from collections import Counter, deque

from eip import Consumer, Message, running
from eip.patterns.throttle import throttle
from eip.testing import run
from eip.topology import SubscriptionSpec, TopicSpec, Topology
from eip.transports.memory import MemoryTransport

RATE, LIMIT, MINUTE = 60, 80, 60
TOPOLOGY = Topology(TopicSpec("orders"), SubscriptionSpec("orders", "shipping"))


async def main() -> None:
    handled, times = Counter[int](), deque[float](maxlen=2 * LIMIT)
    most = 0
    clock = asyncio.get_running_loop().time
    began = clock()

    @throttle(LIMIT)
    async def ship(message: Message) -> None:
        nonlocal most
        handled[message.body] += 1
        times.append(clock())
        most = max(most, sum(each > times[-1] - 0.999 for each in times))

    async with MemoryTransport() as memory:
        await TOPOLOGY.apply(memory)
        orders, waiting = memory.topic("orders"), memory.topic("orders").subscription("shipping")

        async def publish() -> None:
            for number in range(10 * MINUTE * RATE):
                await asyncio.sleep(began + number / RATE - clock())
                await orders.send(Message(number))

        async def consume(until: float) -> None:
            async with running(Consumer(waiting, ship, concurrency=20)):
                await asyncio.sleep(began + until - clock() - 0.001)

        async def outage() -> None:
            await consume(until=2 * MINUTE)
            await asyncio.sleep(began + 6 * MINUTE - clock())  # its process is gone
            await consume(until=14.5 * MINUTE)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(publish())
            tasks.create_task(outage())
            print("minute  waiting  handled")
            for minute in range(2, 16, 2):
                await asyncio.sleep(began + minute * MINUTE - clock() - 0.001)
                depth = await waiting.depth()
                print(f"{minute:6}  {depth['ready'] + depth['leased']:7}  {handled.total():7}")
    lost, twice = 10 * MINUTE * RATE - len(handled), handled.total() - len(handled)
    print(f"{10 * MINUTE * RATE} published, {handled.total()} handled, {lost} lost, {twice} twice; ", end="")
    print(f"at most {most} in a second")


run(main())
