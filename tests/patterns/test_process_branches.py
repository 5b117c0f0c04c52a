"""Choices, failure branches, timers, parallel branches, maps and sub-processes; what can be asked and cancelled."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import BaseModel

from eip import Consumer, Message, clock
from eip.errors import ConfigurationError, ConnectionLost, Reject, StoreError
from eip.patterns._process_elements import walk
from eip.patterns.process_manager import Context, Instance, Process, ProcessEnded, ProcessManager, Steps
from eip.stores import MemoryStore, SqliteStore
from eip.transports.memory import MemoryTransport
from tests.runtime.scripted import running


class Order(BaseModel):
    kind: str = "book"
    log: list[str] = []


class World:
    """Logs what steps do, with the time; has the trouble that it is told."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.trouble: dict[str, list[Exception | float]] = {}
        self.under_way = self.most_under_way = 0

    def does(self, name: str):
        async def act(order: Order) -> None:
            order.log.append(name)
            self.log.append(name)
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
            try:
                for trouble in self.trouble.get(name, [])[:1]:
                    self.trouble[name].pop(0)
                    if isinstance(trouble, Exception):
                        raise trouble
                    await asyncio.sleep(trouble)
            finally:
                self.under_way -= 1

        act.__name__ = name
        return act

    def steps(self, *names: str) -> Steps[Order]:
        """Steps of these names, each with a compensation ``-name``."""
        steps = Steps[Order]()
        for name in names:
            steps.step(self.does(name), compensate=self.does(f"-{name}"), max_attempts=2)
        return steps


def process(steps: Steps[Order], version: int = 1, **options) -> Process[Order]:
    made = Process("p", version=version, state=Order, **options)
    for each in steps.steps:
        made._add(each)
    return made


@asynccontextmanager
async def working(manager: ProcessManager):
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(manager.run())
        yield manager
        await manager.stop()


async def outcome(definition: Process, state: object = None, **options) -> Instance:
    async with working(ProcessManager(MemoryStore(), [definition], **options)) as manager:
        ended: Instance = await manager.ended(await manager.start("p", state or Order(), id="1"))
        ended.state = str(getattr(await manager.state("1"), "log", ended.state))
        return ended


def visited(instance: Instance) -> list[str]:
    return [("-" if each.undo else "") + each.step for each in instance.history]


# Choices.


def sorted_by_kind(world: World) -> Process[Order]:
    return process(
        world.steps("take")
        .choice(
            [
                (lambda order: order.kind == "book", world.steps("print", "bind")),
                (lambda order: order.kind == "toy", world.steps("build")),
            ],
            otherwise=world.steps("look"),
        )
        .step(world.does("send"))
    )


@pytest.mark.parametrize(
    ("kind", "way", "label"),
    [
        ("book", ["print", "bind"], 'order.kind == "book"'),
        ("toy", ["build"], 'order.kind == "toy"'),
        ("cat", ["look"], "otherwise"),
    ],
)
async def test_a_choice_takes_one_way_and_all_are_joined_again(kind, way, label):
    world = World()
    ended = await outcome(sorted_by_kind(world), Order(kind=kind))
    assert (ended.status, world.log) == ("completed", ["take", *way, "send"])
    assert visited(ended) == ["take", "choice", *way, "send"]
    assert ended.history[1].detail == label


async def test_a_choice_without_a_default_goes_on():
    world = World()
    ended = await outcome(process(Steps[Order]().choice([(lambda _: False, world.steps("a"))]).step(world.does("b"))))
    assert (ended.status, world.log) == ("completed", ["b"])


async def test_what_a_choice_led_to_is_compensated_in_reverse():
    world = World()
    world.trouble["send"] = [Reject("no address")]
    ended = await outcome(sorted_by_kind(world))
    assert (ended.status, ended.error) == ("compensated", "Reject: no address")
    assert world.log == ["take", "print", "bind", "send", "-bind", "-print", "-take"]


async def test_a_condition_that_raises_is_a_failure_for_good():
    world = World()
    definition = process(world.steps("a").choice([(lambda order: order.log[7] == "x", world.steps("b"))]))
    ended = await outcome(definition)
    assert (ended.status, ended.error) == ("compensated", "IndexError: list index out of range")
    assert world.log == ["a", "-a"]


