"""The functions that a process is made of: what they take, and how they are called."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from typing_extensions import TypeVar

from eip._checks import check_duration, check_integer
from eip.clock import Duration
from eip.errors import ConfigurationError
from eip.message import Message
from eip.patterns._process_elements import ProcessStep
from eip.retry import Backoff

__all__ = ["Action", "Context", "Receiving", "call", "step_of"]

S = TypeVar("S", default=Any)
"""The type of a process's state."""

_MAX_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True)
class Context:
    """The second argument of a step: what it may need beside the state."""

    process_id: str
    step: str
    attempt: int
    """From 1; raised also where a process died while the step ran."""
    error: str | None = None
    """In a failure branch: the failure that led there, its kind and its reason."""
    version: int = 1
    """Of the definition."""

    @property
    def key(self) -> str:
        """The same for all attempts at this step: an idempotency key for whoever the step calls."""
        return f"{self.process_id}/{self.step}"


Action: TypeAlias = Callable[[S], Awaitable[S | None]] | Callable[[S, Context], Awaitable[S | None]]
"""A step, or what compensates it."""
Receiving: TypeAlias = (
    Callable[[S, Message[Any]], Awaitable[S | None]] | Callable[[S, Message[Any], Context], Awaitable[S | None]]
)
"""A step that takes a message."""


def step_of(
    action: Callable[..., Awaitable[Any]],
    *,
    name: str | None,
    compensate: Callable[..., Awaitable[Any]] | None,
    timeout: Duration,
    max_attempts: int | None,
    retry: Backoff,
    **others: Any,
) -> ProcessStep:
    """The element of a step; raises `ConfigurationError` for what can be no step."""
    made = name or str(getattr(action, "__name__", ""))
    if not made:
        raise ConfigurationError(f"{action!r} has no name: give name=")
    for function in filter(None, (action, compensate)):
        if not inspect.iscoroutinefunction(function) and not inspect.iscoroutinefunction(type(function).__call__):
            raise ConfigurationError(f"step {made}: {function!r} must be an async function")
    return ProcessStep(
        name=made,
        action=action,
        compensate=compensate,
        timeout=check_duration("timeout", timeout, positive=True),
        max_attempts=check_integer("max_attempts", _attempts(max_attempts, retry), least=1),
        retry=retry,
        **others,
    )


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
