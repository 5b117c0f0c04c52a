"""Resources of an application: those to open and close, and those made only once its transport is open."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Generic, TypeVar

from eip.errors import StateError
from eip.runtime.handlers import name_of

__all__ = ["Late", "entered", "is_resource"]

_T = TypeVar("_T")
_MISSING: Any = object()


class Late(Generic[_T]):
    """A value that is made when the application opens; call it to get the value.

    Args:
        factory: makes it, or returns the context manager that does.
    """

    def __init__(self, factory: Callable[[], Any]) -> None:
        self._factory = factory
        self._value: _T = _MISSING

    def make(self) -> _T:
        """Make the value and keep it."""
        self._value = self._factory()
        return self._value

    async def enter(self, stack: AsyncExitStack) -> None:
        """Enter the context manager that the factory returns, and keep its value until the stack is left."""
        self._value = await stack.enter_async_context(self._factory())
        stack.callback(self.forget)

    def forget(self) -> None:
        """The value is not usable any more."""
        self._value = _MISSING

    def __call__(self) -> _T:
        """The value; raises `StateError` while there is none."""
        if self._value is _MISSING:
            raise StateError(f"{name_of(self._factory)}() is there only while the application is open")
        return self._value


def is_resource(part: object) -> bool:
    """Whether it can be entered or closed."""
    has_verb = isinstance(part, AbstractAsyncContextManager) or callable(getattr(part, "aclose", None))
    return has_verb and not isinstance(part, type)


async def entered(part: Any, stack: AsyncExitStack) -> None:
    """Enter the part, or make sure that it is closed."""
    if isinstance(part, Late):
        await part.enter(stack)
    elif isinstance(part, AbstractAsyncContextManager):
        await stack.enter_async_context(part)
    else:
        stack.push_async_callback(part.aclose)
