"""One timeout for the many waits of a task."""

from __future__ import annotations

import asyncio
from contextlib import closing, suppress

import pytest

from eip.runtime._wait_timeout import WaitTimeout


async def test_each_wait_has_its_whole_time():
    """The timer of an earlier wait fires too early for this one."""
    loop = asyncio.get_running_loop()
    with closing(WaitTimeout(35)) as timeout:
        for _ in range(3):
            with timeout:
                await asyncio.sleep(20)
        began = loop.time()
        with pytest.raises(TimeoutError, match="no answer within 35 s"), timeout:
            await loop.create_future()
        assert loop.time() - began == pytest.approx(35)
        with timeout:
            await asyncio.sleep(30)
        await asyncio.sleep(60)  # nobody waits
        with pytest.raises(TimeoutError), timeout:
            await loop.create_future()


async def test_what_the_wait_raises_is_raised():
    with closing(WaitTimeout(35)) as timeout:
        with pytest.raises(TimeoutError, match="theirs"), timeout:
            raise TimeoutError("theirs")
        with pytest.raises(KeyError), timeout:
            raise KeyError


@pytest.mark.parametrize("at", [5, 35])
async def test_a_cancellation_from_outside_goes_on(at):
    async def wait() -> None:
        with closing(WaitTimeout(35)) as timeout, timeout:
            await asyncio.get_running_loop().create_future()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(at, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_wait_that_ends_in_spite_of_its_cancellation_leaves_none_behind():
    task = asyncio.current_task()
    assert task is not None
    with closing(WaitTimeout(35)) as timeout:
        with timeout, suppress(asyncio.CancelledError):
            await asyncio.get_running_loop().create_future()
        assert not task.cancelling()


async def test_closed_it_leaves_no_timer():
    with closing(WaitTimeout(35)) as timeout, timeout:
        await asyncio.sleep(1)
    assert timeout._timer is not None
    assert timeout._timer.cancelled()