async def test_a_process_may_end_or_fail_in_a_branch():
    world = World()
    definition = process(
        world.steps("a")
        .choice([(lambda order: order.kind == "book", Steps[Order]().complete())])
        .fail(lambda order: f"no {order.kind}s")
    )
    assert (await outcome(definition)).status == "completed"
    ended = await outcome(definition, Order(kind="toy"))
    assert (ended.status, ended.error) == ("compensated", "no toys")
    assert world.log == ["a", "a", "-a"]


# Failure branches.


def caught(world: World) -> Process[Order]:
    async def report(order: Order, context: Context) -> None:
        world.log.append(f"report {context.error}")

    return process(
        world.steps("a").catch(world.steps("b", "c"), failed=Steps[Order]().step(report)).step(world.does("d"))
    )


async def test_a_failure_branch_undoes_its_body_and_goes_on():
    world = World()
    world.trouble["c"] = [ConnectionLost("gone"), Reject("full")]
    ended = await outcome(caught(world))
    assert ended.status == "completed"
    # The first attempt at c may have had an effect, so it is undone as well.
    assert world.log == ["a", "b", "c", "c", "-c", "-b", "report Reject: full", "d"]


async def test_without_a_failure_the_failure_branch_is_left_out():
    world = World()
    assert (await outcome(caught(world))).status == "completed"
    assert world.log == ["a", "b", "c", "d"]


async def test_a_failure_branch_that_fails_fails_what_is_around_it():
    world = World()
    world.trouble = {"b": [Reject("b is out")], "e": [Reject("e is out")]}
    inner = Steps[Order]().catch(world.steps("b"), failed=world.steps("e"))
    outer = world.steps("a").catch(inner, failed=world.steps("f"))
    assert (await outcome(process(outer))).status == "completed"
    assert world.log == ["a", "b", "e", "f"]


async def test_what_was_caught_is_still_compensated_by_a_later_failure():
    world = World()
    world.trouble = {"b": [Reject("b")], "d": [Reject("d")]}
    steps = Steps[Order]().catch(world.steps("a", "b"), failed=world.steps("c")).step(world.does("d"))
    ended = await outcome(process(steps))
    assert ended.status == "compensated"
    assert world.log == ["a", "b", "-a", "c", "d", "-c"]


async def test_the_deadline_passes_a_failure_branch_by():
    world = World()
    world.trouble["b"] = [50.0]
    steps = Steps[Order]().catch(world.steps("a", "b", "c"), failed=world.steps("d"))
    ended = await outcome(process(steps, deadline=10))
    assert (ended.status, ended.error) == ("compensated", "DeadlineExceeded")
    assert world.log == ["a", "b", "-b", "-a"]


async def test_a_message_that_does_not_come_may_be_caught():
    world = World()

    async def paid(order: Order, message: Message) -> None: ...

    steps = Steps[Order]().catch(
        world.steps("ask").receive(paid, within=3600), failed=Steps[Order]().step(world.does("remind"))
    )
    assert (await outcome(process(steps))).status == "completed"
    assert world.log == ["ask", "-ask", "remind"]


# Timers.


@pytest.mark.parametrize(
    "delay",
    [
        30,
        timedelta(seconds=30),
        lambda order: 30.0,
        lambda order: timedelta(seconds=30),
        lambda order: datetime.fromtimestamp(clock.now() + 30, UTC),
    ],
)
async def test_a_timer_waits(delay):
    world = World()
    began = clock.now()
    ended = await outcome(process(world.steps("a").wait(delay).step(world.does("b"))))
    assert ended.status == "completed"
    assert 30 <= clock.now() - began < 31
    assert [each.outcome for each in ended.history] == ["done"] * 3


async def test_a_timer_goes_on_in_another_process_and_is_not_begun_again():
    store, world = MemoryStore(), World()
    definition = process(Steps[Order]().wait(100).step(world.does("b")))
    async with working(ProcessManager(store, [definition])) as manager:
        await manager.start("p", Order(), id="1")
        await asyncio.sleep(90)
    began = clock.now()
    async with working(ProcessManager(store, [definition])) as manager:
        await manager.ended("1")
    assert clock.now() - began < 20


