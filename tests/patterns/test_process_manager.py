"""The process manager: steps forward, compensation back, and a crash at any moment in between."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from pydantic import BaseModel

from eip import Consumer, Message
from eip.errors import ConfigurationError, ConnectionLost, InvalidMessage, Reject, Retry, StoreError
from eip.patterns.diagram import diagram
from eip.patterns.process import ProcessStep
from eip.patterns.process_manager import Context, Instance, Process, ProcessManager
from eip.retry import Backoff
from eip.stores import MemoryStore, SqliteStore
from eip.transports.memory import MemoryTransport
from tests.runtime.scripted import Outbox, running, until


@pytest.fixture(params=["memory", "sqlite"])
async def store(request, tmp_path):
    store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "processes.sqlite")
    yield store
    await store.aclose()


class Trip(BaseModel):
    to: str = "Rome"
    log: list[str] = []


class World:
    """What steps do to it; fails as told, by the name of the step: an error, or seconds that it takes."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.trouble: dict[str, list[Exception | float]] = {}

    def does(self, name: str):
        async def act(trip: Trip) -> None:
            trip.log.append(name)
            self.log.append(name)
            for trouble in self.trouble.get(name, [])[:1]:
                self.trouble[name].pop(0)
                if isinstance(trouble, Exception):
                    raise trouble
                await asyncio.sleep(trouble)

        act.__name__ = name
        return act

    def trip(self, version: int = 1, **options) -> Process:
        """Three steps, of which the second has nothing to undo."""
        return (
            Process("trip", version=version, state=Trip, **options)
            .step(self.does("hotel"), compensate=self.does("no hotel"), max_attempts=3)
            .step(self.does("train"), max_attempts=3)
            .step(self.does("guide"), compensate=self.does("no guide"), max_attempts=3)
        )


@asynccontextmanager
async def working(*managers: ProcessManager):
    async with asyncio.TaskGroup() as tasks:
        for each in managers:
            tasks.create_task(each.run())
        yield
        for each in managers:
            await each.stop()


async def outcome(manager: ProcessManager, process: str = "trip", state=None) -> Instance:
    """Of an instance from its start to its end."""
    async with working(manager):
        return await manager.ended(await manager.start(process, state or Trip(), id="t"))


async def test_steps_are_made_in_order_and_the_state_is_kept(store):
    world = World()
    manager = ProcessManager(store, [world.trip()])
    ended = await outcome(manager)
    assert (ended.status, ended.error, ended.due) == ("completed", None, None)
    assert world.log == ["hotel", "train", "guide"]
    assert await manager.state("t") == Trip(log=["hotel", "train", "guide"])


async def test_a_step_may_return_a_new_state_and_take_a_context():
    seen = []

    async def move(state: dict, context: Context) -> dict:
        seen.append(context)
        return {"to": state["to"] + "!"}

    manager = ProcessManager(MemoryStore(), [Process("move").step(move)])
    await outcome(manager, "move", {"to": "Rome"})
    assert await manager.state("t") == {"to": "Rome!"}
    assert seen == [Context("t", "move", 1)]
    assert seen[0].key == "t/move"


async def test_a_step_is_left_out_where_its_condition_does_not_hold():
    world = World()
    process = Process("p", state=Trip).step(world.does("a"), when=lambda trip: trip.to == "Oslo").step(world.does("b"))
    assert (await outcome(ProcessManager(MemoryStore(), [process]), "p")).status == "completed"
    assert world.log == ["b"]


async def test_starting_twice_with_one_id_starts_once(store):
    world = World()
    manager = ProcessManager(store, [world.trip()])
    await outcome(manager)
    await outcome(manager)
    assert len(world.log) == 3


# Failures and compensation.


async def test_a_failed_step_is_tried_again_with_the_state_it_began_with(store):
    world = World()
    world.trouble["train"] = [ConnectionLost("gone"), Retry(delay=50)]
    manager = ProcessManager(store, [world.trip()])
    assert (await outcome(manager)).status == "completed"
    assert world.log == ["hotel", "train", "train", "train", "guide"]
    assert (await manager.state("t")).log == ["hotel", "train", "guide"]


