"""Reply queues by key: made on demand, shared by all processes, and never removed while a request names them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from eip import Consumer, Message, QueueSpec, ReturnAddresses
from eip.errors import ConfigurationError, StoreError
from eip.patterns import ReplyQueues, RequestReply, ScatterGather
from eip.stores import MemoryStore
from eip.transports.memory import MemoryTransport
from tests.runtime.scripted import until


class World:
    """Processes over the same channels and stores; a responder answers after a while."""

    def __init__(self, transport: MemoryTransport, stack: AsyncExitStack) -> None:
        self.transport, self._stack = transport, stack
        self.asked = transport.queue("asked")
        self.requests, self.queues = MemoryStore(), MemoryStore()
        self.delay = 1.0
        self.addresses: list[str] = []

    async def respond(self, request: Message) -> Message:
        self.addresses.append(request.return_address or "")
        await asyncio.sleep(self.delay)
        return request.reply(request.body)

    async def process(self, **options: Any) -> tuple[ScatterGather, ReplyQueues]:
        gather = ScatterGather(self.asked, self.transport.queue("shared"), store=self.requests)
        options = {"queue": QueueSpec("own"), "store": self.queues, "idle": 30, **options}
        own = ReplyQueues(self.transport, gather, **options)
        await self._stack.enter_async_context(gather)
        return gather, await self._stack.enter_async_context(own)

    def made(self) -> set[str]:
        """The reply queues of keys that there are."""
        return {name.partition("/")[2] for name in self.transport._channels if name.startswith("queue/own-")} - {
            "own-dead"
        }


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    async with MemoryTransport() as transport, AsyncExitStack() as stack:
        made = World(transport, stack)
        replies = ReturnAddresses(transport, prefix="own")
        await stack.enter_async_context(Consumer(made.asked, made.respond, replies=replies, concurrency=1000))
        yield made


async def ask(gather: ScatterGather, own: ReplyQueues, key: str, body: Any = "?", deadline: float = 20) -> list[Any]:
    replies = await own.of(key, deadline=deadline)
    result = await gather.request(body, expected=1, deadline=deadline, replies=replies)
    return [each.body for each in result.replies]


async def test_each_key_has_a_queue_that_is_made_on_demand_and_removed_once_unused():
    async with world() as scene:
        gather, own = await scene.process()
        assert scene.made() == set()
        assert await ask(gather, own, "Ada Lovelace") == ["?"]
        await ask(gather, own, "Ada Lovelace")
        await ask(gather, own, "Grace")
        assert len(scene.made()) == len(set(scene.addresses)) == 2
        assert any(name.startswith("own-AdaLovelace-") for name in scene.made())
        await asyncio.sleep(100)
        assert scene.made() == set()
        assert await scene.queues.next_due() is None
        assert await ask(gather, own, "Grace") == ["?"]
        assert len(set(scene.addresses)) == 3  # SQS makes no queue again within a minute


async def test_another_process_takes_the_replies_of_one_that_ended():
    async with world() as scene, AsyncExitStack() as ending:
        scene.delay = 10
        scene._stack, stack = ending, scene._stack
        gather, own = await scene.process()
        key = await gather.request("?", expected=1, deadline=60, replies=await own.of("Ada", deadline=60)).start()
        scene._stack = stack
        other, _ = await scene.process()
        await ending.aclose()
        assert [each.body for each in (await other.result(key)).replies] == ["?"]
        await asyncio.sleep(200)
        assert scene.made() == set()


async def test_what_all_processes_left_is_removed_by_the_next_to_start():
    async with world() as scene:
        async with AsyncExitStack() as ending:
            scene._stack, stack = ending, scene._stack
            gather, own = await scene.process()
            await ask(gather, own, "Ada")
        assert len(scene.made()) == 1
        await asyncio.sleep(1000)
        scene._stack = stack
        await scene.process()
        await until(lambda: scene.made() == set())


@pytest.mark.parametrize("after", [49, 51, 55, 60, 64.9, 65, 65.1, 70])
async def test_a_request_at_any_moment_of_the_end_has_a_queue_for_as_long_as_it_lasts(after):
    """Live until 50, leaving until 65, gone then: whoever asks, in whichever process, gets its reply."""
    async with world() as scene:
        (one, own), (two, others) = await scene.process(), await scene.process()
        await ask(one, own, "Ada")
        scene.delay = 25
        await asyncio.sleep(after - asyncio.get_running_loop().time() % 1)
        assert await ask(two, others, "Ada", deadline=30) == ["?"]
        await asyncio.sleep(200)
        assert scene.made() == set()


@pytest.mark.parametrize("seed", range(4))
async def test_no_request_of_three_processes_loses_its_queue(seed):
    dice = random.Random(seed)
    async with world() as scene:
        processes = [await scene.process(idle=5, poll_interval=1) for _ in range(3)]

        async def one(number: int) -> None:
            await asyncio.sleep(dice.uniform(0, 300))
            gather, own = dice.choice(processes)
            assert await ask(gather, own, dice.choice("abcde"), number, deadline=dice.uniform(2, 9)) == [number]

        await asyncio.gather(*(one(number) for number in range(150)))
        await asyncio.sleep(100)
        assert scene.made() == set()
        for gather, own in processes:
            assert (own._open, own._names, gather._listeners.active) == ({}, {}, {"memory:queue/shared"})


async def test_a_store_that_fails_is_tried_again():
    async with world() as scene:
        gather, own = await scene.process()
        due = scene.queues.due

        async def failing(*arguments: Any, **options: Any) -> list[str]:
            raise StoreError("away")

        await ask(gather, own, "Ada")
        scene.queues.due = failing
        await asyncio.sleep(300)
        assert len(scene.made()) == 1
        assert not own.health().ok
        scene.queues.due = due
        await asyncio.sleep(200)
        assert scene.made() == set()


async def test_without_a_store_they_are_temporary_queues_of_the_process():
    async with world() as scene:
        async with (
            RequestReply(scene.asked, scene.transport.queue("shared")) as client,
            ReplyQueues(scene.transport, client, queue=QueueSpec("own"), idle=30) as own,
        ):
            for key in ("Ada", "Ada", "Grace"):
                replies = await own.of(key, deadline=20)
                assert (await client.request("?", timeout=20, replies=replies)).body == "?"
            assert len(scene.made()) == 2
            await asyncio.sleep(100)
            assert scene.made() == set()
            await own.of("Ada", deadline=20)
        assert scene.made() == set()


async def test_parameters_are_checked():
    wrong: Any = 7
    async with MemoryTransport() as memory, RequestReply(memory.queue("a"), memory.queue("b")) as client:
        with pytest.raises(ConfigurationError, match="queue must have a name of 1 to 30 letters"):
            ReplyQueues(memory, client, queue=QueueSpec("x" * 31))
        with pytest.raises(TypeError, match="transport must be a transport"):
            ReplyQueues(wrong, client)
        with pytest.raises(TypeError, match="key must be a str"):
            await ReplyQueues(memory, client).of(wrong, deadline=1)
