"""Content-Based Router: each message goes to the channel of the first condition that it meets.

Prints:

    approved: ['contract']
    review: ['blurred scan']
    errors: ['empty page']
"""

import asyncio

from eip import Consumer, Message
from eip.matching import FilterPolicy
from eip.patterns.content_based_router import ContentBasedRouter
from eip.transports.memory import MemoryTransport


async def main() -> None:
    async with MemoryTransport() as memory:
        scored = memory.queue("scored")
        approved, review, errors = memory.queue("approved"), memory.queue("review"), memory.queue("errors")

        router = (
            ContentBasedRouter(otherwise=review)
            .when(lambda message: message.body["score"] is None, errors)
            .when(FilterPolicy({"score": [{"numeric": [">=", 90]}]}, scope="MessageBody"), approved)
        )

        documents = {"contract": 97, "blurred scan": 41, "empty page": None}
        await scored.send(*(Message({"name": name, "score": score}) for name, score in documents.items()))
        consumer = Consumer(scored, router)
        async with consumer:
            while len(scored):
                await asyncio.sleep(0.01)

        for queue in (approved, review, errors):
            print(f"{queue.name}: {[message.body['name'] for message in queue.messages()]}")


asyncio.run(main())