@pytest.mark.parametrize(
    ("trouble", "undone"),
    [
        ([Reject("full")], ["no hotel"]),
        ([ConnectionLost("gone")] * 3, ["no guide", "no hotel"]),
        ([1000.0] * 3, ["no guide", "no hotel"]),
    ],
    ids=["rejected", "failed", "timed out"],
)
async def test_what_was_done_is_undone_in_reverse_order(store, trouble, undone):
    """The failed step as well, unless it says that it did nothing."""
    world = World()
    world.trouble["guide"] = list(trouble)
    ended = await outcome(ProcessManager(store, [world.trip()]))
    assert ended.status == "compensated"
    assert [each for each in world.log if each.startswith("no")] == undone
    assert ended.error is not None
    assert ended.done == []


async def test_a_compensation_is_tried_again_and_then_kept_for_someone_to_look_at(store):
    world = World()
    world.trouble = {"train": [Reject("full")], "no hotel": [ConnectionLost("gone")] * 4}
    manager = ProcessManager(store, [world.trip()], retention=1)
    ended = await outcome(manager)
    assert (ended.status, ended.done, world.log.count("no hotel")) == ("failed", ["hotel"], 3)
    await asyncio.sleep(1000)
    assert await manager.retry("t")
    async with working(manager):
        assert (await manager.ended("t")).status == "compensated"
    assert not await manager.retry("t")
    assert world.log.count("no hotel") == 5


async def test_a_condition_that_fails_is_the_failure_of_its_step():
    process = Process("p", state=Trip).step(
        World().does("a"),
        when=lambda trip: trip.nothing,  # type: ignore[attr-defined]
        max_attempts=2,
    )
    ended = await outcome(ProcessManager(MemoryStore(), [process]), "p")
    assert ended.status == "compensated"
    assert "AttributeError" in (ended.error or "")


async def test_a_state_of_another_type_is_the_failure_of_the_step_that_made_it():
    async def wrong(trip: Trip) -> str:
        return "no trip"

    process = Process("p", state=Trip).step(wrong, max_attempts=1)  # type: ignore[arg-type]
    ended = await outcome(ProcessManager(MemoryStore(), [process]), "p")
    assert ended.status == "compensated"


async def test_after_the_deadline_no_step_begins(store):
    world = World()
    world.trouble["train"] = [50.0]
    ended = await outcome(ProcessManager(store, [world.trip(deadline=30)]))
    assert (ended.status, ended.error) == ("compensated", "DeadlineExceeded")
    assert world.log == ["hotel", "train", "no hotel"]


# Crashes.


class Dying(MemoryStore):
    """Lets a process write n times; then nothing it does comes through any more."""

    def __init__(self, shared: MemoryStore, writes: int) -> None:
        super().__init__()
        self.__dict__.update(shared.__dict__)
        self.writes = writes

    async def put(self, *args, **options) -> str | None:
        if self.writes == 0:
            await asyncio.Event().wait()
        self.writes -= 1
        return await super().put(*args, **options)


@pytest.mark.parametrize("rejected", [False, True])
@pytest.mark.parametrize("writes", range(1, 8))
async def test_another_process_goes_on_wherever_one_died(writes, rejected):
    shared, world = MemoryStore(), World()
    if rejected:
        world.trouble["guide"] = [Reject("full")] * 2
    dying = ProcessManager(Dying(shared, writes), [world.trip()])
    task = asyncio.create_task(dying.run())
    start = asyncio.create_task(dying.start("trip", Trip(), id="t"))
    await asyncio.sleep(1)
    manager = ProcessManager(shared, [world.trip()])
    async with working(manager):
        ended = await manager.ended("t")
    assert ended.status == ("compensated" if rejected else "completed")
    log = world.log
    unsure = ["no guide"] if log.count("guide") > 1 else []  # the first attempt may have had an effect
    assert list(dict.fromkeys(log)) == ["hotel", "train", "guide", *([*unsure, "no hotel"] if rejected else [])]
    assert len(log) <= len(set(log)) + 1  # at most the step under way was repeated
    task.cancel()
    start.cancel()
    await asyncio.gather(task, start, return_exceptions=True)


