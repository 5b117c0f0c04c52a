"""Claim Check: a document too large for the queue waits in a folder, and a pointer to it travels in its place.

Prints:

    in the queue: 'software.amazon.payloadoffloading.PayloadS3Pointer'
    handled 300000 characters
    handled 5 characters
    left in the folder: 0
"""

import asyncio
import tempfile
from pathlib import Path

from eip import Consumer, Message
from eip.patterns.claim_check import ClaimCheckSender, claim_checked
from eip.stores.objects import FileObjects  # or S3Objects: the wire format is that of AWS's extended client libraries
from eip.transports.memory import MemoryTransport


async def handle(document: Message) -> None:
    print(f"handled {len(document.body)} characters")


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        objects = FileObjects(folder)
        async with MemoryTransport() as memory:
            queue = memory.queue("documents")
            sender = ClaimCheckSender(queue, objects, threshold=256 * 1024)  # default: the channel's own limit
            await sender.send(Message("x" * 300_000), Message("short"))
            print(f"in the queue: {queue.messages()[0].body[0]!r}")

            consumer = Consumer(queue, claim_checked(objects, delete=True)(handle), concurrency=1)
            async with consumer:
                while len(queue) or files(folder):
                    await asyncio.sleep(0.01)
        print(f"left in the folder: {files(folder)}")


def files(folder: str) -> int:
    return sum(path.is_file() for path in Path(folder).rglob("*"))


asyncio.run(main())
