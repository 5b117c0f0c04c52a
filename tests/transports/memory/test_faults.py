"""The queue under any fault plan: nothing is lost, groups keep their order, nothing is acknowledged before success."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eip import Backoff, Consumer, Message
from eip.errors import ConfigurationError, ConnectionLost, TransportError
from eip.testing import FaultPlan, run
from eip.transports.memory import MemoryTransport

LONG_ENOUGH = 600.0
"""Virtual seconds in which the last process has handled all there is."""

probability = st.sampled_from([0.0, 0.05, 0.3])
plans = st.builds(
    FaultPlan,
    seed=st.integers(0, 2**32),
    duplicates=probability,
    reordering=probability,
    delays=probability,
    lost_acks=probability,
    lost_extensions=probability,
    send_failures=probability,
    receive_failures=probability,
    lost_deliveries=probability,
)


async def send_all(transport, queue_name, messages):
    """As a producer does who sends again what failed, in order."""
    for message in messages:
        while True:
            try:
                await transport.queue(queue_name).send(message)
            except TransportError:
                await asyncio.sleep(0.1)
            else:
                break


class Run:
    """Three processes consume a queue; each may be killed and followed by another."""

    def __init__(self, plan: FaultPlan, *, name: str, kills: int, failures: bool) -> None:
        self.plan, self.name, self.kills, self.failures = plan, name, kills, failures
        self.begun: dict[str, list[int]] = defaultdict(list)
        self.done: dict[str, list[int]] = defaultdict(list)
        self.busy: dict[str, int] = defaultdict(int)
        self.overlaps = 0

    async def handle(self, message: Message) -> None:
        group, number = message.body
        self.begun[group].append(number)
        if self.failures and number % 7 == 3 and self.begun[group].count(number) == 1:
            raise ValueError("the first attempt fails")
        await asyncio.sleep(0.5)
        self.done[group].append(number)

    async def process(self, memory: MemoryTransport, life: float | None) -> None:
        transport = self.plan.wrap(memory)
        consumer = Consumer(transport.queue(self.name), self.handle, concurrency=5, retry=Backoff(base=0.2, cap=2))
        task = asyncio.create_task(consumer.run())
        if life is None:
            await asyncio.sleep(LONG_ENOUGH)
            await consumer.stop()
        else:
            await asyncio.sleep(life)
            transport.kill()
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def everything(self, messages: list[Message]) -> int:
        async with MemoryTransport(visibility=10) as memory:
            queue = memory.queue(self.name)
            producer = self.plan.wrap(memory)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(send_all(producer, self.name, messages))
                for number in range(self.kills):
                    tasks.create_task(self.process(memory, life=1.0 + 3.3 * number))
                tasks.create_task(self.process(memory, life=None))
            return len(queue)


@given(plan=plans, kills=st.integers(0, 3), failures=st.booleans())
def test_a_standard_queue_loses_nothing_and_acknowledges_nothing_undone(plan, kills, failures):
    scenario = Run(plan, name="standard", kills=kills, failures=failures)
    messages = [Message((f"g{number % 3}", number), id=f"m{number}") for number in range(30)]
    left = run(scenario.everything(messages))
    assert left == 0
    assert {number for each in scenario.done.values() for number in each} == set(range(30))


@given(plan=plans, kills=st.integers(0, 3), failures=st.booleans())
def test_a_fifo_queue_keeps_the_order_of_each_group_besides(plan, kills, failures):
    scenario = Run(plan, name="groups.fifo", kills=kills, failures=failures)
    messages = [Message((f"g{number % 3}", number), id=f"m{number}", group_id=f"g{number % 3}") for number in range(30)]
    left = run(scenario.everything(messages))
    assert left == 0
    for group, done in scenario.done.items():
        first = list(dict.fromkeys(done))
        assert first == sorted(first), f"group {group} was handled out of order"
    assert {number for each in scenario.done.values() for number in each} == set(range(30))


def test_the_same_seed_makes_the_same_run():
    def trace(seed: int):
        random.seed(seed)  # the backoff's jitter is not the plan's
        plan = FaultPlan(seed=seed, duplicates=0.2, delays=0.2, lost_acks=0.2, lost_deliveries=0.2)
        scenario = Run(plan, name="standard", kills=1, failures=True)
        run(scenario.everything([Message(("g", number), id=f"m{number}") for number in range(30)]))
        return scenario.begun["g"]

    assert trace(1) == trace(1)
    assert trace(1) != trace(2)


def test_each_fault_happens():
    """A plan with one fault alone shows it."""

    async def scenario():
        messages = [Message(number, id=f"{number}") for number in range(20)]
        async with MemoryTransport(visibility=10) as memory:
            await FaultPlan(duplicates=1).wrap(memory).queue("twice").send(*messages)
            assert len(memory.queue("twice")) == 40
            await FaultPlan(reordering=1).wrap(memory).queue("mixed").send(*messages)
            mixed = [each.body for each in memory.queue("mixed").messages()]
            assert mixed != sorted(mixed) == list(range(20))
            await FaultPlan(delays=1).wrap(memory).queue("slow").send(*messages)
            assert memory.queue("slow").store.ready == 0
            failing = FaultPlan(send_failures=1).wrap(memory)
            with pytest.raises(TransportError):
                await failing.queue("failing").send(*messages)
            assert failing.faults == 1
            async with FaultPlan(lost_deliveries=1).wrap(memory).queue("mixed").receiver() as receiver:
                assert not await receiver.receive(10)
                assert memory.queue("mixed").store.leased == 10
            async with FaultPlan(receive_failures=1).wrap(memory).queue("mixed").receiver() as receiver:
                with pytest.raises(ConnectionLost):
                    await receiver.receive(10)
            async with FaultPlan(lost_acks=1, lost_extensions=1).wrap(memory).queue("twice").receiver() as receiver:
                taken = await receiver.receive(10)
                assert len(await receiver.extend(taken, 20)) == 10
                assert len(await receiver.ack(taken)) == 10
                assert 30 < len(memory.queue("twice")) < 40

    run(scenario())


def test_topics_buses_and_streams_have_faults_too():
    async def scenario():
        async with MemoryTransport() as memory:
            transport = FaultPlan(duplicates=1).wrap(memory)
            got = {}
            for kind, channel, source in (
                ("topic", transport.topic("t"), transport.topic("t").subscription("s")),
                ("bus", transport.bus("b"), transport.bus("b").subscription("s")),
                ("stream", transport.stream("x"), transport.stream("x").group("g")),
            ):
                await channel.send(Message({"n": 1}, group_id="g", type="Told", source="test"))
                got[kind] = 0
                async with source.receiver() as receiver:
                    while taken := await receiver.receive(10, wait=1.0):
                        got[kind] += len(taken)
                        await receiver.ack(taken)
            assert got == {"topic": 2, "bus": 2, "stream": 2}

    run(scenario())


def test_a_killed_process_settles_nothing_more():
    async def scenario():
        async with MemoryTransport(visibility=10) as memory:
            transport = FaultPlan().wrap(memory)
            await transport.queue("q").send(Message("held"))
            async with transport.queue("q").receiver() as receiver:
                (held,) = await receiver.receive(1)
                transport.kill()
                for verb in (held.ack(), held.nack(), held.extend(5)):
                    with pytest.raises(ConnectionLost):
                        await verb
                with pytest.raises(ConnectionLost):
                    await transport.queue("q").send(Message("more"))
            assert memory.queue("q").store.leased == 1
            await asyncio.sleep(11)
            assert memory.queue("q").store.ready == 1

    run(scenario())


def test_a_plan_has_probabilities():
    with pytest.raises(ConfigurationError, match="lost_acks"):
        FaultPlan(lost_acks=2)
