"""Wraps an application's handlers, senders and sources, so that they are measured and traced."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from eip import clock
from eip.app.journal import Journal
from eip.channels import Queue, Receiver, Sender, SenderDecorator, Source
from eip.channels.addresses import ReturnAddresses
from eip.message import Message
from eip.runtime.consumer import current_delivery
from eip.runtime.handlers import AnyHandler, Handler, Middleware, Result, middleware, name_of
from eip.telemetry.families import Family, Recorder

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from eip.telemetry.metrics import MessagingMetrics

__all__ = ["Observation", "has_opentelemetry"]


def has_opentelemetry() -> bool:
    """Whether the extra ``otel`` is installed."""
    return find_spec("opentelemetry") is not None


class Observation:
    """Measures into a recorder, and into OpenTelemetry where its providers are set.

    Args:
        recorder: keeps durations.
        tracer_provider: of OpenTelemetry; default: the global one, where one is set.
        meter_provider: likewise.
        journal: notes what messages go through.
    """

    def __init__(
        self,
        recorder: Recorder,
        tracer_provider: TracerProvider | None,
        meter_provider: MeterProvider | None,
        *,
        journal: Journal,
    ) -> None:
        self.recorder = recorder
        self.journal = journal
        self.meter_provider = meter_provider
        self.messaging: MessagingMetrics | None = None
        """The metrics of the semantic conventions; None: no meter provider is set."""
        self._tracer_provider = tracer_provider
        self._tracing = False
        if has_opentelemetry():
            from eip.telemetry import metrics, traces  # noqa: PLC0415 - an extra

            self._tracing = tracer_provider is not None or traces.is_tracing()
            if meter_provider is not None or metrics.is_metered():
                otel = None if meter_provider is None else meter_provider.get_meter("eip")
                self.messaging = metrics.MessagingMetrics(otel)

    def export(self, families: Iterable[Family]) -> None:
        """Have OpenTelemetry read the counts, where a meter provider is set."""
        if self.messaging is not None:
            from eip.telemetry.metrics import export_families  # noqa: PLC0415 - an extra

            provider = self.meter_provider
            export_families(families, None if provider is None else provider.get_meter("eip"))

    def handler(self, handler: AnyHandler, consumer: str) -> AnyHandler:
        """The handler, measured and traced."""
        measured = _measured(self, consumer, name_of(handler))(handler)
        if not self._tracing:
            return measured
        from eip.telemetry.traces import traced  # noqa: PLC0415 - an extra

        return traced(provider=self._tracer_provider)(measured)

    def sender(self, sender: Sender) -> Sender:
        """The sender, measured and traced."""
        measured = _MeasuredSender(sender, self)
        if not self._tracing:
            return measured
        from eip.telemetry.traces import TracedSender  # noqa: PLC0415 - an extra

        return TracedSender(measured, provider=self._tracer_provider)

    def source(self, source: Source) -> Source:
        """The source, with spans for what is settled."""
        return _TracedSource(source, self._tracer_provider) if self._tracing else source

    def addresses(self, addresses: ReturnAddresses) -> ReturnAddresses:
        """Return addresses whose senders are measured and traced."""
        return _ObservedAddresses(addresses, self)


def _measured(observation: Observation, consumer: str, handler: str) -> Middleware:
    measures, journal = observation.recorder.handling(consumer, handler), observation.journal

    def ended(message: Message[Any], took: float, age: float, error: BaseException | None) -> None:
        delivery = current_delivery()
        if journal.size:
            journal.handled(message, consumer, handler, took, error)
        (measures.succeeded if error is None else measures.failed).observe(took)
        measures.age.observe(age)
        measures.receive_count.observe(delivery.receive_count)
        if observation.messaging is not None:
            observation.messaging.processed(delivery.receiver, took, error)

    @middleware
    def wrap(handle: Handler) -> Handler:
        async def handled(message: Message[Any]) -> Result:
            time = asyncio.get_running_loop().time
            began, age = time(), clock.now() - message.created_at
            try:
                result = await handle(message)
            except BaseException as error:
                ended(message, time() - began, age, error)
                raise
            ended(message, time() - began, age, None)
            return result

        return handled

    return wrap


class _MeasuredSender(SenderDecorator):
    """Measures how long the service takes to accept."""

    def __init__(self, sender: Sender, observation: Observation) -> None:
        super().__init__(sender)
        self._observation = observation

    @override
    async def send(self, *messages: Message[Any], **options: Any) -> None:
        time = asyncio.get_running_loop().time
        began, failure = time(), None
        try:
            await super().send(*messages, **options)
        except BaseException as error:
            failure = error
            raise
        finally:
            took, observation = time() - began, self._observation
            observation.recorder.sent(self, len(messages), took, outcome="ok" if failure is None else "error")
            if observation.journal.size:
                observation.journal.sent(messages, self.name, took, failure)
            if observation.messaging is not None:
                observation.messaging.sent(self, len(messages), took, failure)


class _TracedSource(Source):
    """A source whose receivers trace what they settle."""

    def __init__(self, source: Source, provider: TracerProvider | None) -> None:
        self.name, self.limits = source.name, source.limits
        self.retry_queue = source if isinstance(source, Queue) else source.retry_queue
        self._source, self._provider = source, provider

    @override
    def receiver(self, *, capacity: int = 10) -> Receiver:
        from eip.telemetry.traces import trace_settling  # noqa: PLC0415 - an extra

        receiver = self._source.receiver(capacity=capacity)
        receiver.settling = trace_settling(receiver, provider=self._provider)
        return receiver


class _ObservedAddresses(ReturnAddresses):
    """The same addresses, with observed senders."""

    def __init__(self, addresses: ReturnAddresses, observation: Observation) -> None:
        self._addresses, self._observation = addresses, observation

    @override
    def resolve(self, address: str) -> Sender:
        return self._observation.sender(self._addresses.resolve(address))
