"""Processes: what a process manager runs, as plain definitions that read from top to bottom."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Generic, Self, overload

from pydantic import TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError
from typing_extensions import TypeVar, override

from eip._checks import check_duration, check_integer
from eip.clock import Duration
from eip.errors import ConfigurationError
from eip.message import Message
from eip.patterns._process_elements import (
    Branch,
    Catch,
    Children,
    Choice,
    Complete,
    Element,
    Fail,
    ProcessStep,
    Wait,
    named,
)
from eip.patterns._process_functions import Action, Context, Receiving, call, step_of
from eip.patterns._process_graph import Graph
from eip.patterns._process_instance import Instance, ProcessEnded, Status, Visit
from eip.patterns.diagram import Diagram, condition_text
from eip.retry import Backoff

__all__ = [
    "Action",
    "Context",
    "Instance",
    "Process",
    "ProcessEnded",
    "ProcessStep",
    "Receiving",
    "Status",
    "Steps",
    "Visit",
    "call",
]

S = TypeVar("S", default=Any)
"""The type of a process's state."""
T = TypeVar("T")
"""The type of another process's state."""

_RETRY_BACKOFF: Final = Backoff(cap=60.0)
_MAX_CONCURRENCY: Final = 10
"""Items of a map that run at once; each is an instance."""


