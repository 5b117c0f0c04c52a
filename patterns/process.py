"""Processes: what a process manager runs; their definitions, and what the store holds of each instance."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, Self, TypeAlias

from pydantic import BaseModel, TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError

from eip.clock import Duration, seconds
from eip.errors import ConfigurationError
from eip.message import Message
from eip.patterns.diagram import Diagram
from eip.retry import Backoff

__all__ = ["Context", "Instance", "Process", "ProcessStep", "Status", "call"]

Status: TypeAlias = Literal["running", "waiting", "compensating", "completed", "compensated", "failed"]

_ENDED: Final = ("completed", "compensated", "failed")
_RETRY_BACKOFF: Final = Backoff(cap=60.0)
_MAX_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True)
class Context:
    """What a step is told beside the state, where it takes a second argument."""

    process_id: str
    step: str
    attempt: int
    """From 1; raised also where a process died while the step ran."""

    @property
    def key(self) -> str:
        """The same for all attempts at this step: an idempotency key for whoever the step calls."""
        return f"{self.process_id}/{self.step}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStep:
    """A step of a definition."""

    name: str
    action: Callable[..., Awaitable[Any]]
    compensate: Callable[..., Awaitable[Any]] | None = None
    receives: Callable[[Message[Any]], bool] | None = None
    """Of a step that waits for a message: whether it is this one."""
    when: Callable[[Any], bool] | None = None
    timeout: float = 60.0
    waits: float | None = None
    max_attempts: int = 5
    retry: Backoff = _RETRY_BACKOFF


class Process:
    """The definition of a process: its steps, in their order.

        trip = (
            Process("trip", version=2, state=Trip)
            .step(book_hotel, compensate=cancel_hotel)
            .step(ask_for_payment)
            .receive(paid, within=timedelta(hours=1), compensate=refund)
            .step(confirm, when=lambda trip: trip.wants_confirmation)
        )

    A step is an async function of the state. It returns the new state, or None after it changed the one it was given;
    the change counts only if it does not raise. A second argument, where it takes one, is the `Context`. A step may be
    run again after a failure or a crash, whose effect is not known: give `Context.key` to what it calls.

    Args:
        name: of the process.
        version: of this definition. Running instances finish on the version they began with, so keep the old ones as
            long as those run, and raise it with every change of the steps or of the state.
        state: the type of the state: a pydantic model, a dataclass, any type that pydantic validates.
        deadline: seconds (or timedelta) from the start after which no step begins and what was done is compensated.
    """

    def __init__(self, name: str, *, version: int = 1, state: Any = dict, deadline: Duration | None = None) -> None:
        self.name, self.version = name, version
        self.steps: list[ProcessStep] = []
        self.deadline = None if deadline is None else seconds(deadline)
        try:
            self._state: TypeAdapter[Any] = TypeAdapter(state)
        except PydanticSchemaGenerationError as error:
            raise ConfigurationError(f"no validator for {state!r}: {error.message}") from error

    def step(
        self,
        action: Callable[..., Awaitable[Any]],
        *,
        name: str | None = None,
        compensate: Callable[..., Awaitable[Any]] | None = None,
        when: Callable[[Any], bool] | None = None,
        timeout: Duration = 60.0,
        max_attempts: int | None = None,
        retry: Backoff = _RETRY_BACKOFF,
    ) -> Self:
        """Add a step.

        Args:
            action: an async function of the state.
            name: unique in the process; default: the function's.
            compensate: undoes it, when a later step fails for good. Also called for the failed step itself, unless it
                raised `Reject` at its first attempt: a timeout does not tell whether anything was done.
            when: whether the step is made; default: always.
            timeout: seconds for an attempt. A process that died holds the instance up for that long, plus ten.
            max_attempts: after so many failures the process is compensated; at once where the step raises `Reject`.
                Default: ``max_attempts`` of ``retry``, or 5.
            retry: the delays between them.
        """
        return self._add(
            ProcessStep(
                name=name or str(getattr(action, "__name__", "")),
                action=action,
                compensate=compensate,
                when=when,
                timeout=seconds(timeout),
                max_attempts=_attempts(max_attempts, retry),
                retry=retry,
            )
        )

    def receive(
        self,
        action: Callable[..., Awaitable[Any]],
        *,
        within: Duration,
        filter: Callable[[Message[Any]], bool] = lambda _: True,  # noqa: A002 - the library's term
        name: str | None = None,
        compensate: Callable[..., Awaitable[Any]] | None = None,
        when: Callable[[Any], bool] | None = None,
        timeout: Duration = 60.0,
        max_attempts: int | None = None,
        retry: Backoff = _RETRY_BACKOFF,
    ) -> Self:
        """Add a step that waits for a message whose correlation id is the process's id.

        ``action`` is an async function of the state and the message (and the `Context`). Where none that passes
        ``filter`` comes ``within`` so many seconds, the process is compensated. The others are those of `step`.
        """
        return self._add(
            ProcessStep(
                name=name or str(getattr(action, "__name__", "")),
                action=action,
                compensate=compensate,
                receives=filter,
                when=when,
                timeout=seconds(timeout),
                waits=seconds(within),
                max_attempts=_attempts(max_attempts, retry),
                retry=retry,
            )
        )

    def diagram(self) -> Diagram:
        """Its steps."""
        return Diagram(
            name=f"process {self.name} {self.version}", steps=tuple(Diagram(name=each.name) for each in self.steps)
        )

    def find(self, name: str | None) -> ProcessStep:
        """The step of that name."""
        return next(each for each in self.steps if each.name == name)

    def after(self, name: str) -> str | None:
        """The name of the step behind another; None: it was the last."""
        names = [each.name for each in self.steps]
        return next(iter(names[names.index(name) + 1 :]), None)

    def fits(self, instance: Instance) -> bool:
        """Whether the instance can go on with these steps."""
        names = {each.name for each in self.steps}
        return {*instance.done, *([instance.step] if instance.step is not None else [])} <= names

    def load(self, state: str) -> Any:
        """A state from its text; raises `ConfigurationError` for one of another type."""
        try:
            return self._state.validate_json(state)
        except ValueError as error:
            raise ConfigurationError(f"not a state of {self.name}: {type(error).__name__}") from None

    def dump(self, state: Any) -> str:
        """The text of a state; raises `ConfigurationError` for one that is not of the process's type."""
        try:
            return self._state.dump_json(self._state.validate_python(state)).decode()
        except ValueError as error:
            raise ConfigurationError(f"not a state of {self.name}: {type(error).__name__}") from None

    def _add(self, step: ProcessStep) -> Self:
        if not step.name or any(each.name == step.name for each in self.steps):
            raise ConfigurationError(f"step {step.name!r} must have a name of its own")
        if step.timeout <= 0 or step.max_attempts < 1 or (step.waits is not None and step.waits <= 0):
            raise ConfigurationError(f"step {step.name}: timeout and within must be > 0, max_attempts >= 1")
        for function in filter(None, (step.action, step.compensate)):
            if not inspect.iscoroutinefunction(function) and not inspect.iscoroutinefunction(type(function).__call__):
                raise ConfigurationError(f"step {step.name}: {function!r} must be an async function")
        self.steps.append(step)
        return self


