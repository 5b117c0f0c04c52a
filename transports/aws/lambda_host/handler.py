"""The entry point of a Lambda function: an event loop that is kept, and a consumer for each invocation."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from typing import Any, Final, TypeAlias, get_args

from typing_extensions import override

from eip._checks import check_duration, check_one_of, check_type
from eip._logging import get_logger
from eip.channels import Sender
from eip.clock import Duration
from eip.codec import JSON, Codec
from eip.errors import ConfigurationError, EipError, InvalidResult
from eip.message import Message
from eip.runtime.consumer import Consumer
from eip.runtime.handlers import AnyHandler, Result, handler_of, messages_of
from eip.transports.aws.lambda_host._events import Arrived, OnUnknown, arrived
from eip.transports.aws.lambda_host._invocation import LambdaInvocation, TumblingWindow, current, window_of
from eip.transports.aws.lambda_host._receiver import InvocationReceiver, InvocationSource

__all__ = ["InvocationFailed", "LambdaHandler", "OnWindow", "Response", "Setup", "lambda_handler"]

_log = get_logger("eip.lambda")

_MAX_FUNCTION_S: Final = 900.0
"""Seconds that a function may run (AWS Lambda Developer Guide, "Lambda quotas")."""

Setup: TypeAlias = Callable[[], AbstractAsyncContextManager[Mapping[str, Any]]]
Response: TypeAlias = dict[str, Any]
OnWindow: TypeAlias = Callable[[TumblingWindow], Awaitable[Result] | Result]


class InvocationFailed(EipError):
    """Messages of an invocation failed whose source takes no partial answer: Lambda brings all of it again."""

    def __init__(self, failed: Sequence[str], total: int) -> None:
        self.failed, self.total = tuple(failed), total
        super().__init__(f"{len(failed)} of {total} messages failed: {', '.join(failed[:5])}")


def lambda_handler(
    handler: AnyHandler,
    *,
    setup: Setup | None = None,
    margin: Duration = 1.0,
    codec: Codec = JSON,
    on_window: OnWindow | None = None,
    on_unknown: OnUnknown = "raise",
    partial_responses: bool = True,
    **options: Any,
) -> LambdaHandler:
    """Make the entry point of a Lambda function that handles messages.

    Args:
        handler: see `eip.runtime.handlers`; the same that a `Consumer` takes. `current_invocation` gives it Lambda's
            context, the event, and the time window.
        setup: gives a context manager that is entered once in each execution environment, in the event loop that all
            invocations share; what it yields are further options, e.g. ``{"output": aws.topic("quotes")}``.
        margin: seconds before the function would be ended, at which what is not done is given back.
        codec: decodes the bodies of foreign producers; a ``str`` or ``bytes`` handler gets any body without it.
        on_window: called at the end of each tumbling window, once its messages are done; the messages that it returns
            go to ``output``. Where it fails, the window's last invocation comes again.
        on_unknown: what becomes of an event of an unknown source, as a direct call of the function or a schedule's own
            input: ``"raise"``, or ``"handle"`` it as one message, with the event as body.
        partial_responses: whether the mapping of a queue or stream has ``ReportBatchItemFailures``. Without it Lambda
            does not read which messages failed, and would take them as done: with False the invocation fails instead.
        options: of `Consumer`: ``concurrency``, ``output``, ``dead_letters``, ``retry``, ... By default a message is
            tried once per invocation (``local_retries=0``): Lambda brings it again.

    Raises:
        TypeError: an option of the wrong type.
        ConfigurationError: a value out of range; from the entry point, an event of an unknown source.
    """
    handler_of(handler)
    if on_window is not None and not callable(on_window):
        raise ConfigurationError(f"on_window must be a function of the window, got {on_window!r}")
    check_one_of("on_unknown", on_unknown, get_args(OnUnknown))
    made = LambdaHandler(
        handler,
        setup,
        check_duration("margin", margin),
        codec,
        options,
        on_window=on_window,
        on_unknown=on_unknown,
        partial_responses=check_type("partial_responses", partial_responses, bool, "a bool"),
    )
    # Checks the options now. What ``setup`` will give is not known before the first invocation: an output may be in it.
    given = {"output": _Setup()} if setup is not None and "output" not in options else {}
    made.consumer(InvocationSource(Arrived(source="", name="lambda", records=())), given, 1.0)
    return made


class _Setup(Sender):
    """A placeholder for the output that ``setup`` may give."""

    name = address = "setup"

    @override
    async def send(self, *messages: Message[Any]) -> None:
        del messages
        raise AssertionError("it is replaced before the first message")


class LambdaHandler:
    """What `lambda_handler` gives: a callable with an event loop of its own, kept between invocations."""

    def __init__(
        self,
        handler: AnyHandler,
        setup: Setup | None,
        margin: float,
        codec: Codec,
        options: Mapping[str, Any],
        *,
        on_window: OnWindow | None = None,
        on_unknown: OnUnknown = "raise",
        partial_responses: bool = True,
    ) -> None:
        self._handler, self._setup, self._margin, self._codec = handler, setup, margin, codec
        self._on_window, self._on_unknown, self._partial = on_window, on_unknown, partial_responses
        self._options = {"local_retries": 0, **options}
        self._runner: asyncio.Runner | None = None
        self._stack = AsyncExitStack()
        self._given: Mapping[str, Any] | None = None
        self._left: set[asyncio.Task[None]] = set()
        """Consumers that have not ended, of earlier invocations too, where their handlers had not ended by then."""

    def __call__(self, event: Any, context: Any) -> Response:
        """Handle the messages of an event.

        Args:
            event: as Lambda calls the function with it.
            context: Lambda's, see `LambdaContext`.

        Raises:
            InvocationFailed: messages failed, and the source takes no partial answer.
            ConfigurationError: an event of an unknown source.
        """
        found = arrived(event, self._codec, on_unknown=self._on_unknown)
        if not self._partial:
            found = replace(found, partial=False)
        invocation = LambdaInvocation(event=event, context=context, source=found.source, window=window_of(event))
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner.run(self._handle(found, invocation))

    def close(self) -> None:
        """Leave what ``setup`` gave, and close the loop; for tests, Lambda freezes or ends the process."""
        if self._runner is not None:
            runner, self._runner, self._given = self._runner, None, None
            runner.run(self._stack.aclose())
            runner.close()

    def consumer(self, source: InvocationSource, given: Mapping[str, Any], remaining: float) -> Consumer:
        """A consumer of an invocation's messages."""
        limits = {"grace": 0.0, "max_processing": min(max(remaining, 1.0), _MAX_FUNCTION_S)}
        return Consumer(source, _traced(self._handler), **{**limits, **self._options, **given})

    async def _handle(self, found: Arrived, invocation: LambdaInvocation) -> Response:
        if self._given is None:
            self._given = {} if self._setup is None else await self._stack.enter_async_context(self._setup())
        current.set(invocation)
        ends = asyncio.get_running_loop().time() + invocation.remaining() - self._margin
        source = InvocationSource(found, invocation.window)
        consumer = self.consumer(source, self._given, _until(ends))
        if _until(ends) > 0:
            await self._consume(consumer, source.messages, _until(ends))
        answer = _answer(found, source.messages.failed)
        if invocation.window is not None:
            await self._end_window(invocation.window, source.messages, consumer.output, ends)
            answer["state"] = invocation.window.state
        return answer

    async def _consume(self, consumer: Consumer, messages: InvocationReceiver, remaining: float) -> None:
        """Run the consumer until all is settled, or the time is over; its end must not outlast the function."""
        running = asyncio.create_task(consumer.run(), name=f"{messages.name} invocation")
        settled = asyncio.create_task(messages.settled.wait())
        try:
            await asyncio.wait((running, settled), timeout=remaining, return_when=asyncio.FIRST_COMPLETED)
        finally:
            settled.cancel()
            stopping = asyncio.create_task(consumer.stop(), name=f"{messages.name} end")
            for task in (running, stopping):
                self._left.add(task)
                task.add_done_callback(self._left.discard)
        if messages.left and not running.done():
            _log.warning("invocation_out_of_time", channel=messages.name, left=messages.left)
        # A handler in a thread, or one that ignores its cancellation, is left to end in a later invocation: if Lambda
        # had to end the function, all messages would come again.
        await asyncio.wait((running, stopping), timeout=self._margin / 2)
        if running.done():
            running.result()

    async def _end_window(
        self, window: TumblingWindow, messages: InvocationReceiver, output: Sender | None, ends: float
    ) -> None:
        """Settle the window's state, and at its end report what it came to."""
        messages.undo()
        if not window.final or messages.failed or self._on_window is None:
            return
        async with asyncio.timeout(_until(ends)):
            result = self._on_window(window)
            results = messages_of(await result if inspect.isawaitable(result) else result)
            if results and output is None:
                raise InvalidResult("on_window returned messages with nowhere to go; give lambda_handler output=...")
            if results and output is not None:
                await output.send(*results)


def _until(ends: float) -> float:
    """Seconds until a time of the running loop's clock."""
    return ends - asyncio.get_running_loop().time()


def _traced(handler: AnyHandler) -> AnyHandler:
    """The handler with a span for each attempt, where the function has set a tracer provider."""
    if "opentelemetry.trace" not in sys.modules:
        return handler
    from eip.telemetry.traces import is_tracing, traced  # noqa: PLC0415 - an extra

    return traced()(handler) if is_tracing() else handler


def _answer(found: Arrived, failed: Sequence[int]) -> Response:
    """The answer to the service; raises `InvocationFailed` where it takes no partial answer."""
    identifiers = list(dict.fromkeys(found.records[place].identifier for place in failed))
    if not found.partial:
        if identifiers:
            raise InvocationFailed(identifiers, len(found.records))
        return {"batchItemFailures": []}
    if found.first_only:
        identifiers = identifiers[:1]
    return {"batchItemFailures": [{"itemIdentifier": each} for each in identifiers]}
