"""Records in a store: versions decide who was first, and another program's records are permanent errors."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import BaseModel

from eip import Message
from eip.channels import Sender
from eip.errors import StoreError
from eip.message import SequenceInfo
from eip.patterns._records import Records, Versioned, after_conflict
from eip.patterns.aggregator import Aggregator
from eip.patterns.fifo import SequencingSender
from eip.patterns.idempotent_receiver import idempotent
from eip.patterns.process import Process
from eip.patterns.process_manager import ProcessManager
from eip.patterns.resequencer import Resequencer
from eip.stores import MemoryStore


class Count(BaseModel):
    n: int = 0


class Nowhere(Sender):
    name = address = "nowhere"

    async def send(self, *messages: Message) -> None: ...


async def handle(message: Message) -> None: ...


async def step(state: dict) -> dict:
    return state


async def test_of_changes_at_once_none_is_lost():
    records = Records(MemoryStore(), Count, prefix="c:")

    async def add() -> None:
        conflicts = 0
        while True:
            held = await records.read("k") or Versioned(Count())
            held.value.n += 1
            await asyncio.sleep(0.01)
            if await records.write("k", held):
                return
            conflicts = await after_conflict(conflicts, "k")

    await asyncio.gather(*(add() for _ in range(10)))
    found = await records.read("k")
    assert found is not None
    assert found.value.n == 10


async def test_a_record_that_always_changes_is_given_up():
    for conflicts in range(100):
        assert await after_conflict(conflicts, "k") == conflicts + 1
    with pytest.raises(StoreError, match="k was changed by others 100 times"):
        await after_conflict(100, "k")


@pytest.mark.parametrize("value", [b"", b"\xff", b"[]", b'{"next": "secret"}', b"not ours"])
@pytest.mark.parametrize("kind", ["aggregator", "resequencer", "process manager", "sequencing sender", "idempotent"])
async def test_another_programs_record_is_a_permanent_error(kind, value):
    """Fault 15: a validator's own error crossed the border, and was tried for ever."""
    store, out = MemoryStore(), Nowhere()
    for key in ("k", "s:k"):
        await store.put(key, value)
    message = Message(1, id="k", correlation_id="k", group_id="k")
    calls = {
        "aggregator": lambda: Aggregator(store, output=out, size=2)(message),
        "resequencer": lambda: Resequencer(store, output=out)(message.replace(sequence=SequenceInfo("k", 0))),
        "process manager": lambda: ProcessManager(store, [Process("p").step(step)]).receive(message),
        "sequencing sender": lambda: SequencingSender(out, store).send(message),
        "idempotent": lambda: idempotent(store)(handle)(message),
    }
    with pytest.raises(StoreError, match="another program") as caught:
        await calls[kind]()
    assert not caught.value.transient
    assert "secret" not in str(caught.value)