class Odd(BaseException):
    pass


@pytest.mark.parametrize("odd", ["cancels itself", "raises", "is closed"])
async def test_a_step_that_cancels_itself_or_raises_what_is_no_exception_has_failed(store, odd):
    """Faults 41a and 41b, for steps: it was taken for the end of the process, and begun again at once, for ever."""
    calls = []

    async def step(_: Trip) -> None:
        calls.append(odd)
        if odd == "raises":
            raise Odd("odd")
        if odd == "is closed":
            raise GeneratorExit
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(1)

    manager = ProcessManager(store, [Process("odd", state=Trip).step(step, max_attempts=2)])
    ended = await asyncio.wait_for(outcome(manager, "odd"), 100)
    assert len(calls) == 2
    assert ended.status == "compensated"
    assert "the step raised" in str(ended.error)


async def test_a_step_that_kills_its_process_is_given_up_after_its_attempts():
    store, world = MemoryStore(), World()
    world.trouble["train"] = [1e9] * 3
    tasks = []
    await ProcessManager(store, [world.trip()]).start("trip", Trip(), id="t")
    for attempt in range(1, 4):
        tasks.append(asyncio.create_task(ProcessManager(Dying(store, 2 if attempt == 1 else 1), [world.trip()]).run()))
        await until(lambda attempt=attempt: world.log.count("train") == attempt)
    async with working(manager := ProcessManager(store, [world.trip()])):
        ended = await manager.ended("t")
    assert ended.status == "compensated"
    assert world.log == ["hotel", "train", "train", "train", "no hotel"]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_stopped_manager_lets_the_next_one_go_on_at_once(store):
    world = World()
    world.trouble["hotel"] = [10.0]
    first, second = (ProcessManager(store, [world.trip()]) for _ in range(2))
    async with working(first):
        await first.start("trip", Trip(), id="t")
        await asyncio.sleep(1)
    assert world.log == ["hotel"]
    began = asyncio.get_running_loop().time()
    async with working(second):
        await second.ended("t")
    assert world.log == ["hotel", "train", "guide"]
    assert asyncio.get_running_loop().time() - began < 6


async def test_a_cancelled_manager_repeats_the_step_but_does_not_count_it(store):
    world = World()
    world.trouble["hotel"] = [10.0]
    manager = ProcessManager(store, [world.trip()])
    task = asyncio.create_task(manager.run())
    await manager.start("trip", Trip(), id="t")
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    instance = await manager.get("t")
    assert instance is not None
    assert instance.attempt == 0
    async with working(manager):
        await manager.ended("t")
    assert world.log == ["hotel", "hotel", "train", "guide"]


async def test_two_managers_on_one_store_make_each_step_once(store):
    world = World()
    managers = [ProcessManager(store, [world.trip()]) for _ in range(2)]
    async with working(*managers):
        for number in range(20):
            await managers[number % 2].start("trip", Trip(), id=f"t{number}")
        for number in range(20):
            await managers[0].ended(f"t{number}")
    assert len(world.log) == 60


async def test_a_slow_process_does_not_hold_the_others_up():
    world = World()
    world.trouble["hotel"] = [50.0]
    manager = ProcessManager(MemoryStore(), [world.trip()])
    async with working(manager):
        await manager.start("trip", Trip(), id="slow")
        await asyncio.sleep(1)
        began = asyncio.get_running_loop().time()
        await manager.ended(await manager.start("trip", Trip()))
        assert asyncio.get_running_loop().time() - began < 1


# Messages.


def paying(world: World, **options) -> Process:
    async def paid(trip: Trip, message: Message) -> None:
        world.log.append(f"paid {message.body}")

    return (
        Process("trip", state=Trip, **options)
        .step(world.does("ask"), compensate=world.does("withdraw"))
        .receive(paid, within=3600, filter=lambda message: message.body["sum"] > 0)
        .step(world.does("send"))
    )


