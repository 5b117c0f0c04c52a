"""Channel Adapter for HTTP: a signed request becomes a message, and is answered once the queue has it.

Prints:

    signed: 202
    the same key again: 202, replayed
    the same key, another body: 422
    forged: 401
    in the queue: 1, booked: Berlin -> Potsdam
"""

import asyncio
import json
from typing import Any

from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.routing import Route

from eip import Consumer
from eip.patterns.webhook import Webhook
from eip.patterns.webhook_signatures import HmacSignature
from eip.stores import MemoryStore
from eip.transports.memory import MemoryTransport


class Ride(BaseModel):
    start: str
    to: str


signature = HmacSignature("a secret of 16 bytes or more")


async def call(app: Any, body: bytes, headers: dict[str, str]) -> tuple[int, str]:
    """What a web server does with a request: status, and whether the answer is a repetition."""
    requests, answers = asyncio.Queue[Any](), asyncio.Queue[Any]()
    requests.put_nowait({"type": "http.request", "body": body})
    named = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": "/rides", "query_string": b"", "headers": named}
    await app(scope, requests.get, answers.put)
    start = answers.get_nowait()
    return start["status"], ", replayed" if (b"idempotency-replayed", b"true") in start["headers"] else ""


async def main() -> None:
    async with MemoryTransport() as memory:  # or AwsTransport, ActiveMQTransport
        rides = memory.queue("rides")
        hook = Webhook(rides, authenticate=signature, store=MemoryStore())
        app = Starlette(routes=[Route("/rides", hook)])  # served by uvicorn, or mounted in FastAPI

        body = json.dumps({"start": "Berlin", "to": "Potsdam"}).encode()
        other = json.dumps({"start": "Kiel", "to": "Hamburg"}).encode()
        headers = {"content-type": "application/json", "idempotency-key": "booking-7"}
        print("signed: {}{}".format(*await call(app, body, {**headers, **signature.sign(body)})))
        print("the same key again: {}{}".format(*await call(app, body, {**headers, **signature.sign(body)})))
        print("the same key, another body: {}{}".format(*await call(app, other, {**headers, **signature.sign(other)})))
        print("forged: {}{}".format(*await call(app, other, {**headers, **signature.sign(body)})))

        count, done = len(rides), asyncio.Event()

        async def book(ride: Ride) -> None:
            print(f"in the queue: {count}, booked: {ride.start} -> {ride.to}")
            done.set()

        async with Consumer(rides, book):
            await done.wait()


asyncio.run(main())
