"""Return Address: a reply queue for each customer, made on demand and removed once it is no longer used.

Prints:

    Ada asked over replies-Ada
    Grace asked over replies-Grace
    queues: 2
    ten minutes later: 0
"""

import asyncio

from eip import Consumer, Message, QueueSpec, ReturnAddresses, running
from eip.patterns.reply_queues import ReplyQueues
from eip.patterns.request_reply import RequestReply
from eip.stores import MemoryStore
from eip.testing import run  # in virtual time, so that ten minutes pass at once
from eip.transports.memory import MemoryTransport

made: set[str] = set()


async def answer(request: Message) -> Message:
    name = str(request.return_address).partition("/")[2]
    made.add(name)
    print(f"{request.body} asked over {'-'.join(name.split('-')[:2])}")
    return request.reply("done")


async def main() -> None:
    async with MemoryTransport() as memory:
        requests, shared = memory.queue("requests"), memory.queue("shared")
        responder = Consumer(requests, answer, replies=ReturnAddresses(memory, prefix="replies"))
        client = RequestReply(requests, shared)
        # The store is shared by all processes, so that each of them takes any customer's replies.
        own = ReplyQueues(memory, client, queue=QueueSpec("replies"), store=MemoryStore())
        async with running(responder, client, own):
            for customer in ("Ada", "Grace"):
                replies = await own.of(customer, deadline=5)
                await client.request(customer, timeout=5, replies=replies)
            print(f"queues: {sum(memory.knows('queue', name) for name in made)}")
            await asyncio.sleep(600)
            print(f"ten minutes later: {sum(memory.knows('queue', name) for name in made)}")


run(main())