def payment(amount: int = 5, *, of: str = "t") -> Message:
    return Message({"sum": amount}, correlation_id=of)


async def test_a_step_waits_for_a_message_that_it_wants(store):
    world = World()
    manager = ProcessManager(store, [paying(world)])
    async with working(manager):
        await manager.start("trip", Trip(), id="t")
        await asyncio.sleep(100)
        await manager.receive(payment(0))
        await manager.receive(Message("unreadable", correlation_id="t"))
        await asyncio.sleep(100)
        assert world.log == ["ask"]
        instance = await manager.get("t")
        assert instance is not None
        assert instance.status == "waiting"
        message = payment()
        await manager.receive(message)
        await manager.receive(message)
        assert (await manager.ended("t")).status == "completed"
    assert world.log == ["ask", "paid {'sum': 5}", "send"]


async def test_a_message_may_come_before_anybody_waits(store):
    world = World()
    world.trouble["ask"] = [30.0]
    manager = ProcessManager(store, [paying(world)])
    async with working(manager):
        await manager.start("trip", Trip(), id="t")
        await asyncio.sleep(1)
        await manager.receive(payment())
        assert (await manager.ended("t")).status == "completed"
    assert world.log == ["ask", "paid {'sum': 5}", "send"]


async def test_where_no_message_comes_in_time_the_process_is_compensated(store):
    world = World()
    manager = ProcessManager(store, [paying(world)])
    ended = await outcome(manager)
    assert ended.status == "compensated"
    assert "no message came" in (ended.error or "")
    assert world.log == ["ask", "withdraw"]
    await manager.receive(payment())
    assert world.log == ["ask", "withdraw"]


async def test_the_deadline_ends_a_wait():
    world = World()
    began = asyncio.get_running_loop().time()
    ended = await outcome(ProcessManager(MemoryStore(), [paying(world, deadline=60)]))
    assert ended.error == "DeadlineExceeded"
    assert asyncio.get_running_loop().time() - began < 70


@pytest.mark.parametrize("message", [Message(1), payment(of="nobody")])
async def test_a_message_for_no_process_is_rejected(message):
    with pytest.raises(Reject):
        await ProcessManager(MemoryStore(), [paying(World())]).receive(message)


async def test_over_queues_with_a_store_that_fails_now_and_then():
    class Fickle(MemoryStore):
        """Every third write fails, half of those after they were made."""

        writes = 0

        async def put(self, *args, **options) -> str | None:
            self.writes += 1
            if self.writes % 6 == 3:
                raise StoreError("no answer")
            version = await super().put(*args, **options)
            if self.writes % 6 == 0:
                raise StoreError("no answer")
            return version

    world = World()
    async with MemoryTransport() as transport:
        orders, payments = transport.queue("orders"), transport.queue("payments")
        manager = ProcessManager(Fickle(), [paying(world)])
        consumers = Consumer(orders, manager.starting("trip")), Consumer(payments, manager.receive)
        async with working(manager), running(consumers[0]), running(consumers[1]):
            await orders.send(*(Message(Trip(), id=f"t{number}") for number in range(10)))
            await until(lambda: world.log.count("ask") >= 10)
            await payments.send(*(payment(of=f"t{number}") for number in range(10)))
            for number in range(10):
                assert (await manager.ended(f"t{number}")).status == "completed"


# Definitions.


async def test_running_instances_finish_on_their_version(store):
    old, new = World(), World()
    async with working(first := ProcessManager(store, [paying(old)])):
        await first.start("trip", Trip(), id="old")
        await asyncio.sleep(1)
    manager = ProcessManager(store, [paying(old), new.trip(version=2)])
    async with working(manager):
        await manager.receive(payment(of="old"))
        await manager.start("trip", Trip(), id="new")
        assert ((await manager.ended("old")).version, (await manager.ended("new")).version) == (1, 2)
    assert old.log == ["ask", "paid {'sum': 5}", "send"]
    assert new.log == ["hotel", "train", "guide"]