class Steps(Generic[S]):
    """A sequence of steps: a branch of a process, or (as `Process`) the whole of it.

        Steps[Photo]().step(moderate).choice([(is_unsafe, Steps[Photo]().fail("unsafe"))]).step(resize)

    A step is an async function of the state. It returns the new state, or None after it changed the one it was given;
    the change counts only if it does not raise. A second argument, where it takes one, is the `Context`. A step may be
    run again after a failure or a crash, whose effect is not known: give `Context.key` to what it calls.

    Conditions, and what makes or joins states, are plain functions of the state, without effects: they may be called
    any number of times.
    """

    def __init__(self) -> None:
        self.steps: list[Element] = []

    def step(
        self,
        action: Action[S],
        *,
        name: str | None = None,
        compensate: Action[S] | None = None,
        when: Callable[[S], bool] | None = None,
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
            max_attempts: number of failures after which the step has failed for good; at once where it raises `Reject`.
                Default: ``max_attempts`` of ``retry``, or 5.
            retry: the delays between them.
        """
        return self._add(
            step_of(
                action,
                name=name,
                compensate=compensate,
                when=when,
                timeout=timeout,
                max_attempts=max_attempts,
                retry=retry,
            )
        )

    def receive(
        self,
        action: Receiving[S],
        *,
        within: Duration,
        filter: Callable[[Message[Any]], bool] = lambda _: True,  # noqa: A002 - the library's term
        name: str | None = None,
        compensate: Action[S] | None = None,
        when: Callable[[S], bool] | None = None,
        timeout: Duration = 60.0,
        max_attempts: int | None = None,
        retry: Backoff = _RETRY_BACKOFF,
    ) -> Self:
        """Add a step that waits for a message whose correlation id is the process's id.

        ``action`` is an async function of the state and the message (and the `Context`). Where none that passes
        ``filter`` comes ``within`` seconds, the step has failed for good. The others are those of `step`.
        """
        return self._add(
            step_of(
                action,
                name=name,
                compensate=compensate,
                when=when,
                timeout=timeout,
                max_attempts=max_attempts,
                retry=retry,
                receives=filter,
                waits=check_duration("within", within, positive=True),
            )
        )

    def wait(self, delay: Duration | Callable[[S], Duration | datetime], *, name: str = "") -> Self:
        """Add a timer.

        Args:
            delay: seconds (or timedelta), or a function of the state that returns them, or the time when it is over.
            name: unique in the process; default: its kind, numbered.
        """
        return self._add(Wait(name=name, delay=delay if callable(delay) else check_duration("delay", delay)))

    def choice(
        self,
        branches: Sequence[tuple[Callable[[S], bool], Steps[S]]],
        *,
        otherwise: Steps[S] | None = None,
        name: str = "",
    ) -> Self:
        """Add a choice: of the branches, the first whose condition holds; then what follows the choice.

        Args:
            branches: conditions of the state with the steps to make.
            otherwise: the steps where none holds; default: none, as with an ``if`` without an ``else``.
            name: unique in the process; default: its kind, numbered.
        """
        made = [
            Branch(label=condition_text(condition), condition=condition, elements=tuple(steps.steps))
            for condition, steps in branches
        ]
        if not made:
            raise ConfigurationError("branches must not be empty")
        rest = () if otherwise is None else tuple(otherwise.steps)
        return self._add(Choice(name=name, branches=(*made, Branch(label="otherwise", elements=rest))))

    def catch(self, body: Steps[S], *, failed: Steps[S], name: str = "") -> Self:
        """Add steps with a failure branch, as ``try`` and ``except``.

        Args:
            body: the steps. When one fails for good, those of the body that were made are compensated.
            failed: what follows then, and is joined with what follows the body. Its steps find the failure in
                `Context.error`; `fail` in it fails the steps around it. A cancellation and the process's deadline pass
                it by.
            name: unique in the process; default: its kind, numbered.
        """
        if not body.steps:
            raise ConfigurationError("body must have steps")
        return self._add(Catch(name=name, body=tuple(body.steps), failed=tuple(failed.steps)))

    def parallel(
        self,
        branches: Mapping[str, Steps[S]],
        *,
        join: Callable[[S, dict[str, S]], S | None] | None = None,
        name: str = "",
    ) -> Self:
        """Add branches that run at the same time, each on a state of its own, and as an instance of its own.

        When one fails for good, the others are cancelled and all are compensated, the last one first.

        Args:
            branches: the steps of each, by name.
            join: from the state before and those of the branches, by name, to the state after. It returns the new
                state, or None after it changed the first. Default: what branches did to their states is dropped.
            name: unique in the process; default: its kind, numbered.
        """
        made = tuple(Branch(label=label, elements=tuple(steps.steps)) for label, steps in branches.items())
        if not made or any(not each.elements for each in made):
            raise ConfigurationError("branches must not be empty")
        labels = list(branches)
        joined = None if join is None else lambda state, ends: join(state, dict(zip(labels, ends, strict=True)))
        return self._add(
            Children(
                name=name,
                kind="parallel",
                branches=made,
                states=lambda state: [state] * len(made),
                join=joined,
                max_concurrency=len(made),
            )
        )

    def map(
        self,
        process: Process[T],
        *,
        items: Callable[[S], Iterable[T]],
        join: Callable[[S, list[T]], S | None] | None = None,
        max_concurrency: int = _MAX_CONCURRENCY,
        name: str = "",
    ) -> Self:
        """Add a step that runs a process for each of some items.

        When one fails for good, the others are cancelled and all are compensated, the last one first.

        Args:
            process: what is run, on this version of it.
            items: from the state to the states that the instances begin with.
            join: from the state before and those of all instances, in the items' order, to the state after; as in
                `parallel`.
            max_concurrency: instances that run at once.
            name: unique in the process; default: its kind, numbered.
        """
        check_integer("max_concurrency", max_concurrency, least=1)
        return self._add(
            Children(name=name, kind="map", process=process, states=items, join=join, max_concurrency=max_concurrency)
        )

    def process(
        self,
        process: Process[T],
        *,
        state: Callable[[S], T],
        join: Callable[[S, T], S | None] | None = None,
        name: str = "",
    ) -> Self:
        """Add a step that runs another process.

        Args:
            process: what is run, on this version of it.
            state: from the state to the one that it begins with.
            join: from the state before and that of the other process to the state after; as in `parallel`.
            name: unique in the process; default: the other process's.
        """
        joined = None if join is None else lambda before, ends: join(before, ends[0])
        return self._add(
            Children(
                name=name or process.name,
                kind="process",
                process=process,
                states=lambda before: [state(before)],
                join=joined,
                max_concurrency=1,
            )
        )

    def fail(self, reason: str | Callable[[S], str], *, name: str = "") -> Self:
        """Fail for good here: what was done is compensated, up to the innermost `catch` around.

        Args:
            reason: a text, or a function of the state that returns it.
            name: unique in the process; default: its kind, numbered.
        """
        return self._add(Fail(name=name, reason=reason))

    def complete(self, *, name: str = "") -> Self:
        """End the process here, as completed; in a parallel branch, end the branch.

        Args:
            name: unique in the process; default: its kind, numbered.
        """
        return self._add(Complete(name=name))

    def _add(self, element: Element) -> Self:
        self.steps.append(element)
        return self


class Process(Steps[S]):
    """The definition of a process: its steps, in their order.

        trip = (
            Process("trip", version=2, state=Trip)
            .step(book_hotel, compensate=cancel_hotel)
            .step(ask_for_payment)
            .receive(paid, within=timedelta(hours=1), compensate=refund)
            .choice([(wants_a_guide, Steps[Trip]().step(book_guide))])
        )

    Args:
        name: of the process.
        version: of this definition. Running instances finish on the version they began with, so keep the old ones as
            long as those run, and raise it with every change of the steps or of the state.
        state: the type of the state: a pydantic model, a dataclass, any type that pydantic validates.
        deadline: seconds (or timedelta) from the start after which no step begins and what was done is compensated.
    """

    @overload
    def __init__(
        self: Process[dict[str, Any]], name: str, *, version: int = 1, deadline: Duration | None = None
    ) -> None: ...
    @overload
    def __init__(self, name: str, *, version: int = 1, state: type[S], deadline: Duration | None = None) -> None: ...
    @overload  # what type checkers take for no type: a union, an annotated one
    def __init__(
        self: Process[Any], name: str, *, version: int = 1, state: object, deadline: Duration | None = None
    ) -> None: ...

    def __init__(self, name: str, *, version: int = 1, state: Any = dict, deadline: Duration | None = None) -> None:
        super().__init__()
        self.name, self.version = name, version
        self.deadline = None if deadline is None else check_duration("deadline", deadline)
        self.elements: tuple[Element, ...] = ()
        """The steps, each with its name."""
        self.graph = Graph(())
        """Which step follows which."""
        try:
            self._state: TypeAdapter[Any] = TypeAdapter(state)
        except PydanticSchemaGenerationError as error:
            raise ConfigurationError(f"no validator for {state!r}: {error.message}") from error

    @property
    def first(self) -> str:
        """The step that it begins with; raises `ConfigurationError` where it has none."""
        if self.graph.first is None:
            raise ConfigurationError(f"process {self.name} {self.version} must have at least one step")
        return self.graph.first

    def diagram(self) -> Diagram:
        """Its steps; `eip.patterns.process_diagram` draws them with their conditions."""
        return Diagram(
            name=f"process {self.name} {self.version}",
            steps=tuple(Diagram(name=each.name) for each in self.elements),
        )

    def fits(self, instance: Instance) -> bool:
        """Whether the instance can go on with these steps."""
        places = {*instance.done, *instance.children, instance.step, instance.back_to}
        return places - {None} <= self.graph.nodes.keys()

    def load(self, state: str) -> S:
        """A state from its text; raises `ConfigurationError` for one of another type."""
        try:
            loaded: S = self._state.validate_json(state)
        except ValueError as error:
            raise ConfigurationError(f"not a state of {self.name}: {type(error).__name__}") from None
        return loaded

    def dump(self, state: S) -> str:
        """The text of a state; raises `ConfigurationError` for one that is not of the process's type."""
        try:
            return self._state.dump_json(self._state.validate_python(state)).decode()
        except ValueError as error:
            raise ConfigurationError(f"not a state of {self.name}: {type(error).__name__}") from None

    @override
    def _add(self, element: Element) -> Self:
        self.elements = named((*self.steps, element))
        self.graph = Graph(self.elements)
        return super()._add(element)
