"""Several processes on one store: each counts in one record by compare and set."""

from __future__ import annotations

import asyncio
import sys

from eip.stores.base import ABSENT, Store

PROCESSES, COUNTS = 4, 25

SCRIPT = """
import asyncio, sys
from eip.stores.base import ABSENT
{imports}

async def main():
    store = {store}
    for _ in range({counts}):
        while True:
            found = await store.get("n")
            value = int(found.value) + 1 if found else 1
            if await store.put("n", b"%d" % value, version=found.version if found else ABSENT):
                break
    await store.aclose()

asyncio.run(main())
"""


async def race(imports: str, store: str, *arguments: str) -> list[int]:
    """Runs the processes; their exit codes. `store` is the expression that opens it, of `sys.argv`."""
    script = SCRIPT.format(imports=imports, store=store, counts=COUNTS)
    started = [await asyncio.create_subprocess_exec(sys.executable, "-c", script, *arguments) for _ in range(PROCESSES)]
    return [await each.wait() for each in started]


async def counted(store: Store) -> int:
    """What they counted together."""
    record = await store.get("n")
    assert record is not None
    assert record.version != ABSENT
    return int(record.value)
