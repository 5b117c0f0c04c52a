"""The services over stores: one lifecycle; they start while the store is away, go on after it was, and always end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3

import pytest

from eip import Message, running
from eip.channels import Sender
from eip.errors import StoreError
from eip.patterns.aggregator import Aggregator
from eip.patterns.idempotent_receiver import idempotent
from eip.patterns.outbox import OutboxRelay
from eip.patterns.process import Process
from eip.patterns.process_manager import ProcessManager
from eip.patterns.resequencer import Resequencer
from eip.runtime.service import Service
from eip.stores import MemoryStore
from eip.stores.outbox import SqliteOutbox


class Kept(Sender):
    name = address = "kept"

    def __init__(self) -> None:
        self.bodies: list = []
        self.came = asyncio.Event()

    async def send(self, *messages: Message) -> None:
        self.bodies += [each.body for each in messages]
        self.came.set()

    async def until(self, *bodies, within: float = 60.0) -> None:
        async with asyncio.timeout(within):
            while not set(bodies) <= {each if not isinstance(each, list) else each[0] for each in self.bodies}:
                self.came.clear()
                await self.came.wait()


class Odd:
    """A store or an outbox that hangs, or raises, in each call."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.calls = error, 0

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)

        async def call(*_: object, **__: object) -> None:
            self.calls += 1
            if self.error is not None:
                raise self.error
            await asyncio.Event().wait()

        return call

    def __repr__(self) -> str:
        return "<Odd at db.example:5432>"


async def step(state: dict) -> dict:
    return state


def service_over(kind: str, store, **options) -> Service:
    out = Kept()
    if kind == "relay":
        return OutboxRelay(store, {"orders": out}, **options)
    if kind == "aggregator":
        return Aggregator(store, output=out, deadline=1, **options)
    if kind == "resequencer":
        return Resequencer(store, output=out, gap_timeout=1, **options)
    return ProcessManager(store, [Process("trip").step(step)], **options)


KINDS = ("relay", "aggregator", "resequencer", "process manager")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_service_is_a_block_and_has_health(kind, tmp_path):
    """Fault 46: nobody could ask how they are."""
    store = SqliteOutbox(tmp_path / "outbox.sqlite") if kind == "relay" else MemoryStore()
    service = service_over(kind, store)
    assert (service.health().ok, service.health().reason) == (False, "not running")
    async with service:
        assert service.ready.is_set()
        assert service.health().ok
        assert service.health().last_poll is not None
    assert not service.health().ok
    async with running(service):  # and once more
        assert service.ready.is_set()
    await store.aclose()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_store_that_hangs_holds_no_stop_up_and_is_named(kind, caplog):
    """Fault 41, 41e: what is waited for, and where; and `stop` at once, as nothing is in hand."""
    service = service_over(kind, Odd(), grace=20)
    task = asyncio.create_task(service.run())
    with caplog.at_level(logging.WARNING):
        await asyncio.sleep(16)
    assert not service.ready.is_set()
    assert "db.example:5432" in (service.health().reason or "")
    assert caplog.text.count("still_waiting") == 2  # after 5 and 15 seconds
    assert "db.example:5432" in caplog.text
    began = asyncio.get_running_loop().time()
    await service.stop()
    await task
    assert asyncio.get_running_loop().time() - began < 0.1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("transient", [True, False])
async def test_a_store_that_fails_is_reported_with_a_count_and_left_alone_for_longer(kind, transient, caplog):
    """Fault 42: dozens of lines a second; a permanent error backs off to minutes."""
    store = Odd(StoreError("PostgreSQL: no", transient=transient))
    service = service_over(kind, store)
    task = asyncio.create_task(service.run())
    with caplog.at_level(logging.WARNING):
        await asyncio.sleep(3600)
    health = service.health()
    assert (health.ok, "PostgreSQL: no" in (health.reason or "")) == (False, True)
    assert health.failing_since is not None
    assert store.calls < (3600 / 2 if transient else 25)
    assert len([each for each in caplog.records if "_failed" in each.getMessage()]) <= 65  # wall-clock minutes in CI
    await service.stop()
    await task


async def test_a_step_that_ignores_its_cancellation_is_named_and_left(caplog):
    """Fault 41d: `stop` ends within the grace."""
    released = asyncio.Event()

    async def stubborn(state: dict) -> dict:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue
        return state

    manager = ProcessManager(MemoryStore(), [Process("trip").step(stubborn, timeout=3600)])
    task = asyncio.create_task(manager.run())
    await manager.start("trip", {}, id="t-1")
    await asyncio.sleep(1)
    began = asyncio.get_running_loop().time()
    with caplog.at_level(logging.ERROR):
        await manager.stop(grace=5)
    await task
    assert asyncio.get_running_loop().time() - began < 8
    assert "due t-1" in caplog.text
    released.set()
    await asyncio.sleep(1)


@pytest.mark.parametrize("grace", [0, 5])
async def test_a_step_in_hand_has_the_grace_and_is_made_again_by_the_next(grace):
    """Fault 41: the step is cancelled after the grace, which costs no attempt."""
    store, ended = MemoryStore(), []

    async def slow(state: dict) -> dict:
        await asyncio.sleep(3)
        ended.append(1)
        return state

    manager = ProcessManager(store, [Process("trip").step(slow)])
    async with manager:
        await manager.start("trip", {}, id="t-1")
        await asyncio.sleep(1)
        await manager.stop(grace=grace)
    assert len(ended) == (1 if grace else 0)
    instance = await manager.get("t-1")
    assert instance is not None
    assert instance.attempt == 0
    async with manager:
        await manager.ended("t-1")
    assert len(ended) == 1


async def test_a_send_in_hand_is_cut_off_after_the_grace_and_made_again(tmp_path):
    """Fault 41: a channel that accepts and never answers."""
    outbox, hanging = SqliteOutbox(tmp_path / "o.sqlite"), Kept()

    async def hang(*_: Message) -> None:
        hanging.came.set()
        await asyncio.Event().wait()

    send, hanging.send = hanging.send, hang
    with contextlib.closing(sqlite3.connect(tmp_path / "o.sqlite")) as db, db:
        outbox.add(db, "orders", Message("a"))
    relay = OutboxRelay(outbox, {"orders": hanging}, poll=0.05)
    async with relay:
        await hanging.came.wait()
        await relay.stop(grace=1)
    hanging.send = send
    async with relay:
        await hanging.until("a")
    await outbox.aclose()


async def test_the_renewals_of_an_idempotent_receiver_have_health():
    """Fault 46: a store that fails while handlers run."""
    store = MemoryStore()
    once = idempotent(store, lease=9)
    put = store.put

    async def failing(*_: object, **__: object) -> None:
        raise StoreError("no")

    async def handle(_: Message) -> None:
        assert once.health().ok
        store.put = failing
        await asyncio.sleep(4)
        assert not once.health().ok
        store.put = put
        await asyncio.sleep(3)
        assert once.health().ok

    await once(handle)(Message(1, id="m"))
    assert once.health().ok