@pytest.mark.parametrize("delay", [lambda order: -1.0, lambda order: "soon", lambda order: order.nothing])
async def test_a_timer_whose_function_is_wrong_fails_for_good(delay):
    world = World()
    ended = await outcome(process(world.steps("a").wait(delay)))
    assert (ended.status, world.log) == ("compensated", ["a", "-a"])


# Parallel branches.


def forked(world: World, **options) -> Process[Order]:
    def join(order: Order, ends: dict[str, Order]) -> None:
        order.log.append("+".join(",".join(end.log[1:]) for end in ends.values()))

    branches = {"left": world.steps("l1", "l2"), "right": world.steps("r1", "r2")}
    return process(world.steps("a").parallel(branches, join=join, name="both").step(world.does("z")), **options)


async def test_branches_run_at_the_same_time_and_are_joined():
    world = World()
    world.trouble = {name: [10.0] for name in ("l1", "l2", "r1", "r2")}
    began = clock.now()
    ended = await outcome(forked(world))
    assert (ended.status, ended.state) == ("completed", "['a', 'l1,l2+r1,r2', 'z']")
    assert clock.now() - began < 30
    assert world.most_under_way == 2


async def test_branches_without_a_join_leave_the_state_as_it_is():
    world = World()
    ended = await outcome(process(Steps[Order]().parallel({"x": world.steps("x"), "y": world.steps("y")})))
    assert (ended.state, sorted(world.log)) == ("[]", ["x", "y"])


async def test_when_a_branch_fails_the_others_are_cancelled_and_all_are_undone():
    world = World()
    world.trouble = {"r2": [Reject("full")], "l2": [50.0]}
    ended = await outcome(forked(world))
    assert (ended.status, ended.error) == ("compensated", "right: Reject: full")
    assert [each for each in world.log if each.startswith("-")] == ["-r1", "-l2", "-l1", "-a"]
    assert "z" not in world.log


async def test_branches_that_were_completed_are_undone_in_reverse():
    world = World()
    world.trouble["z"] = [Reject("no")]
    ended = await outcome(forked(world))
    assert ended.status == "compensated"
    assert [each for each in world.log if each.startswith("-")] == ["-r2", "-r1", "-l2", "-l1", "-a"]


async def test_a_failed_branch_may_be_caught_around_and_inside():
    world = World()
    world.trouble = {"b": [Reject("b")], "c": [Reject("c")]}
    branches = {"x": Steps[Order]().catch(world.steps("b"), failed=world.steps("d")), "y": world.steps("y", "c")}
    steps = Steps[Order]().catch(Steps[Order]().parallel(branches), failed=world.steps("e"))
    assert (await outcome(process(steps))).status == "completed"
    assert world.log[-1] == "e"
    assert {"b", "c", "d", "-d", "-y"} <= set(world.log)


async def test_a_compensation_that_fails_in_a_branch_is_kept_and_can_be_tried_again():
    world = World()
    world.trouble = {"z": [Reject("no")], "-l1": [ConnectionLost("gone")] * 2}
    async with working(ProcessManager(MemoryStore(), [forked(world)])) as manager:
        await manager.start("p", Order(), id="1")
        assert (await manager.ended("1")).status == "failed"
        assert {each.id for each in await manager.instances(status="failed", children=True)} == {"1", "1/both/0"}
        assert await manager.retry("1")
        assert (await manager.ended("1")).status == "compensated"
    assert world.log[-4:] == ["-l1", "-l1", "-l1", "-a"]


async def test_two_managers_share_the_branches():
    store, world = MemoryStore(), World()
    world.trouble = {name: [30.0] for name in ("l1", "r1")}
    one, two = (ProcessManager(store, [forked(world)], concurrency=1) for _ in range(2))
    async with working(one), working(two):
        began = clock.now()
        await one.start("p", Order(), id="1")
        assert (await two.ended("1")).status == "completed"
        assert clock.now() - began < 50
    assert len(world.log) == len(set(world.log))


# Maps and sub-processes.