async def test_an_instance_of_an_unknown_version_is_left_to_those_who_know_it(store):
    world = World()
    await ProcessManager(store, [world.trip(version=2)]).start("trip", Trip(), id="t")
    async with working(ProcessManager(store, [World().trip()])):
        await asyncio.sleep(60)
    assert (await outcome(ProcessManager(store, [world.trip(version=2)]))).status == "completed"


async def test_what_cannot_be_started_is_refused():
    manager = ProcessManager(MemoryStore(), [World().trip()])
    with pytest.raises(ConfigurationError, match="no process"):
        await manager.start("unknown", {})
    with pytest.raises(ConfigurationError, match="not a state"):
        await manager.start("trip", {"to": 3})
    with pytest.raises(LookupError):
        await manager.ended("unknown")


def test_definitions_that_cannot_be_are_refused():
    world = World()
    step = world.does("a")
    for wrong in (
        lambda: ProcessManager(MemoryStore(), [Process("empty")]),
        lambda: Process("p").step(step).step(step),
        lambda: Process("p").step(lambda state: state),
        lambda: Process("p").step(step, compensate=lambda state: state),
        lambda: Process("p").step(step, timeout=0),
        lambda: Process("p").step(step, max_attempts=0),
        lambda: Process("p").receive(step, within=0),
        lambda: Process("p", state=World),
    ):
        with pytest.raises(ConfigurationError):
            wrong()


async def test_ended_instances_are_forgotten_after_a_while():
    manager = ProcessManager(MemoryStore(), [World().trip()], retention=60)
    await outcome(manager)
    await asyncio.sleep(61)
    assert await manager.get("t") is None


def test_a_manager_tells_its_processes():
    told = str(diagram(ProcessManager(MemoryStore(), [World().trip()])))
    assert told.splitlines() == ["process_manager", "  process trip 1", "    hotel", "    train", "    guide"]


def attempts(process: Process) -> int:
    (step,) = process.elements
    assert isinstance(step, ProcessStep)
    return step.max_attempts


async def test_the_most_attempts_of_a_backoff_are_a_steps():
    """Fault 40: ``Process.step(retry=Backoff(max_attempts=…))`` was ignored."""

    async def book(trip):
        return trip

    assert attempts(Process("p").step(book, retry=Backoff(max_attempts=2))) == 2
    assert attempts(Process("p").step(book)) == 5
    assert attempts(Process("p").step(book, max_attempts=3, retry=Backoff(max_attempts=3))) == 3
    with pytest.raises(ConfigurationError, match="must be the same"):
        Process("p").step(book, max_attempts=3, retry=Backoff(max_attempts=2))


async def test_a_process_may_have_any_id(store):
    """Fault 15: strangers' ids with NUL, or longer than a database's keys."""
    world = World()
    manager = ProcessManager(store, [world.trip()])
    async with working(manager):
        for key in ("a\0b", "x" * 5000):
            await manager.start("trip", Trip(), id=key)
            assert (await manager.ended(key)).status == "completed"


async def test_a_record_that_cannot_be_read_hides_no_other_instances(store):
    """The whole list, and the console's page, was an error."""
    manager = ProcessManager(store, [World().trip()])
    await manager.start("trip", Trip(), id="t")
    await store.put("odd", b"\xff", due=1.0)
    assert [each.id for each in await manager.instances()] == ["t"]
    with pytest.raises(StoreError, match="another program's"):
        await manager.get("odd")


async def test_an_end_that_the_output_can_never_carry_is_reported_no_more(store):
    """It was sent again every five minutes for ever, and the instance never forgotten."""
    out = Outbox()
    out.refuse.extend([ConnectionLost("gone"), *[InvalidMessage("too large")] * 100])
    manager = ProcessManager(store, [World().trip()], output=out, retention=60)
    async with working(manager):
        await manager.start("trip", Trip(), id="t")
        await asyncio.sleep(50)
        assert len(out.refuse) == 99
        assert manager.health().ok
        await asyncio.sleep(60)
        assert await manager.get("t") is None
