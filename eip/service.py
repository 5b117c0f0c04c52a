"""Runs consumers as a service: until SIGTERM or SIGINT, then drains them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, Protocol

from eip._logging import get_logger

__all__ = ["Service", "run"]

_log = get_logger("eip.service")
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Service(Protocol):
    """What `run` runs: a `Consumer`, or whatever else starts and stops like one."""

    async def run(self) -> None:
        """Work until stopped."""
        ...

    async def stop(self) -> None:
        """Let `run` drain and return."""
        ...


async def run(*services: Service) -> None:
    """Run the services until SIGTERM or SIGINT, or until all have ended; then drain and return.

    A second signal cancels what is still draining. Where one service fails, the others are drained and its error is
    raised, in an `ExceptionGroup`. Signals are handled only in the main thread, and where the platform lets asyncio.
    """
    errors: list[Exception] = []
    async with asyncio.TaskGroup() as tasks:

        def drain() -> None:
            for service in services:
                tasks.create_task(service.stop())

        async def supervised(service: Service) -> None:
            try:
                await service.run()
            except Exception as error:  # noqa: BLE001 - raised below, once the others have drained
                _log.error("service_failed", service=repr(service), exc_info=error)
                errors.append(error)
                drain()

        running = [tasks.create_task(supervised(service)) for service in services]
        with _signals(drain, cancel=lambda: [task.cancel() for task in running]):
            await asyncio.wait(running)
    if errors:
        raise ExceptionGroup("services failed", errors)


@contextmanager
def _signals(drain: Callable[[], object], *, cancel: Callable[[], object]) -> Iterator[None]:
    """The first signal drains, the next one cancels."""
    loop = asyncio.get_running_loop()
    actions = iter((drain,))

    def on_signal() -> None:
        _log.info("signal_received")
        next(actions, cancel)()

    handled = []
    try:
        for number in _SIGNALS:
            with suppress(NotImplementedError, RuntimeError, ValueError):  # not the main thread, or not this platform
                loop.add_signal_handler(number, on_signal)
                handled.append(number)
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