class Page(BaseModel):
    number: int
    text: str = ""


def printing(world: World) -> Process[Page]:
    async def typeset(page: Page) -> None:
        world.under_way += 1
        world.most_under_way = max(world.most_under_way, world.under_way)
        await asyncio.sleep(1 + page.number % 3)
        world.under_way -= 1
        if page.number == 666:
            raise Reject("not this one")
        page.text = f"page {page.number}"

    async def shred(page: Page) -> None:
        world.log.append(f"shred {page.number}")

    return Process("page", state=Page).step(typeset, compensate=shred)


def book(world: World, numbers: list[int], **options) -> Process[Order]:
    return process(
        Steps[Order]()
        .map(
            printing(world),
            items=lambda order: [Page(number=number) for number in numbers],
            join=lambda order, pages: Order(log=[each.text for each in pages]),
            **options,
        )
        .step(world.does("bind"))
    )


async def test_a_map_runs_a_process_for_each_item_and_keeps_their_order():
    world = World()
    numbers = list(range(25, 0, -1))
    ended = await outcome(book(world, numbers, max_concurrency=4))
    assert ended.state == str([*(f"page {each}" for each in numbers), "bind"])
    assert world.most_under_way == 4


async def test_a_map_over_nothing_goes_on():
    world = World()
    ended = await outcome(book(world, []))
    assert (ended.status, world.log) == ("completed", ["bind"])


async def test_when_an_item_fails_no_more_are_begun_and_the_others_are_undone():
    world = World()
    ended = await outcome(book(world, [1, 3, 666, 6, 9, 12, 15], max_concurrency=2))
    assert (ended.status, ended.error) == ("compensated", "2: Reject: not this one")
    assert world.log[-1] == "shred 1"
    assert "shred 15" not in world.log


async def test_items_of_another_type_are_a_failure_for_good():
    world = World()
    steps = world.steps("a").map(printing(world), items=lambda order: ["no page"])  # type: ignore[list-item]
    ended = await outcome(process(steps))
    assert (ended.status, world.log) == ("compensated", ["a", "-a"])


async def test_a_sub_process_has_a_state_of_its_own():
    world = World()

    def join(order: Order, page: Page) -> None:
        order.log.append(page.text)

    steps = Steps[Order]().process(printing(world), state=lambda order: Page(number=7), join=join)
    ended = await outcome(process(steps.step(world.does("send"))))
    assert ended.state == "['page 7', 'send']"
    assert visited(ended) == ["page", "send"]


async def test_a_sub_process_keeps_its_version_and_need_not_be_named():
    store, world = MemoryStore(), World()

    def of(version: int) -> Process[Order]:
        inner = Process("inner", version=version, state=Order).wait(100).step(world.does(f"inner {version}"))
        return process(Steps[Order]().process(inner, state=lambda order: order), version)

    async with working(ProcessManager(store, [of(1)])) as manager:
        await manager.start("p", Order(), id="old")
        await asyncio.sleep(10)
    async with working(ProcessManager(store, [of(1), of(2)])) as manager:
        await manager.start("p", Order(), id="new")
        assert [(await manager.ended(each)).version for each in ("old", "new")] == [1, 2]
    assert world.log == ["inner 1", "inner 2"]


async def test_processes_may_be_nested_deeply():
    world = World()
    inner = Process("leaf", state=Order).step(world.does("leaf"), compensate=world.does("-leaf"))
    for depth in range(5):
        inner = Process(f"level {depth}", state=Order).process(inner, state=lambda order: order)
    world.trouble["end"] = [Reject("no")]
    ended = await outcome(process(Steps[Order]().process(inner, state=lambda order: order).step(world.does("end"))))
    assert (ended.status, world.log) == ("compensated", ["leaf", "end", "-leaf"])


async def test_an_id_that_somebody_took_fails_the_step_and_harms_nobody():
    world = World()
    async with working(ProcessManager(MemoryStore(), [forked(world)])) as manager:
        await manager.start("p", Order(), id="1/both/1")
        await manager.ended("1/both/1")
        await manager.start("p", Order(), id="1")
        ended = await manager.ended("1")
        assert (ended.status, "is taken" in (ended.error or "")) == ("compensated", True)
        other = await manager.get("1/both/1")
        assert other is not None
        assert other.status == "completed"


