"""One handler, several hosts: a poller on a queue, and AWS Lambda; the handler does not know which.

Prints:

    poller: quoted Berlin -> Potsdam
    Lambda: quoted Hamburg -> Kiel
    Lambda gets: {'batchItemFailures': [{'itemIdentifier': 'm-2'}]}
"""

import asyncio

from pydantic import BaseModel

from eip import Consumer, Message
from eip.transports.aws.lambda_host import lambda_handler
from eip.transports.memory import MemoryTransport

host = ""


class Ride(BaseModel):
    start: str
    to: str


async def quote(ride: Ride) -> None:
    print(f"{host}: quoted {ride.start} -> {ride.to}")


async def poll() -> None:
    async with MemoryTransport() as memory:  # or AwsTransport, ActiveMQTransport
        rides = memory.queue("rides")
        await rides.send(Message({"start": "Berlin", "to": "Potsdam"}))
        consumer = Consumer(rides, quote)
        async with consumer:
            while len(rides):
                await asyncio.sleep(0.01)


class Context:
    def get_remaining_time_in_millis(self) -> int:
        return 30_000


def record(identity: str, body: str) -> dict[str, str]:
    return {"messageId": identity, "body": body, "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:::rides"}


host = "poller"
asyncio.run(poll())

host = "Lambda"
handler = lambda_handler(quote)  # the function's entry point
event = {"Records": [record("m-1", '{"start": "Hamburg", "to": "Kiel"}'), record("m-2", '{"start": "nowhere"}')]}
print("Lambda gets:", handler(event, Context()))
handler.close()
