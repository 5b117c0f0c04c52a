"""OpenTelemetry spans for sending, handling and settling (extra ``otel``), carried in each message's ``traceparent``.

An `eip.App` has them without being asked, where a tracer provider is set. By hand:

    orders = TracedSender(aws.topic("orders"))                  # a span for each message sent
    Consumer(aws.queue("billing"), traced()(bill), output=orders)  # and for each attempt to handle one

A handled message's span is a child of the span that sent it, wherever that was, and links to it; what the handler
derives from the message is a child of the handling. Without the SDK the API's spans do nothing, and the trace is still
carried on. Names and kinds follow the semantic conventions for messaging, 1.45 ("Messaging spans"): one message is sent
by a ``send`` span; several at once have a ``create`` span each, which the ``send`` span of the call links to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.trace import Link, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from typing_extensions import override

from eip.channels import Delivery, Receiver, Sender, SenderDecorator
from eip.errors import Disposition, PartialSendError
from eip.message import Message
from eip.runtime.consumer import current_delivery
from eip.runtime.handlers import Handler, Middleware, Result, messages_of, middleware

__all__ = ["TracedSender", "is_tracing", "trace_settling", "traced"]

_NAME: Final = "eip"
_TRACE: Final = TraceContextTextMapPropagator()
_MAX_LINKS: Final = 128
"""Of a span: the SDK drops more (OpenTelemetry specification, "Link limits")."""


def is_tracing() -> bool:
    """Whether a tracer provider is set, so that spans go somewhere."""
    return not isinstance(trace.get_tracer_provider(), (trace.ProxyTracerProvider, trace.NoOpTracerProvider))


def traced(*, provider: trace.TracerProvider | None = None) -> Middleware:
    """Return middleware that opens a span for each attempt, ``process CHANNEL``, failed if the handler raises.

    Args:
        provider: of tracers; default: the global one.
    """
    tracer = trace.get_tracer(_NAME, tracer_provider=provider)

    @middleware
    def wrap(handle: Handler) -> Handler:

        async def handled(message: Message[Any]) -> Result:
            delivery = _current_delivery()
            channel = "" if delivery is None else delivery.receiver.name
            parent = _parent(message)
            with tracer.start_as_current_span(
                f"process {channel}".rstrip(),
                context=parent,
                kind=SpanKind.CONSUMER,
                attributes=_process_attributes(message, delivery),
                links=_links([message]),
                record_exception=False,
                set_status_on_exception=False,
            ) as span:
                carrying = _with_traceparent(message)
                try:
                    results = messages_of(await handle(carrying))
                    return [each if each.traceparent else _with_traceparent(each) for each in results]
                except Exception as error:
                    if not isinstance(error, Disposition):  # the handler decided, and gave its own reason
                        span.record_exception(error)
                    _fail(span, error)
                    raise

        return handled

    return wrap


class TracedSender(SenderDecorator):
    """Sends with spans, whose context travels in the messages; a `Sender` itself.

    The parent is the message's own ``traceparent``, or else the span that is current.

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
        if len(messages) == 1:
            await self._send_one(messages[0], options)
        elif messages:
            await self._send_batch(messages, options)

    async def _send_one(self, message: Message[Any], options: dict[str, Any]) -> None:
        with _using(self._span("send", message)) as span:
            await self._send_in(span, [_with_traceparent(message)], options)

    async def _send_batch(self, messages: Sequence[Message[Any]], options: dict[str, Any]) -> None:
        created = [self._span("create", message) for message in messages]
        carrying = [
            _with_traceparent(message, trace.set_span_in_context(span))
            for message, span in zip(messages, created, strict=True)
        ]
        attributes = {**_attributes(self, "send", "send"), "messaging.batch.message_count": len(messages)}
        links = [Link(each.get_span_context()) for each in created[:_MAX_LINKS]]
        active = trace.get_current_span().get_span_context().is_valid
        span = self._tracer.start_span(
            f"send {self.name}",
            context=None if active else _parent(messages[0]),
            kind=SpanKind.CLIENT,
            attributes=attributes,
            links=links,
        )
        try:
            with _using(span):
                await self._send_in(span, carrying, options)
        except Exception as error:
            _fail_unsent(created, carrying, error)
            raise
        finally:
            for each in created:
                each.end()

    async def _send_in(self, span: trace.Span, messages: Sequence[Message[Any]], options: dict[str, Any]) -> None:
        try:
            await super().send(*messages, **options)
        except Exception as error:
            _fail(span, error)
            raise

    def _span(self, operation: str, message: Message[Any]) -> trace.Span:
        attributes = {**_attributes(self, operation, operation), **_message_attributes(message)}
        return self._tracer.start_span(
            f"{operation} {self.name}", context=_parent(message), kind=SpanKind.PRODUCER, attributes=attributes
        )