class Instance(BaseModel):
    """What the store holds of a running process."""

    id: str
    process: str
    version: int
    status: Status = "running"
    state: str
    """As JSON."""
    step: str | None
    """The step that is next, or under way."""
    done: list[str] = []
    """The steps to compensate, the latest one last."""
    attempt: int = 0
    """Attempts begun at the step, or at its compensation."""
    broken_off: bool = False
    """Whether an attempt at the step, not counted, was broken off, and may have had an effect."""
    error: str | None = None
    """The latest failure: kind and reason."""
    started_at: float
    deadline: float | None = None
    waits_until: float | None = None
    """When a step that waits for a message has waited too long."""
    taken: list[str] = []
    """Ids of the messages that steps have received."""
    due: float | None = None
    """When something is to be done; while a step runs: when another process takes it over."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in _ENDED


def _attempts(given: int | None, retry: Backoff) -> int:
    """How often a step is tried; two different numbers are an error."""
    if given is None:
        return _MAX_ATTEMPTS if retry.max_attempts is None else retry.max_attempts
    if retry.max_attempts not in (None, given):
        raise ConfigurationError(
            f"max_attempts ({given}) and retry.max_attempts ({retry.max_attempts}) must be the same"
        )
    return given


async def call(
    function: Callable[..., Awaitable[Any]], arguments: tuple[Any, ...], context: Context, limit: float
) -> Any:
    """Call a step's function within ``limit`` seconds, with the context where it takes one more argument."""
    takes = [
        each
        for each in inspect.signature(function).parameters.values()
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    ]
    wants_context = len(takes) > len(arguments)
    async with asyncio.timeout(limit):
        return await function(*arguments, *([context] if wants_context else []))
