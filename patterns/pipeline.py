"""Pipes and Filters (Hohpe & Woolf, chapter 3): a handler made of steps, each fed what the one before it returned.

The steps run in this process, between one receive and one acknowledgement: where a step fails, the message fails, and
all of its steps run again when it comes back, so they must cope with a message that comes twice. Where a step deserves
retries of its own, put a queue before it and let it be another consumer's handler.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from eip.errors import ConfigurationError
from eip.message import Message
from eip.patterns._functions import function_of
from eip.patterns.diagram import Diagram, diagram, mermaid
from eip.runtime.handlers import Handler, Middleware, Result, messages_of

__all__ = ["Around", "Pipeline", "PipelineStep", "around", "pipeline"]

PipelineStep: TypeAlias = "Callable[[Any], Awaitable[Result] | Result]"
"""A handler, or a plain function of the same kind: takes a message, returns none, one, or several."""


class Around:
    """A middleware as a step: it has all steps behind it inside of it."""

    def __init__(self, middleware: Middleware) -> None:
        self.middleware = middleware


def around(middleware: Middleware) -> Around:
    """Let a middleware (a filter, a throttle, an idempotent receiver) wrap the steps that follow.

    It sees them as its handler: a filter that turns a message away skips them all, an idempotent receiver notes a
    message as done only once all of them have succeeded.
    """
    return Around(middleware)


class Pipeline:
    """A handler that runs each message through steps; see `pipeline`."""

    def __init__(self, *steps: PipelineStep | Around) -> None:
        if not steps:
            raise ConfigurationError("a pipeline has at least one step")
        self._handler: Handler | None = None
        self._diagram: list[Diagram] = []
        for step in reversed(steps):
            self._prepend(step)

    async def __call__(self, message: Message[Any]) -> Result:
        """What the last step returns of the message."""
        assert self._handler is not None
        return await self._handler(message)

    def diagram(self) -> Diagram:
        """The steps and the channels that they send to."""
        return Diagram(name="pipeline", steps=tuple(self._diagram))

    def mermaid(self) -> str:
        """The flowchart of the steps, as Mermaid text."""
        return mermaid(self)

    def _prepend(self, step: PipelineStep | Around) -> None:
        rest = self._handler
        if isinstance(step, Around):
            self._handler = step.middleware(rest or _forward)
            drawn = diagram(self._handler if hasattr(self._handler, "diagram") else step.middleware)
            self._diagram.insert(0, Diagram(name=drawn.name, channels=drawn.channels))
        else:
            first = function_of(step)
            self._handler = first if rest is None else _chain(first, rest)
            self._diagram.insert(0, diagram(step))


def pipeline(*steps: PipelineStep | Around) -> Pipeline:
    """A handler that feeds each message to the first step, what that returns to the second, and so on.

    A step is a handler (see `eip.runtime.handlers`): it takes a message and returns none, one or several; with none,
    that message goes no further. Messages of one step go through the next one at a time, in order. A router can end a
    pipeline, and a pipeline can be a step of another. Plain functions will do if there is nothing to await.

        Consumer(orders, pipeline(translator(Order.from_xml), around(message_filter(big)), split), output=lines)

    Raises `ConfigurationError` for no steps, and for one that takes no single message.
    """
    return Pipeline(*steps)


async def _forward(message: Message[Any]) -> Message[Any]:
    return message


def _chain(step: Handler, rest: Handler) -> Handler:
    async def run(message: Message[Any]) -> Result:
        results: list[Message[Any]] = []
        for each in messages_of(await step(message)):
            results += messages_of(await rest(each))
        return results

    return run
