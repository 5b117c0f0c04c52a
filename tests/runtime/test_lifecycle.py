"""One lifecycle: each service of the library starts, is a block, stops twice and has health, in the same words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import cast

import pytest

from eip import App, Consumer, Message, Service, running
from eip.app.health_server import HealthServer
from eip.console import ConsoleServer
from eip.patterns.aggregator import Aggregator
from eip.patterns.message_scheduler import MessageScheduler
from eip.patterns.outbox import OutboxRelay
from eip.patterns.process import Process
from eip.patterns.process_manager import ProcessManager
from eip.patterns.reply_queues import ReplyQueues
from eip.patterns.request_reply import RequestReply
from eip.patterns.resequencer import Resequencer
from eip.patterns.scatter_gather import ScatterGather
from eip.stores import MemoryStore
from eip.stores.outbox import SqliteOutbox
from eip.streams.batches import BatchConsumer
from eip.transports.memory import MemoryTransport


async def handle(_: Message) -> None: ...


async def handle_batch(_: list[Message]) -> None: ...


async def step(state: dict) -> dict:
    return state


def consumer(memory: MemoryTransport, _: Path) -> Service:
    return Consumer(memory.queue("orders"), handle)


def batch_consumer(memory: MemoryTransport, _: Path) -> Service:
    return BatchConsumer(memory.stream("clicks").group("count"), handle_batch)


def aggregator(memory: MemoryTransport, _: Path) -> Service:
    return Aggregator(MemoryStore(), output=memory.queue("out"), deadline=1)


def resequencer(memory: MemoryTransport, _: Path) -> Service:
    return Resequencer(MemoryStore(), output=memory.queue("out"), gap_timeout=1)


def process_manager(_: MemoryTransport, __: Path) -> Service:
    return ProcessManager(MemoryStore(), [Process("trip").step(step)])


def outbox_relay(memory: MemoryTransport, folder: Path) -> Service:
    return OutboxRelay(SqliteOutbox(folder / "outbox.sqlite"), {"orders": memory.queue("orders")})


def message_scheduler(memory: MemoryTransport, _: Path) -> Service:
    return MessageScheduler(MemoryStore(), {"orders": memory.queue("orders")})


def scatter_gather(memory: MemoryTransport, _: Path) -> Service:
    return ScatterGather(requests=memory.topic("rides"), replies=memory.queue("replies"))


def request_reply(memory: MemoryTransport, _: Path) -> Service:
    return RequestReply(memory.queue("requests"), memory.queue("replies"))


def reply_queues(memory: MemoryTransport, _: Path) -> Service:
    return ReplyQueues(memory, RequestReply(memory.queue("requests"), memory.queue("replies")))


MAKERS = (
    consumer,
    batch_consumer,
    aggregator,
    resequencer,
    process_manager,
    outbox_relay,
    message_scheduler,
    scatter_gather,
    request_reply,
    reply_queues,
)
ELSEWHERE = {each.__name__.lower() for each in (App, HealthServer, ConsoleServer)}
"""See tests/app and tests/console: an application closes what it was given; a server has real time."""


@pytest.fixture(params=MAKERS, ids=lambda make: make.__name__)
async def service(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Service]:
    make: Callable[[MemoryTransport, Path], Service] = request.param
    async with MemoryTransport() as memory:
        made = make(memory, tmp_path)
        yield made
        if isinstance(made, OutboxRelay):
            await cast("SqliteOutbox", made._outbox).aclose()


def test_no_service_is_left_out():
    """A new service of the library is named here."""
    found, classes = set(), [Service]
    while classes:
        classes += (subclasses := classes.pop().__subclasses__())
        found |= {each.__name__ for each in subclasses if each.__module__.startswith("eip.") and not _is_part(each)}
    made = {each.__name__.replace("_", "") for each in MAKERS}
    assert {each.lower() for each in found} == made | ELSEWHERE


def _is_part(service: type[Service]) -> bool:
    return service.__module__.rsplit(".", 1)[-1].startswith("_")


def state_of(service: Service) -> tuple[bool, bool]:
    return service.ready.is_set(), service.health().ok


async def test_it_is_a_block_twice(service):
    assert state_of(service) == (False, False)
    assert service.health().reason == "not running"
    assert service.name in repr(service)
    for _ in range(2):
        async with service as entered:
            assert entered is service
            assert state_of(service) == (True, True)
        assert state_of(service) == (False, False)


async def test_running_takes_it_and_a_stop_inside_is_no_failure(service):
    async with running(service):
        assert state_of(service) == (True, True)
        await service.stop(grace=1)
        assert state_of(service) == (False, False)
        await service.stop()


async def test_run_ends_after_stop_and_stop_is_idempotent(service):
    task = asyncio.create_task(service.run())
    async with asyncio.timeout(60):
        await service.ready.wait()
        await asyncio.gather(service.stop(grace=1), service.stop())
        await task
        await service.stop(grace=0.5)


async def test_an_error_of_the_block_is_raised_as_it_is_once_the_service_has_ended(service):
    with pytest.raises(ZeroDivisionError):
        async with service:
            raise ZeroDivisionError
    assert state_of(service) == (False, False)
