"""What a write of DynamoDB costs the client: CPU µs a call, through the SDK and by the fast path.

    python -m benchmarks.dynamodb [--quick]

The service is a stub in a process of its own that answers `{}`. Fifty callers at once; each way is run several times,
in turn. Read the ratio: absolute figures are the machine's.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from benchmarks._report import progress, save, spread, table
from eip._aws.client_calls import ClientCalls

CALLERS = 50
ITEM = {"pk": {"S": "orders#17"}, "sk": {"S": "r"}, "n": {"S": "1"}, "v": {"B": b"x" * 1000}}
PUT = {"TableName": "t", "Item": ITEM, "ConditionExpression": "attribute_not_exists(pk)"}
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: 2\r\n\r\n{}"


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.partition(b"content-length:")[2].partition(b"\r\n")[0]))
            writer.write(ANSWER)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def _serve(port: Connection) -> None:
    server = await asyncio.start_server(_answer, "127.0.0.1", 0)
    port.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def _run(port: Connection) -> None:
    asyncio.run(_serve(port))


@contextmanager
def stub() -> Iterator[str]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_run, args=(theirs,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()


async def cpu(call: Callable[[], Awaitable[object]], count: int) -> float:
    """CPU µs of a call."""

    async def caller() -> None:
        for _ in range(count // CALLERS):
            await call()

    started = time.process_time()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return (time.process_time() - started) / count * 1e6


async def measured(url: str, count: int, runs: int) -> dict[str, list[float]]:
    session = get_session()
    session.set_credentials("stub", "stub")
    config = AioConfig(max_pool_connections=CALLERS)
    async with session.create_client("dynamodb", region_name="us-east-1", endpoint_url=url, config=config) as client:
        ways = {
            "SDK": ClientCalls(client, fast_path=False),
            "fast path": ClientCalls(client, fast_path=True),
        }
        found: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(runs + 1):
            for name, calls in ways.items():
                figure = await cpu(partial(calls.call, "PutItem", PUT), count)
                if turn:  # the first warms up
                    found[name].append(figure)
            progress(f"run {turn} of {runs}")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a fifth of the calls")
    count, runs = (1000, 3) if parser.parse_args(arguments).quick else (5000, 5)
    with stub() as url:
        found = asyncio.run(measured(url, count, runs))
    medians = {name: statistics.median(figures) for name, figures in found.items()}
    rows = [(name, medians[name], spread(figures), medians["SDK"] / medians[name]) for name, figures in found.items()]
    print(table("PutItem of 1 KB, CPU µs a call", ("way", "median", "spread", "times less"), rows))
    print("\nwritten to", save("dynamodb", found, "aiobotocore", "botocore"))


if __name__ == "__main__":
    main()
