"""AWS Lambda as a host of handlers: the same handler that a poller runs, called by an event source.

    handler = lambda_handler(handle, concurrency=10)         # in the function's module: its entry point

Each invocation is consumed by an ordinary `Consumer`, so that retries, message groups, packs, expiry, dead letters and
"publish, then acknowledge" mean what they mean everywhere. Delivery is at-least-once. The answers:

    SQS          ``batchItemFailures``, so that only failed messages come again; of a FIFO group also those behind
    Kinesis      the first failed record of the batch: it and what follows come again
    SNS, EventBridge, Amazon MQ    the invocation fails where a message failed: it, or for MQ its batch, comes again

Give an SQS or Kinesis event source mapping ``ReportBatchItemFailures``. A message that is not done a second before the
function would be ended is given back.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Final, Protocol, TypeAlias

from typing_extensions import override

from eip._checks import check_duration
from eip._logging import get_logger
from eip.channels import Delivery, Receiver, Sender, Source, Unsettled
from eip.clock import Duration
from eip.codec import JSON, Codec
from eip.errors import EipError
from eip.message import Message
from eip.runtime.consumer import Consumer
from eip.runtime.handlers import AnyHandler, handler_of
from eip.transports.aws._invocations import Invocation, invocation_of

__all__ = ["InvocationFailed", "LambdaContext", "LambdaHandler", "Response", "Setup", "lambda_handler"]

_log = get_logger("eip.lambda")

_MAX_FUNCTION_S: Final = 900.0
"""Seconds that a function may run (AWS Lambda Developer Guide, "Lambda quotas")."""

Setup: TypeAlias = Callable[[], AbstractAsyncContextManager[Mapping[str, Any]]]
Response: TypeAlias = dict[str, list[dict[str, str]]]


class LambdaContext(Protocol):
    """The part of Lambda's context that is used."""

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the function is ended."""
        ...


class InvocationFailed(EipError):
    """Messages of an invocation failed whose source takes no partial answer: Lambda brings all of it again."""

    def __init__(self, failed: Sequence[str], total: int) -> None:
        self.failed, self.total = tuple(failed), total
        super().__init__(f"{len(failed)} of {total} messages failed: {', '.join(failed[:5])}")


def lambda_handler(
    handler: AnyHandler, *, setup: Setup | None = None, margin: Duration = 1.0, codec: Codec = JSON, **options: Any
) -> LambdaHandler:
    """Make the entry point of a Lambda function that handles messages.

    Args:
        handler: see `eip.runtime.handlers`; the same that a `Consumer` takes.
        setup: gives a context manager that is entered once in each execution environment, in the event loop that all
            invocations share; what it yields are further options, e.g. ``{"output": aws.topic("quotes")}``.
        margin: seconds before the function would be ended, at which what is not done is given back.
        codec: decodes the bodies of foreign producers; a ``str`` or ``bytes`` handler gets any body without it.
        options: of `Consumer`: ``concurrency``, ``output``, ``dead_letters``, ``retry``, ... By default a message is
            tried once per invocation (``local_retries=0``): Lambda brings it again.

    Raises:
        TypeError: an option of the wrong type.
        ConfigurationError: a value out of range; from the entry point, an event of an unknown source.
    """
    handler_of(handler)
    made = LambdaHandler(handler, setup, check_duration("margin", margin), codec, options)
    # Checks the options now. What ``setup`` will give is not known before the first invocation: an output may be in it.
    given = {"output": _Setup()} if setup is not None and "output" not in options else {}
    made.consumer(Invocation(name="lambda", records=(), ordered=False, partial=True), given, 1.0)
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
        self, handler: AnyHandler, setup: Setup | None, margin: float, codec: Codec, options: Mapping[str, Any]
    ) -> None:
        self._handler, self._setup, self._margin, self._codec = handler, setup, margin, codec
        self._options = {"local_retries": 0, **options}
        self._runner: asyncio.Runner | None = None
        self._stack = AsyncExitStack()
        self._given: Mapping[str, Any] | None = None

    def __call__(self, event: Any, context: LambdaContext) -> Response:
        """Handle the messages of an event.

        Raises:
            InvocationFailed: messages failed, and the source takes no partial answer.
            ConfigurationError: an event of an unknown source.
        """
        invocation = invocation_of(event, self._codec)
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner.run(self._handle(invocation, context))

    def close(self) -> None:
        """Leave what ``setup`` gave, and close the loop; for tests, Lambda freezes or ends the process."""
        if self._runner is not None:
            runner, self._runner, self._given = self._runner, None, None
            runner.run(self._stack.aclose())
            runner.close()

    def consumer(self, invocation: Invocation, given: Mapping[str, Any], remaining: float) -> Consumer:
        """A consumer of the invocation's messages."""
        limits = {"grace": 0.0, "max_processing": min(max(remaining, 1.0), _MAX_FUNCTION_S)}
        handler = _traced(self._handler)
        return Consumer(_InvocationSource(invocation), handler, **{**limits, **self._options, **given})

    async def _handle(self, invocation: Invocation, context: LambdaContext) -> Response:
        if self._given is None:
            self._given = {} if self._setup is None else await self._stack.enter_async_context(self._setup())
        remaining = context.get_remaining_time_in_millis() / 1000 - self._margin
        consumer = self.consumer(invocation, self._given, remaining)
        source = consumer.source
        assert isinstance(source, _InvocationSource)
        if remaining > 0:
            await _consume(consumer, source.receiver_of, remaining)
        return _answer(invocation, source.receiver_of.failed)


