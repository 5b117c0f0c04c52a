"""Back: what an instance has done is undone, the latest step first."""

from __future__ import annotations

from typing import Literal

from eip import clock
from eip.patterns._process_elements import Children, ProcessStep
from eip.patterns._process_graph import Node
from eip.patterns._process_instance import Status
from eip.patterns._process_work import Work, failure_text

__all__ = ["Back"]


class Back:
    """Takes an instance a step back.

    Args:
        work: the instance.
    """

    def __init__(self, work: Work) -> None:
        self._work, self._instance = work, work.instance

    async def go(self) -> bool | Status:
        """Compensate the latest step that was made: whether to go on at once, or how the instance ends."""
        instance = self._instance
        if not instance.done or not self._work.definition.graph.within(instance.done[-1], instance.back_to):
            return self._undone()
        node = self._work.node(instance.done[-1])
        match node.element:
            case ProcessStep():
                return await self._undo(node.element)
            case Children():
                return await self._undo_children(node, node.element)
            case _:
                return self._next(node.element.name)

    def _undone(self) -> bool | Status:
        """All is undone: go to the failure branch of the catch, or end."""
        instance, scope = self._instance, self._instance.back_to
        if scope is None:
            return "compensated" if instance.cancelled is None else "cancelled"
        instance.back_to, instance.caught = None, instance.error
        return self._work.move(self._work.node(scope).ways[1])

    def _next(self, name: str) -> Literal[True]:
        self._instance.leave(name, clock.now(), "done", undo=True)
        self._instance.done, self._instance.attempt = self._instance.done[:-1], 0
        return True

    async def _undo(self, step: ProcessStep) -> bool | Status:
        instance = self._instance
        if step.compensate is None:
            instance.done, instance.attempt = instance.done[:-1], 0
            return True
        made = await self._work.attempt(step, step.compensate, (self._work.state(),), undo=True)
        if not isinstance(made, Exception):
            return made and self._next(step.name)
        failure = failure_text(made)
        instance.visit(step.name, clock.now(), undo=True).detail = failure
        self._work.log.error("compensation_failed", step=step.name, attempt=instance.attempt, error=failure)
        if instance.attempt >= step.max_attempts:
            return self._failed(step.name, failure)
        instance.error = failure
        return await self._work.try_later(step, made)

    async def _undo_children(self, node: Node, element: Children) -> bool | Status:
        family, paused = self._work.family(node, element), False
        self._instance.visit(element.name, clock.now(), undo=True)
        while True:
            match await family.undo():
                case "done":
                    return self._next(element.name)
                case "failed":
                    return self._failed(element.name, f"a child of {element.name} could not be compensated")
            # A child that ended before the pause was written did not see that anybody waits: look once more.
            if paused or not await self._work.write(None):
                return False
            paused = True

    def _failed(self, name: str, error: str) -> Status:
        self._instance.error = error
        self._instance.leave(name, clock.now(), "failed", error, undo=True)
        return "failed"
