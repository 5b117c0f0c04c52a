"""Resequencer: messages that come in any order, and twice, go on in theirs, once; a gap is given up after a while.

Prints:

    in:  [2, 0, 0, 1, 4, 5]
    out: [0, 1, 2]
    after ten minutes: [0, 1, 2, 4, 5]
    before 4 is missing: 3-3
"""

import asyncio
import tempfile
from pathlib import Path

from eip import Consumer, Message, SequenceInfo, running
from eip.patterns.resequencer import Resequencer
from eip.stores import SqliteStore
from eip.testing import run  # in virtual time, so that the ten minutes pass at once
from eip.transports.memory import MemoryTransport


async def main() -> None:
    arriving = [2, 0, 0, 1, 4, 5]
    with tempfile.TemporaryDirectory() as folder:
        store = SqliteStore(Path(folder) / "sequences.sqlite")
        async with MemoryTransport() as memory:
            readings, ordered = memory.queue("readings"), memory.queue("ordered")
            resequencer = Resequencer(store, output=ordered, gap_timeout=600)
            async with running(Consumer(readings, resequencer, concurrency=1), resequencer):
                for number in arriving:
                    await readings.send(Message(number, sequence=SequenceInfo("sensor-1", number)))
                while len(readings):
                    await asyncio.sleep(0.01)
                print(f"in:  {arriving}")
                print(f"out: {[message.body for message in ordered.messages()]}")
                await asyncio.sleep(601)
            print(f"after ten minutes: {[message.body for message in ordered.messages()]}")
            for message in ordered.messages():
                if "sequence-gap" in message.headers:
                    print(f"before {message.body} is missing: {message.headers['sequence-gap']}")
        await store.aclose()


run(main())
