"""One process takes an instance as far as it goes: through its steps, or back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from eip import clock
from eip._logging import get_logger
from eip.envelope import load_message
from eip.errors import Reject, Retry
from eip.message import Message
from eip.patterns.process import Context, Instance, Process, ProcessStep, call
from eip.stores.base import Store

__all__ = ["ProcessRun"]

_log = get_logger("eip.process_manager")

_TAKEOVER_S: Final = 10.0
"""Seconds beyond a step's timeout until another process takes it over."""


class ProcessRun:
    """Works on an instance that it has read; every write fails once another process has it.

    Args:
        store: holds the messages that came for it, as parts.
        definition: its process.
        instance: as read; changed in place.
        write: writes the instance; False where it was changed since.
        stopping: whether this process ends, so that others are to go on after the step under way.
    """

    def __init__(
        self,
        store: Store,
        definition: Process,
        instance: Instance,
        write: Callable[[], Awaitable[bool]],
        stopping: Callable[[], bool],
    ) -> None:
        self._store, self._definition, self._instance = store, definition, instance
        self._write, self._stopping = write, stopping
        self._log: Any = _log.bind(process=definition.name, process_id=instance.id)

    async def go(self) -> None:
        """Take it on until it ends, waits, or has to be tried again later."""
        while await (self._undo_one() if self._instance.status == "compensating" else self._do_one()):
            if self._stopping():
                self._instance.due = clock.now()
                await self._write()
                return

    # Forward.

    async def _do_one(self) -> bool:
        """Make the step that is next; whether to go on at once."""
        instance = self._instance
        if instance.step is None:
            return await self._end("completed")
        if instance.deadline is not None and instance.deadline <= clock.now():
            return self._turn_back("DeadlineExceeded", effect=instance.attempt > 0 or instance.broken_off)
        step = self._definition.find(instance.step)
        try:
            wanted = step.when is None or step.when(self._state())
        except Exception as error:  # noqa: BLE001 - a condition that fails is the step's failure
            instance.attempt += 1
            return await self._failed(step, error)
        if wanted:
            return await self._make(step)
        self._to_next(step)
        return True

    async def _make(self, step: ProcessStep) -> bool:
        instance = self._instance
        arguments: tuple[Any, ...] = (self._state(),)
        if step.receives is not None:
            message = await self._received(step)
            if message is None:
                return await self._wait(step)
            arguments = (self._state(), message)
        if instance.attempt >= step.max_attempts:  # the last one ended with its process
            return self._turn_back(instance.error or "the process died in the step", effect=True)
        return await self._attempt(step, arguments)

    async def _attempt(self, step: ProcessStep, arguments: tuple[Any, ...]) -> bool:
        instance = self._instance
        if not await self._claim("running", step):
            return False
        try:
            made = await call(step.action, arguments, self._context(step), step.timeout)
            state = self._definition.dump(arguments[0] if made is None else made)
        except asyncio.CancelledError:
            await self._release()
            raise
        except Exception as error:  # noqa: BLE001 - whatever a step raises, the process goes on or back
            return await self._failed(step, error)
        instance.state, instance.done = state, [*instance.done, step.name]
        if step.receives is not None:
            instance.taken.append(arguments[1].id)
        self._to_next(step)
        return True

    async def _failed(self, step: ProcessStep, error: Exception) -> bool:
        instance = self._instance
        instance.error = _text(error)
        self._log.warning("step_failed", step=step.name, attempt=instance.attempt, error=instance.error)
        if isinstance(error, Reject) or instance.attempt >= step.max_attempts:
            earlier = instance.attempt > 1 or instance.broken_off
            return self._turn_back(instance.error, effect=earlier or not isinstance(error, Reject))
        await self._later(step, error)
        return False

    def _to_next(self, step: ProcessStep) -> None:
        instance = self._instance
        instance.step, instance.attempt = self._definition.after(step.name), 0
        instance.waits_until, instance.broken_off = None, False

    # Messages.

    async def _received(self, step: ProcessStep) -> Message[Any] | None:
        """The earliest message that the step wants and none has taken."""
        parts = await self._store.parts(self._instance.id)
        messages = [load_message(raw) for name, raw in parts.items() if name not in self._instance.taken]
        wanted = [each for each in messages if self._wants(step, each)]
        return min(wanted, key=lambda each: each.created_at, default=None)

    def _wants(self, step: ProcessStep, message: Message[Any]) -> bool:
        try:
            return step.receives is not None and step.receives(message)
        except Exception as error:  # noqa: BLE001 - a message that makes the condition fail is not wanted
            self._log.warning("message_unreadable", step=step.name, message_id=message.id, error=type(error).__name__)
            return False

    async def _wait(self, step: ProcessStep) -> bool:
        instance, now = self._instance, clock.now()
        if instance.waits_until is None:
            instance.waits_until = now + (step.waits or 0.0)
        if instance.waits_until <= now:
            return self._turn_back(f"TimeoutError: no message came for {step.name}", effect=False)
        instance.status = "waiting"
        instance.due = min(instance.waits_until, instance.deadline or instance.waits_until)
        # A message that came before this was written did not see that anybody waits.
        return await self._write() and await self._received(step) is not None

    # Back.

    def _turn_back(self, error: str, *, effect: bool) -> bool:
        """Begin to compensate; ``effect``: the step under way may have had one."""
        instance = self._instance
        if effect and instance.step is not None:
            instance.done = [*instance.done, instance.step]
        instance.status, instance.error, instance.attempt = "compensating", error, 0
        self._log.warning("process_compensated", step=instance.step, error=error)
        return True

    async def _undo_one(self) -> bool:
        """Compensate the latest step that was made; whether to go on at once."""
        instance = self._instance
        if not instance.done:
            return await self._end("compensated")
        step = self._definition.find(instance.done[-1])
        if step.compensate is not None:
            if not await self._claim("compensating", step):
                return False
            state = self._state()
            try:
                made = await call(step.compensate, (state,), self._context(step), step.timeout)
                instance.state = self._definition.dump(state if made is None else made)
            except asyncio.CancelledError:
                await self._release()
                raise
            except Exception as error:  # noqa: BLE001 - whatever it raises, the instance is kept
                return await self._not_undone(step, error)
        instance.done, instance.attempt = instance.done[:-1], 0
        return True

    async def _not_undone(self, step: ProcessStep, error: Exception) -> bool:
        instance = self._instance
        instance.error = _text(error)
        self._log.error("compensation_failed", step=step.name, attempt=instance.attempt, error=instance.error)
        if instance.attempt >= step.max_attempts:
            return await self._end("failed")
        await self._later(step, error)
        return False

    # The record.

    def _state(self) -> Any:
        """A fresh state, so that what a failed attempt did to it is forgotten."""
        return self._definition.load(self._instance.state)

    def _context(self, step: ProcessStep) -> Context:
        return Context(self._instance.id, step.name, self._instance.attempt)

    async def _claim(self, status: Any, step: ProcessStep) -> bool:
        """Write that the attempt begins, and with it what was done before; False where another process has it."""
        instance = self._instance
        instance.status, instance.attempt = status, instance.attempt + 1
        instance.due = clock.now() + step.timeout + _TAKEOVER_S
        return await self._write()

    async def _release(self) -> None:
        """The attempt was broken off, because this process ends: another may begin it at once."""
        instance = self._instance
        instance.attempt, instance.broken_off, instance.due = instance.attempt - 1, True, clock.now()
        await self._write()

    async def _later(self, step: ProcessStep, error: Exception) -> None:
        asked = error.delay if isinstance(error, Retry) else None
        self._instance.due = clock.now() + (step.retry.delay(self._instance.attempt) if asked is None else asked)
        await self._write()

    async def _end(self, status: Any) -> bool:
        instance = self._instance
        instance.status, instance.step, instance.due = status, None, None
        if await self._write():
            self._log.info("process_ended", status=status)
            await self._store.delete_parts(instance.id)
        return False


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]
