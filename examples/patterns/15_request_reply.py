"""Request-Reply: one question, one answer, over two queues.

Prints:

    6 * 7 = 42
    no answer in time
"""

from eip import Consumer, Message, ReturnAddresses
from eip.errors import RequestTimeout
from eip.patterns.request_reply import RequestReply
from eip.testing import run  # in virtual time, so that the timeout passes at once
from eip.transports.memory import MemoryTransport


async def multiply(request: Message) -> Message | None:
    left, right = request.body
    return request.reply(left * right) if right else None


async def main() -> None:
    async with MemoryTransport() as memory:
        requests, replies = memory.queue("requests"), memory.queue("replies-of-this-process")
        # Return addresses come from strangers: only these queues are answered to.
        responder = Consumer(requests, multiply, replies=ReturnAddresses(memory, prefix="replies-"))
        async with responder, RequestReply(requests, replies) as calculator:
            reply = await calculator.request([6, 7], timeout=5)
            print(f"6 * 7 = {reply.body}")
            try:
                await calculator.request([6, 0], timeout=5)
            except RequestTimeout:
                print("no answer in time")


run(main())
