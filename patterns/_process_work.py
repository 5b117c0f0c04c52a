"""An instance in the hands of one process: its state, its record, and attempts at its steps."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal

from eip import clock
from eip._ids import new_id
from eip._logging import get_logger
from eip.errors import Retry, error_text
from eip.patterns._process_children import Family
from eip.patterns._process_elements import Children, ProcessStep
from eip.patterns._process_graph import Node
from eip.patterns._process_instances import Instances
from eip.patterns._records import Versioned
from eip.patterns.process import Context, Instance, Process, call
from eip.runtime._processing import in_own_task

__all__ = ["TAKEOVER_S", "Work", "failure_text"]

TAKEOVER_S: Final = 10.0
"""Seconds beyond what is under way until another process takes an instance over."""
_MAX_FAILURE: Final = 500
"""Characters of a failure that are kept."""


class Work:
    """What both directions share; every write fails once another process has the instance.

    Args:
        instances: where it is.
        definition: its process.
        held: the instance as read; changed in place.
    """

    def __init__(self, instances: Instances, definition: Process[Any], held: Versioned[Instance]) -> None:
        self.instances, self.definition, self.instance, self._held = instances, definition, held.value, held
        self._claim = held.value.claim
        self.log: Any = get_logger("eip.process_manager").bind(process=definition.name, process_id=held.value.id)

    def node(self, name: str) -> Node:
        """A step's place in the definition."""
        return self.definition.graph.nodes[name]

    def family(self, node: Node, element: Children) -> Family:
        """The children of a step."""
        return Family(self.instances, self.definition, self.instance, node, element)

    def state(self) -> Any:
        """A fresh state, so that what a failed attempt did to it is forgotten."""
        return self.definition.load(self.instance.state)

    async def write(self, due: float | None) -> bool:
        """Write the instance as it is now, with no attempt under way; False where another process has it."""
        self.instance.claim, self.instance.due = None, due
        return await self._write()

    async def attempt(
        self, step: ProcessStep, function: Callable[..., Awaitable[Any]], arguments: tuple[Any, ...], *, undo: bool
    ) -> bool | Exception:
        """Claim the instance and call a function of the step; the instance has the new state then.

        Returns:
            Whether it was called, or what it raised.
        """
        instance = self.instance
        if not await self._begin(step, undo=undo):
            return False
        context = Context(instance.id, step.name, instance.attempt, instance.caught, instance.version)
        host = asyncio.current_task()
        try:
            made = await in_own_task(call(function, arguments, context, step.timeout), name="the step")
            instance.state = self.definition.dump(arguments[0] if made is None else made)
        except Exception as error:  # noqa: BLE001 - whatever a step raises, the process goes on or back
            return error
        except BaseException as error:
            ends = isinstance(error, (SystemExit, KeyboardInterrupt)) or host is None or host.cancelling()
            if not ends:
                return RuntimeError(f"the step raised {error_text(error)}")
            # Broken off, because this process ends: another may begin it at once.
            instance.attempt, instance.broken_off = instance.attempt - 1, True
            await self.write(clock.now())
            raise
        return True

    async def try_later(self, step: ProcessStep, error: Exception) -> Literal[False]:
        """Have the step tried again after its backoff, or when the error asks for it."""
        asked = error.delay if isinstance(error, Retry) else None
        await self.write(clock.now() + (step.retry.delay(self.instance.attempt) if asked is None else asked))
        return False

    def move(self, name: str | None) -> Literal[True]:
        """Go to a step; None: to the end."""
        instance = self.instance
        instance.step, instance.attempt, instance.status = name, 0, "running"
        instance.waits_until, instance.broken_off = None, False
        return True

    def turn_back(self, error: str, *, effect: bool, anyway: bool = False) -> Literal[True]:
        """Begin to compensate.

        Args:
            error: why.
            effect: whether the step under way may have had one.
            anyway: whether no catch is to stop it.
        """
        instance, name = self.instance, self.instance.step
        if name is not None:
            instance.leave(name, clock.now(), "failed", error)
            if effect or name in instance.children:
                instance.done = [*instance.done, name]
            instance.back_to = None if anyway else self.node(name).scope
        instance.status, instance.error, instance.attempt = "compensating", error, 0
        self.log.warning("process_compensated", step=name, error=error, back_to=instance.back_to)
        return True

    async def _begin(self, step: ProcessStep, *, undo: bool) -> bool:
        """Write that the attempt begins, and with it what was done before; False where another process has it."""
        instance, now = self.instance, clock.now()
        instance.status, instance.attempt = "compensating" if undo else "running", instance.attempt + 1
        visit = instance.visit(step.name, now, undo=undo)
        visit.outcome, visit.attempts = "running", instance.attempt
        instance.claim, instance.due = new_id(), now + step.timeout + TAKEOVER_S
        return await self._write()

    async def _write(self) -> bool:
        written = await self.instances.write_result(self._held, self._claim)
        self._claim = self.instance.claim
        return written


def failure_text(error: Exception) -> str:
    """The kind and reason of a failure, as they are kept."""
    return f"{type(error).__name__}: {error}"[:_MAX_FAILURE]
