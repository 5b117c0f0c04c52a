"""The loop that does what is due: in time, bounded, and whatever fails."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

from eip import clock
from eip.errors import StoreError
from eip.patterns._scheduler import Scheduler
from eip.stores import MemoryStore


class Work:
    """Does what is due by removing it, and notes when; takes a while, or fails at first."""

    def __init__(self, *, takes: float = 0.0, failures: int = 0, concurrency: int = 100) -> None:
        self.store = MemoryStore()
        self.loop = Scheduler(self.store, self.do, name="test", concurrency=concurrency)
        self.takes, self.failures = takes, failures
        self.began = clock.now()
        self.done: list[tuple[str, float]] = []
        self.busy = self.most = 0

    async def do(self, key: str) -> None:
        self.busy += 1
        self.most = max(self.most, self.busy)
        try:
            await asyncio.sleep(self.takes)
            if self.failures:
                self.failures -= 1
                raise RuntimeError(key)
            await self.store.delete(key)
            self.done.append((key, round(clock.now() - self.began, 1)))
        finally:
            self.busy -= 1

    async def put(self, key: str, *, after: float) -> None:
        due = clock.now() + after
        await self.store.put(key, b"", due=due)
        self.loop.wake(due)

    @asynccontextmanager
    async def running(self):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.loop.run())
            yield
            await self.loop.stop()


async def test_everything_is_done_when_it_is_due():
    work = Work()
    await work.put("before", after=1)
    async with work.running():
        await asyncio.sleep(2)
        for key, after in (("late", 100), ("soon", 3), ("now", 0)):
            await work.put(key, after=after)
        await asyncio.sleep(200)
    assert [key for key, _ in work.done] == ["before", "now", "soon", "late"]
    assert all(abs(at - due) <= 0.1 for (_, at), due in zip(work.done, (1, 2, 5, 102), strict=True))


async def test_what_others_wrote_is_found_within_seconds():
    work = Work()
    async with work.running():
        await asyncio.sleep(1)
        await work.store.put("theirs", b"", due=clock.now())
        await asyncio.sleep(5)
    assert len(work.done) == 1


async def test_no_more_is_begun_than_may_run_and_the_slow_do_not_hold_up_the_rest():
    work = Work(takes=10, concurrency=3)
    for number in range(9):
        await work.put(str(number), after=0)
    async with work.running():
        await asyncio.sleep(31)
    assert (work.most, len(work.done)) == (3, 9)


async def test_what_fails_is_done_again_a_moment_later():
    work = Work(failures=3)
    await work.put("a", after=0)
    async with work.running():
        await asyncio.sleep(10)
    ((key, at),) = work.done
    assert key == "a"
    assert 6 <= at < 7


async def test_stopping_lets_what_was_begun_finish_and_begins_nothing():
    work = Work(takes=10)
    await work.put("begun", after=0)
    async with work.running():
        await work.put("later", after=5)
        await asyncio.sleep(1)
    assert [key for key, _ in work.done] == ["begun"]
    async with work.running():
        await asyncio.sleep(20)
    assert [key for key, _ in work.done] == ["begun", "later"]


async def test_a_store_that_fails_is_asked_again():
    work, failures = Work(), [StoreError("no answer")] * 3
    due = work.store.due

    async def failing(*args, **options) -> list[str]:
        if failures:
            raise failures.pop()
        return await due(*args, **options)

    work.store.due = failing
    await work.put("a", after=0)
    async with work.running():
        await asyncio.sleep(10)
    assert len(work.done) == 1


async def test_keys_that_fail_for_good_hide_no_others():
    """Fault 15: more records than one look lists that are somebody else's; each fails alone, less and less often."""
    work, tried = Work(), []

    async def failing(key: str) -> None:
        tried.append(key)
        if key.startswith("foreign"):
            raise ValueError("not ours")
        await work.store.delete(key)

    loop = Scheduler(work.store, failing, name="test", concurrency=10)
    for number in range(50):
        await work.store.put(f"foreign {number}", b"?", due=1.0)
    await work.store.put("ours", b"", due=2.0)
    task = asyncio.create_task(loop.run())
    await asyncio.sleep(600)
    await loop.stop()
    await task
    assert await work.store.get("ours") is None
    assert len(tried) < 50 * 12


async def test_a_foreign_error_of_a_store_does_not_end_the_loop():
    """Fault 7: whatever a user's own store raises; its health says so until it answers again."""
    work, failures = Work(), [ZeroDivisionError("client"), StoreError("no", transient=False)]
    due = work.store.due

    async def failing(*args, **options) -> list[str]:
        if failures:
            raise failures.pop()
        return await due(*args, **options)

    async def done(key: str) -> None:
        work.done.append((key, 0.0))
        await work.store.delete(key)

    work.store.due = failing
    await work.put("a", after=0)
    loop = Scheduler(work.store, done, name="test")
    task = asyncio.create_task(loop.run())
    await asyncio.sleep(0.01)
    assert not loop.health().ok
    await asyncio.sleep(30)
    assert loop.health().ok
    await loop.stop()
    await task
    assert len(work.done) == 1


async def test_a_clock_that_is_set_back_keeps_no_key_that_failed_waiting():
    """Two seconds until the next attempt became an hour and two seconds."""
    work = Work(failures=2)
    await work.put("k", after=-7200)
    began = asyncio.get_running_loop().time()
    async with work.running():
        await asyncio.sleep(1)
        ahead = clock.now() - asyncio.get_running_loop().time()
        with clock.use_clock(lambda: asyncio.get_running_loop().time() + ahead - 3600):
            while not work.done:
                await asyncio.sleep(1)
    assert asyncio.get_running_loop().time() - began < 15


async def test_keys_that_keep_failing_show_in_health_and_in_one_line_with_a_count(caplog):
    """Each attempt at each of them was a line of its own; health knew of none."""
    work = Work()

    async def failing(_: str) -> None:
        raise RuntimeError("a bug")

    work.loop._work = failing
    for number in range(20):
        await work.put(f"{number}", after=0)
    async with work.running():
        await asyncio.sleep(3)
        assert work.loop.health().ok  # most failures pass
        await asyncio.sleep(300)
        health = work.loop.health()
        assert not health.ok
        assert (health.reason or "").startswith("20 due keys fail")
        assert sum("due_work_failed" in each.getMessage() for each in caplog.records) <= 2
        for number in range(20):
            await work.store.delete(f"{number}")
        await asyncio.sleep(700)
        assert work.loop.health().ok


async def test_a_key_that_stays_due_though_its_work_changes_nothing_is_not_worked_on_ten_times_a_second():
    """A row that is not ours, or broken: each of its looks is two calls of the store, which may be billed."""
    work, tried = Work(), []

    async def nothing(key: str) -> None:
        tried.append(key)
        if key == "ours":
            await work.store.delete(key)

    work.loop._work = nothing
    await work.store.put("foreign", b"?", due=1.0)
    async with work.running():
        await asyncio.sleep(3600)
        await work.put("ours", after=0)
        await asyncio.sleep(5)
        health = work.loop.health()
        assert "stays due" in (health.reason or "")
    assert len(tried) < 30
    assert tried[-1] == "ours"


async def test_a_key_that_is_due_again_after_each_change_is_worked_on_each_time():
    work, tried = Work(), []

    async def on(key: str) -> None:
        tried.append(key)
        await work.store.put(key, b"%d" % len(tried), due=clock.now() if len(tried) < 50 else None)

    work.loop._work = on
    await work.put("a", after=0)
    async with work.running():
        await asyncio.sleep(10)
    assert len(tried) == 50
