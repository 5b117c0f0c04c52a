"""OpenTelemetry spans for sending and handling (extra ``otel``), carried in each message's ``traceparent``.

    orders = TracedSender(aws.topic("orders"))                  # a span for each message sent
    Consumer(aws.queue("billing"), traced()(bill), output=orders)  # and for each attempt to handle one

A handled message's span is a child of the span that sent it, wherever that was, and what the handler derives from the
message is a child of the handling. Without the SDK the API's spans do nothing, and the trace is still carried on.
Names follow the semantic conventions for messaging, 1.27.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Final

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from typing_extensions import override

from eip.channels import Sender, SenderDecorator
from eip.errors import Disposition, PartialSendError
from eip.message import Message
from eip.runtime.consumer import current_delivery
from eip.runtime.handlers import Handler, Middleware, Result, messages_of, middleware

__all__ = ["TracedSender", "traced"]

_NAME: Final = "eip"
_TRACE: Final = TraceContextTextMapPropagator()


def traced(*, provider: trace.TracerProvider | None = None) -> Middleware:
    """Return middleware that opens a span for each attempt, ``process CHANNEL``, failed if the handler raises.

    Args:
        provider: of tracers; default: the global one.
    """
    tracer = trace.get_tracer(_NAME, tracer_provider=provider)

    @middleware
    def wrap(handle: Handler) -> Handler:

        async def handled(message: Message[Any]) -> Result:
            channel, count = _current_channel()
            attributes = {**_attributes_of(message, channel), "messaging.operation.type": "process"}
            if count is not None:
                attributes["messaging.message.receive_count"] = count
            with tracer.start_as_current_span(
                f"process {channel}".rstrip(),
                context=_parent(message),
                kind=SpanKind.CONSUMER,
                attributes=attributes,
                record_exception=False,
                set_status_on_exception=False,
            ) as span:
                carrying = _with_traceparent(message)
                try:
                    results = messages_of(await handle(carrying))
                    return [each if each.traceparent else _with_traceparent(each) for each in results]
                except Exception as error:
                    span.set_attribute("error.type", type(error).__name__)
                    if not isinstance(error, Disposition):  # the handler decided, and gave its own reason
                        span.record_exception(error)
                    span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                    raise

        return handled

    return wrap


class TracedSender(SenderDecorator):
    """Sends with a span for each message, ``send CHANNEL``, which travels in the message; a `Sender` itself.

    Its parent is the message's own ``traceparent``, or else the span that is current.

    Args:
        sender: the destination.
        provider: of tracers; default: the global one.
    """

    def __init__(self, sender: Sender, *, provider: trace.TracerProvider | None = None) -> None:
        super().__init__(sender)
        self._tracer = trace.get_tracer(_NAME, tracer_provider=provider)

    @override
    async def send(self, *messages: Message[Any], **options: Any) -> None:
        """Send, each message in a span; see `Sender.send`. ``options`` (a queue's ``delay``) are passed on."""
        with ExitStack() as stack:
            spans = [stack.enter_context(self._span(message)) for message in messages]
            carrying = [
                _with_traceparent(message, trace.set_span_in_context(span))
                for message, span in zip(messages, spans, strict=True)
            ]
            try:
                await super().send(*carrying, **options)
            except Exception as error:
                _fail(spans, carrying, error)
                raise

    def _span(self, message: Message[Any]) -> Any:
        span = self._tracer.start_span(
            f"send {self.name}",
            context=_parent(message),
            kind=SpanKind.PRODUCER,
            attributes={**_attributes_of(message, self.name), "messaging.operation.type": "send"},
        )
        return trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False)


def _fail(spans: Sequence[trace.Span], sent: Sequence[Message[Any]], error: Exception) -> None:
    """Mark the spans of the messages that were not accepted."""
    failed = {each.message.id for each in error.failed} if isinstance(error, PartialSendError) else None
    for span, message in zip(spans, sent, strict=True):
        if failed is None or message.id in failed:
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(Status(StatusCode.ERROR, type(error).__name__))


def _attributes_of(message: Message[Any], channel: str) -> dict[str, str | int]:
    """Attributes of a span; bodies never are."""
    found: dict[str, str | int] = {"messaging.system": "eip", "messaging.message.id": message.id}
    if channel:
        found["messaging.destination.name"] = channel
    if message.correlation_id is not None:
        found["messaging.message.conversation_id"] = message.correlation_id
    if message.type is not None:
        found["eip.message.type"] = message.type
    return found


def _current_channel() -> tuple[str, int | None]:
    """The channel and receive count of the current delivery; empty outside a consumer."""
    try:
        delivery = current_delivery()
    except LookupError:
        return "", None
    return delivery.receiver.name, delivery.receive_count


def _parent(message: Message[Any]) -> contexts.Context | None:
    """The context that the message came with; None: the current one."""
    if message.traceparent is None:
        return None
    return _TRACE.extract({"traceparent": message.traceparent})


def _with_traceparent(message: Message[Any], context: contexts.Context | None = None) -> Message[Any]:
    """The message with the context's span (default: the current one) as its ``traceparent``."""
    carrier: dict[str, str] = {}
    _TRACE.inject(carrier, context)
    given = carrier.get("traceparent")
    return message if given is None else message.replace(traceparent=given)