def trace_settling(
    receiver: Receiver, *, provider: trace.TracerProvider | None = None
) -> Callable[[str, Sequence[Delivery]], AbstractContextManager[None]]:
    """Return what to set as ``receiver.settling``: a span for each call that settles, linked to its messages.

    Args:
        receiver: whose calls.
        provider: of tracers; default: the global one.
    """
    tracer = trace.get_tracer(_NAME, tracer_provider=provider)

    @contextmanager
    def settling(operation: str, deliveries: Sequence[Delivery]) -> Iterator[None]:
        messages = [each.message for each in deliveries]
        attributes = _attributes(receiver, operation, "settle")
        if len(messages) > 1:
            attributes["messaging.batch.message_count"] = len(messages)
        parent = _parent(messages[0]) if len(messages) == 1 else contexts.Context()
        with tracer.start_as_current_span(
            f"{operation} {receiver.name}",
            context=parent,
            kind=SpanKind.CLIENT,
            attributes=attributes,
            links=_links(messages),
        ):
            yield

    return settling


def _using(span: trace.Span) -> AbstractContextManager[trace.Span]:
    return trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False)


def _fail(span: trace.Span, error: Exception) -> None:
    span.set_attribute("error.type", type(error).__name__)
    span.set_status(Status(StatusCode.ERROR, type(error).__name__))


def _fail_unsent(spans: Sequence[trace.Span], sent: Sequence[Message[Any]], error: Exception) -> None:
    """Mark the spans of the messages that were not accepted."""
    failed = {each.message.id for each in error.failed} if isinstance(error, PartialSendError) else None
    for span, message in zip(spans, sent, strict=True):
        if failed is None or message.id in failed:
            _fail(span, error)


def _attributes(channel: Sender | Receiver, operation: str, kind: str) -> dict[str, str | int]:
    """Attributes of a span on a channel."""
    return {
        "messaging.system": channel.system,
        "messaging.destination.name": channel.name,
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
    }


def _message_attributes(message: Message[Any]) -> dict[str, str | int]:
    """Attributes of a span about one message; its body never is one."""
    found: dict[str, str | int] = {"messaging.message.id": message.id}
    if message.correlation_id is not None:
        found["messaging.message.conversation_id"] = message.correlation_id
    if message.raw is not None:
        found["messaging.message.body.size"] = len(message.raw)
    if message.type is not None:
        found["eip.message.type"] = message.type
    return found


def _process_attributes(message: Message[Any], delivery: Delivery | None) -> dict[str, str | int]:
    found = _message_attributes(message)
    if delivery is None:
        return {"messaging.system": "eip", "messaging.operation.name": "process", **found}
    place = _attributes(delivery.receiver, "process", "process")
    return {**place, **found, "eip.message.receive_count": delivery.receive_count}


def _current_delivery() -> Delivery | None:
    try:
        return current_delivery()
    except LookupError:
        return None


def _links(messages: Sequence[Message[Any]]) -> list[Link]:
    """Links to the spans that created the messages."""
    parents = (_parent(each) for each in messages[:_MAX_LINKS])
    found = (trace.get_current_span(each).get_span_context() for each in parents if each is not None)
    return [Link(each) for each in found if each.is_valid]


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