# Cancellation.


@pytest.mark.parametrize("seconds", [5, 15, 35, 45])
async def test_a_cancelled_process_ends_its_step_and_is_compensated(seconds):
    """While a step runs, while branches run, in a timer inside of a failure branch's body."""
    world = World()
    world.trouble = {"a": [10.0], "l1": [20.0], "r1": [10.0]}
    steps = world.steps("a").parallel({"l": world.steps("l1"), "r": world.steps("r1")}).wait(10)
    definition = process(Steps[Order]().catch(steps, failed=world.steps("f")).wait(100).step(world.does("z")))
    async with working(ProcessManager(MemoryStore(), [definition])) as manager:
        await manager.start("p", Order(), id="1")
        await asyncio.sleep(seconds)
        assert await manager.cancel("1", "not wanted any more")
        ended = await manager.ended("1")
        assert (ended.status, ended.error) == ("cancelled", "not wanted any more")
        assert not await manager.cancel("1")
    done = [each for each in world.log if not each.startswith("-")]
    assert sorted(done) == sorted(each[1:] for each in world.log if each.startswith("-"))
    assert not {"f", "z"} & set(world.log)


async def test_what_a_step_did_before_it_was_cancelled_is_known_to_its_compensation():
    seen: list[dict] = []

    async def book(state: dict) -> dict:
        await asyncio.sleep(10)
        return {"booking": 7}

    async def unbook(state: dict) -> None:
        seen.append(state)

    async with working(ProcessManager(MemoryStore(), [Process("p").step(book, compensate=unbook).wait(9)])) as manager:
        await manager.start("p", {}, id="1")
        await asyncio.sleep(1)
        await manager.cancel("1")
        assert (await manager.ended("1")).status == "cancelled"
    assert seen == [{"booking": 7}]


async def test_what_goes_back_already_is_not_cancelled():
    world = World()
    world.trouble = {"b": [Reject("full")], "-a": [20.0]}
    async with working(ProcessManager(MemoryStore(), [process(world.steps("a", "b"))])) as manager:
        await manager.start("p", Order(), id="1")
        await asyncio.sleep(10)
        assert not await manager.cancel("1")
        ended = await manager.ended("1")
        assert (ended.status, ended.error) == ("compensated", "Reject: full")


async def test_only_what_is_there_can_be_cancelled():
    with pytest.raises(LookupError):
        await ProcessManager(MemoryStore(), [process(World().steps("a"))]).cancel("nobody")


# Questions.


@pytest.fixture(params=["memory", "sqlite"])
async def store(request, tmp_path):
    store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "processes.sqlite")
    yield store
    await store.aclose()


async def test_instances_are_found_by_definition_version_status_and_anything_else(store):
    world = World()
    old, new = (process(world.steps("a").wait(100), version) for version in (1, 2))
    other = Process("other").wait(1)
    async with working(ProcessManager(store, [old, other])) as manager:
        await manager.start("p", Order(), id="old")
        await asyncio.sleep(60)
    async with working(ProcessManager(store, [old, new, other])) as manager:
        for number in range(3):
            await manager.start("p", Order(kind=str(number)), id=f"new {number}")
            await asyncio.sleep(1)
        await manager.start("other", {}, id="other")
        await manager.ended("old")

        async def ids(*arguments, **options) -> list[str]:
            return [each.id for each in await manager.instances(*arguments, **options)]

        assert await ids() == ["other", "new 2", "new 1", "new 0", "old"]
        assert await ids(limit=2) == ["other", "new 2"]
        assert await ids("p", version=1) == ["old"]
        assert await ids("p", version=2, status="waiting") == ["new 2", "new 1", "new 0"]
        assert await ids(status="completed") == ["other", "old"]
        assert await ids(filter=lambda each: '"kind":"1"' in each.state) == ["new 1"]
        assert await ids("nothing") == []