def _traced(handler: AnyHandler) -> AnyHandler:
    """The handler with a span for each attempt, where the function has set a tracer provider."""
    if "opentelemetry.trace" not in sys.modules:
        return handler
    from eip.telemetry.traces import is_tracing, traced  # noqa: PLC0415 - an extra

    return traced()(handler) if is_tracing() else handler


async def _consume(consumer: Consumer, messages: _InvocationReceiver, remaining: float) -> None:
    """Run the consumer until all is settled, or the time is over."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(consumer.run(), name=f"{messages.name} invocation")
        try:
            async with asyncio.timeout(remaining):
                await messages.settled.wait()
        except TimeoutError:
            _log.warning("invocation_out_of_time", channel=messages.name, left=messages.left)
        await consumer.stop()


def _answer(invocation: Invocation, failed: Sequence[int]) -> Response:
    """The answer to the service; raises `InvocationFailed` where it takes no partial answer."""
    identifiers = list(dict.fromkeys(invocation.records[place].identifier for place in sorted(failed)))
    if not invocation.partial:
        if identifiers:
            raise InvocationFailed(identifiers, len(invocation.records))
        return {"batchItemFailures": []}
    if invocation.first_only:
        identifiers = identifiers[:1]
    return {"batchItemFailures": [{"itemIdentifier": each} for each in identifiers]}


class _InvocationSource(Source):
    """The messages of one invocation as something to consume."""

    def __init__(self, invocation: Invocation) -> None:
        self.name = invocation.name
        self.receiver_of = _InvocationReceiver(invocation)

    @override
    def receiver(self, *, capacity: int = 10) -> Receiver:
        del capacity
        return self.receiver_of


class _InvocationReceiver(Receiver):
    """Hands out each message once; given back is failed, and what is left at the end as well."""

    settle_batch = 1

    def __init__(self, invocation: Invocation) -> None:
        self.name, self.ordered = invocation.name, invocation.ordered
        self._records = invocation.records
        self._waiting = deque(range(len(invocation.records)))
        self._out: dict[Delivery, int] = {}
        self._failed: list[int] = []
        self.settled = asyncio.Event()
        """Set once nothing is left to do."""
        self._look()

    @property
    def left(self) -> int:
        """Messages that are not settled."""
        return len(self._waiting) + len(self._out)

    @property
    def failed(self) -> Sequence[int]:
        """The places of what has to come again."""
        return [*self._failed, *self._out.values(), *self._waiting]

    @override
    async def receive(self, limit: int, *, wait: float = 20.0) -> Sequence[Delivery]:
        if not self._waiting:
            await asyncio.sleep(wait)
        return self.receive_nowait(limit)

    @override
    def receive_nowait(self, limit: int) -> Sequence[Delivery]:
        taken: list[Delivery] = []
        while self._waiting and len(taken) < limit:
            place = self._waiting.popleft()
            record = self._records[place]
            delivery = Delivery(self, record.message, receive_count=record.receive_count, error=record.error)
            self._out[delivery] = place
            taken.append(delivery)
        return taken

    @override
    async def _ack(self, deliveries: Sequence[Delivery]) -> Sequence[Unsettled]:
        for delivery in deliveries:
            self._out.pop(delivery, None)
        self._look()
        return ()

    @override
    async def _nack(self, deliveries: Sequence[Delivery], delay: float) -> Sequence[Unsettled]:
        del delay  # the service decides when it comes again
        for delivery in deliveries:
            place = self._out.pop(delivery, None)
            if place is not None:
                self._failed.append(place)
        self._look()
        return ()

    @override
    async def _extend(self, deliveries: Sequence[Delivery], seconds: float) -> Sequence[Unsettled]:
        del deliveries, seconds
        return ()

    def _look(self) -> None:
        if not self.left:
            self.settled.set()
