"""Forward: an instance at the step that is next."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, TypeVar

from eip import clock
from eip._checks import check_duration
from eip.clock import Duration
from eip.errors import Reject
from eip.message import Message
from eip.patterns._process_elements import Catch, Children, Choice, Complete, Fail, ProcessStep, Wait
from eip.patterns._process_graph import Node
from eip.patterns._process_work import TAKEOVER_S, Work, failure_text

__all__ = ["Forward"]

_T = TypeVar("_T")


class Forward:
    """Takes an instance a step on; each method returns whether it can go on at once.

    Only an attempt at a `ProcessStep` has effects. All else is computed from the state, and written with the next
    attempt: after a crash it is computed again.

    Args:
        work: the instance.
    """

    def __init__(self, work: Work) -> None:
        self._work, self._instance = work, work.instance

    async def go(self, name: str) -> bool:
        """Make the step of that name."""
        instance = self._instance
        begun = instance.attempt > 0 or instance.broken_off
        if instance.cancelled is not None:
            return self._work.turn_back(instance.cancelled, effect=begun, anyway=True)
        if instance.deadline is not None and instance.deadline <= clock.now():
            return self._work.turn_back("DeadlineExceeded", effect=begun, anyway=True)
        node = self._work.node(name)
        try:
            return await self._at(node)
        except _DecisionFailed as failed:
            return self._work.turn_back(failure_text(failed.error), effect=False)

    async def _at(self, node: Node) -> bool:
        match node.element:
            case ProcessStep() as step:
                going = await self._step(node, step)
            case Wait() as wait:
                going = await self._wait(node, wait)
            case Children() as children:
                going = await self._children(node, children)
            case Choice() as choice:
                going = self._choose(node, choice)
            case Catch():
                going = self._work.move(node.ways[0])
            case Fail(reason=reason):
                text = reason if isinstance(reason, str) else self._decide(reason)
                going = self._work.turn_back(text, effect=False)
            case Complete():
                going = self._leave(node, to=None)
        return going

    def _decide(self, function: Callable[[Any], _T]) -> _T:
        """What a function of the state returns; what it raises is the step's failure, for good: it has no effects."""
        try:
            return function(self._work.state())
        except Exception as error:
            raise _DecisionFailed(error) from error

    def _leave(self, node: Node, *, to: str | None, detail: str = "") -> bool:
        self._instance.leave(node.element.name, clock.now(), "done", detail)
        return self._work.move(to)

    # Steps.

    async def _step(self, node: Node, step: ProcessStep) -> bool:
        try:
            wanted = step.when is None or step.when(self._work.state())
        except Exception as error:  # noqa: BLE001 - a condition that fails is the step's failure
            self._instance.attempt += 1
            return await self._failed(step, error)
        if not wanted:
            self._instance.leave(step.name, clock.now(), "skipped")
            return self._work.move(node.following)
        arguments: tuple[Any, ...] = (self._work.state(),)
        if step.receives is not None:
            message = await self._received(step)
            if message is None:
                return await self._await_message(step)
            arguments = (*arguments, message)
        return await self._make(node, step, arguments)

    async def _make(self, node: Node, step: ProcessStep, arguments: tuple[Any, ...]) -> bool:
        instance = self._instance
        if instance.attempt >= step.max_attempts:  # the last one ended with its process
            return self._work.turn_back(instance.error or "the process died in the step", effect=True)
        made = await self._work.attempt(step, step.action, arguments, undo=False)
        if isinstance(made, Exception):
            return await self._failed(step, made)
        if not made:
            return False
        instance.done = [*instance.done, step.name]
        instance.taken += [each.id for each in arguments[1:]]
        return self._leave(node, to=node.following)

    async def _failed(self, step: ProcessStep, error: Exception) -> bool:
        instance, log = self._instance, self._work.log
        instance.error = failure_text(error)
        log.warning("step_failed", step=step.name, attempt=instance.attempt, error=instance.error)
        if isinstance(error, Reject) or instance.attempt >= step.max_attempts:
            earlier = instance.attempt > 1 or instance.broken_off
            return self._work.turn_back(instance.error, effect=earlier or not isinstance(error, Reject))
        instance.visit(step.name, clock.now()).detail = instance.error
        return await self._work.try_later(step, error)

    # Messages and timers.

    async def _received(self, step: ProcessStep) -> Message[Any] | None:
        """The earliest message that the step wants and none has taken."""
        wanted = [each for each in await self._work.instances.messages(self._instance) if self._wants(step, each)]
        return min(wanted, key=lambda each: each.created_at, default=None)

    def _wants(self, step: ProcessStep, message: Message[Any]) -> bool:
        try:
            return step.receives is not None and step.receives(message)
        except Exception as error:  # noqa: BLE001 - a message that makes the condition fail is not wanted
            failed = {"step": step.name, "message_id": message.id, "error": type(error).__name__}
            self._work.log.warning("message_unreadable", **failed)
            return False

    async def _await_message(self, step: ProcessStep) -> bool:
        instance, now = self._instance, clock.now()
        if instance.waits_until is None:
            instance.waits_until = now + (step.waits or 0.0)
        if instance.waits_until <= now:
            return self._work.turn_back(f"TimeoutError: no message came for {step.name}", effect=False)
        # A message that came before this was written did not see that anybody waits.
        return await self._pause(step.name) and await self._received(step) is not None

    async def _wait(self, node: Node, element: Wait) -> bool:
        instance, now = self._instance, clock.now()
        if instance.waits_until is None:
            instance.waits_until = self._until(element.delay, now)
        if instance.waits_until <= now:
            return self._leave(node, to=node.following)
        await self._pause(element.name)
        return False

    def _until(self, delay: float | Callable[[Any], Duration | datetime], now: float) -> float:
        if not callable(delay):
            return now + delay
        asked = self._decide(delay)
        try:
            return asked.timestamp() if isinstance(asked, datetime) else now + check_duration("delay", asked)
        except (TypeError, ValueError, OverflowError, OSError) as error:
            raise _DecisionFailed(error) from error

    async def _pause(self, name: str) -> bool:
        """Write that the instance waits, until something comes, its time or its deadline."""
        instance = self._instance
        instance.status = "waiting"
        instance.visit(name, clock.now()).outcome = "waiting"
        ends = [each for each in (instance.waits_until, instance.deadline) if each is not None]
        return await self._work.write(min(ends, default=None))

    # Branches.

    def _choose(self, node: Node, element: Choice) -> bool:
        for branch, way in zip(element.branches, node.ways, strict=True):
            if branch.condition is None or self._decide(branch.condition):
                return self._leave(node, to=way, detail=branch.label)
        raise AssertionError("the last branch has no condition")

    async def _children(self, node: Node, element: Children) -> bool:
        states = self._decide(lambda state: list(element.states(state)))
        family, instance, paused = self._work.family(node, element), self._instance, False
        while True:
            failure = await self._valid(family.reap(states))
            if failure is not None:
                return self._work.turn_back(failure, effect=True)
            if family.enlarge(len(states)):
                instance.visit(element.name, clock.now()).outcome, paused = "running", False
                if not await self._work.write(clock.now() + TAKEOVER_S):
                    return False
            elif not instance.open:
                return await self._join(node, element, states)
            # A child that ended before the pause was written did not see that anybody waits: look once more.
            elif paused or not await self._pause(element.name):
                return False
            else:
                paused = True

    async def _join(self, node: Node, element: Children, states: list[Any]) -> bool:
        instance, definition, join = self._instance, self._work.definition, element.join
        if join is not None:
            ends = await self._valid(self._work.family(node, element).results(states))

            def joined(before: Any) -> str:
                made = join(before, ends)
                return definition.dump(before if made is None else made)

            instance.state = self._decide(joined)
        instance.done = [*instance.done, element.name]
        return self._leave(node, to=node.following)

    async def _valid(self, work: Awaitable[_T]) -> _T:
        """The result; states of another type, and children that are somebody else's, are the step's failure."""
        try:
            return await work
        except (Reject, ValueError) as error:
            raise _DecisionFailed(error) from error


class _DecisionFailed(Exception):
    """A function of the state raised."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error