async def test_an_instance_may_begin_on_a_version_that_is_named():
    old, new = (process(World().steps("a"), version) for version in (1, 2))
    async with working(ProcessManager(MemoryStore(), [old, new])) as manager:
        await manager.start("p", Order(), id="1", version=1)
        assert (await manager.ended("1")).version == 1
        with pytest.raises(ConfigurationError, match="'p' 3"):
            await manager.start("p", Order(), version=3)


async def test_a_family_is_an_instance_with_its_children():
    world = World()
    async with working(ProcessManager(MemoryStore(), [forked(world)])) as manager:
        await manager.start("p", Order(), id="1")
        await manager.ended("1")
        family = await manager.family("1")
        assert [(each.id, each.branch) for each in family] == [("1", ""), ("1/both/0", "left"), ("1/both/1", "right")]
        assert [each.id for each in await manager.instances()] == ["1"]
        with pytest.raises(LookupError):
            await manager.family("2")


async def test_children_are_known_as_long_as_their_parent():
    store, world = MemoryStore(), World()
    definition = process(
        Steps[Order]()
        .parallel({"x": Steps[Order]().parallel({"y": world.steps("y")})})
        .wait(1000)
        .step(world.does("z"))
    )
    async with working(ProcessManager(store, [definition], retention=60)) as manager:
        await manager.start("p", Order(), id="1")
        await asyncio.sleep(900)
        assert len(await manager.family("1")) == 3
        await manager.ended("1")
        await asyncio.sleep(61)
        assert len(store) == 0


async def test_a_message_reports_the_end(store):
    world = World()
    world.trouble["z"] = [Reject("no")]
    reports: list[Message[ProcessEnded]] = []

    async def note(message: Message[ProcessEnded]) -> None:
        reports.append(message)

    async with MemoryTransport() as transport:
        ends = transport.queue("ends")
        manager = ProcessManager(store, [forked(world)], output=ends)
        async with working(manager), running(Consumer(ends, note)):
            await manager.start("p", Order(), id="1")
            await manager.ended("1")
            await manager.ended(await manager.start("p", Order(), id="2"))
            await asyncio.sleep(1)
    assert [(each.id, each.correlation_id) for each in reports] == [("1/compensated", "1"), ("2/completed", "2")]
    body = reports[1].body
    assert (body.process, body.version, body.status, body.error) == ("p", 1, "completed", None)
    assert body.state == {"kind": "book", "log": ["a", "l1,l2+r1,r2", "z"]}


async def test_the_end_is_reported_when_the_channel_is_back():
    world = World()
    sent: list[Message] = []

    class Output:
        name = address = "ends"

        async def send(self, *messages: Message) -> None:
            if clock.now() - began < 60:
                raise StoreError("away")
            sent.extend(messages)

    began = clock.now()
    manager = ProcessManager(MemoryStore(), [process(world.steps("a"))], output=Output())  # type: ignore[arg-type]
    async with working(manager):
        await manager.start("p", Order(), id="1")
        await asyncio.sleep(200)
    assert {each.id for each in sent} == {"1/completed"}


# Definitions.


def test_names_are_unique_and_given_where_there_are_none():
    world = World()
    steps = Steps[Order]().wait(1).choice([(lambda _: True, Steps[Order]().wait(2))]).wait(3, name="wait 2")
    assert [each.name for each in walk(process(steps).elements)] == ["wait", "choice", "wait 3", "wait 2"]
    with pytest.raises(ConfigurationError, match="name of its own"):
        process(world.steps("a").choice([(lambda _: True, world.steps("a"))]))


def test_definitions_that_cannot_be_are_refused():
    world = World()
    steps = Steps[Order]()
    for wrong in (
        lambda: steps.choice([]),
        lambda: steps.catch(Steps[Order](), failed=world.steps("a")),
        lambda: steps.parallel({}),
        lambda: steps.parallel({"a": Steps[Order]()}),
        lambda: steps.map(Process("p"), items=lambda _: [], max_concurrency=0),
        lambda: steps.wait(-1),
        lambda: ProcessManager(MemoryStore(), [process(world.steps("a")), process(world.steps("a"))]),
        lambda: ProcessManager(MemoryStore(), [process(Steps[Order]().process(Process("q"), state=lambda _: {}))]),
    ):
        with pytest.raises(ConfigurationError):
            wrong()
