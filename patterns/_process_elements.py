"""What the definition of a process consists of, as its builder leaves it and its graph takes it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, Protocol, TypeAlias

from eip.clock import Duration
from eip.errors import ConfigurationError
from eip.message import Message
from eip.retry import Backoff

__all__ = [
    "Branch",
    "Catch",
    "Children",
    "Choice",
    "Complete",
    "Definition",
    "Element",
    "Fail",
    "ProcessStep",
    "Wait",
    "named",
    "walk",
]


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
    retry: Backoff


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """A timer: seconds, or a function of the state that returns a duration or the time when it is over."""

    name: str = ""
    delay: float | Callable[[Any], Duration | datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One way through a choice (without a condition: the default), or one of parallel branches."""

    label: str
    elements: tuple[Element, ...]
    condition: Callable[[Any], bool] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Takes the first branch whose condition holds."""

    name: str = ""
    branches: tuple[Branch, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Catch:
    """Undoes what was done of its body when that fails for good, and goes on with the other branch."""

    name: str = ""
    body: tuple[Element, ...]
    failed: tuple[Element, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Children:
    """Has instances of its own made, waits for all of them, and joins their states with its own."""

    name: str = ""
    kind: Literal["parallel", "map", "process"]
    branches: tuple[Branch, ...] = ()
    """Of parallel branches."""
    process: Definition | None = None
    """Of a map and of a sub-process: what is run."""
    states: Callable[[Any], Iterable[Any]]
    """From the state to those that the children begin with."""
    join: Callable[[Any, list[Any]], Any] | None = None
    max_concurrency: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail:
    """Fails for good."""

    name: str = ""
    reason: str | Callable[[Any], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Complete:
    """Ends the process."""

    name: str = ""


Element: TypeAlias = ProcessStep | Wait | Choice | Catch | Children | Fail | Complete


class Definition(Protocol):
    """What a step that runs another process knows of it."""

    name: str
    version: int
    deadline: float | None

    @property
    def first(self) -> str:
        """The step that it begins with."""
        ...

    def dump(self, state: Any) -> str:
        """The text of a state."""
        ...

    def load(self, state: str) -> Any:
        """A state from its text."""
        ...


def walk(elements: Iterable[Element]) -> Iterator[Element]:
    """All elements in the order of the definition, those inside of others included."""
    for each in elements:
        yield each
        for inside in _inside(each):
            yield from walk(inside)


def named(elements: Sequence[Element]) -> tuple[Element, ...]:
    """The elements, each with a name of its own: those without one are named by their kind, and numbered."""
    given = [each.name for each in walk(elements) if each.name]
    for name in given:
        if given.count(name) > 1:
            raise ConfigurationError(f"step {name!r} must have a name of its own")
    return _Names(set(given)).give(elements)


class _Names:
    def __init__(self, taken: set[str]) -> None:
        self._taken = taken

    def give(self, elements: Iterable[Element]) -> tuple[Element, ...]:
        return tuple(self._named(each) for each in elements)

    def _named(self, element: Element) -> Element:
        name = element.name or self._free(element)
        match element:
            case Choice() | Children():
                branches = tuple(replace(each, elements=self.give(each.elements)) for each in element.branches)
                return replace(element, name=name, branches=branches)
            case Catch():
                return replace(element, name=name, body=self.give(element.body), failed=self.give(element.failed))
            case _:
                return replace(element, name=name)

    def _free(self, element: Element) -> str:
        kind = element.kind if isinstance(element, Children) else type(element).__name__.lower()
        number = 1
        while (name := kind if number == 1 else f"{kind} {number}") in self._taken:
            number += 1
        self._taken.add(name)
        return name


def _inside(element: Element) -> Iterator[tuple[Element, ...]]:
    match element:
        case Choice() | Children():
            yield from (each.elements for each in element.branches)
        case Catch():
            yield from (element.body, element.failed)
        case _:
            return
