"""The application: what it declares, and its life from opening the transports to closing them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, Unpack, get_args

import anyio
from typing_extensions import override

from eip import clock
from eip._checks import check_duration, check_one_of, check_type
from eip._logging import get_logger
from eip.app._channels import Channels, ChannelSpec, DeclaredSender
from eip.app._consumers import ConsumerDeclaration
from eip.app._metrics import DepthSampler, consumer_families, health_families, usage_of
from eip.app._observing import Observation
from eip.app._resources import Late, entered, is_resource
from eip.app.declarations import ChannelInfo, ConsumerOptions, HandlerInfo, PublicationInfo
from eip.channels import Sender, Source, Transport
from eip.channels.addresses import ReturnAddresses
from eip.clock import Duration
from eip.errors import ConfigurationError, StateError
from eip.health import Health
from eip.runtime._watchdog import Lookout, blocked_loop, watched
from eip.runtime.consumer import Consumer
from eip.runtime.dispatch import message_type
from eip.runtime.handlers import AnyHandler
from eip.runtime.service import Runnable, Service, running
from eip.telemetry.families import Family, Recorder
from eip.telemetry.meter import Metered, UsageMeter
from eip.topology import QueueSpec, Topology

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["App", "Provision"]

_log = get_logger("eip.app")
_F = TypeVar("_F", bound=AnyHandler)
_T = TypeVar("_T")
_S = TypeVar("_S", bound=Runnable)

Provision: TypeAlias = Literal["apply", "check", "skip"]


class App(Service):
    """Holds an application: transports, topology, stores, services and handlers; itself a service and a block.

        app = App(AwsTransport(), topology=Topology(QueueSpec("orders")))

        @app.consumer("orders", concurrency=20)
        async def bill(order: OrderPlaced) -> None: ...

        async with app: ...

    Everything is declared before the application is open, by name: channels are looked up once the transport is.
    It opens the transport, provisions the topology, enters stores and resources, starts services, and at last the
    consumers; it ends in the opposite order, all consumers drained at once. Where one service fails, the application
    ends and raises its error. It is made by a function, and runs once.

    Args:
        transport: of the channels that it names; opened and closed by the application.
        topology: the channels that it declares; a name that is not among them is a queue's.
        name: for logs and health.
        provision: what is done about the topology at the start. ``"apply"``: make and change what differs;
            ``"check"``: fail where something is missing or differs; ``"skip"``: nothing.
        grace: seconds for consumers and services to end what is in hand after `stop`; default: each one's own.
        depth_interval: seconds between looks at the depth of its queues, while somebody reads its metrics.
        tracer_provider: of OpenTelemetry; default: the global one, where one is set.
        meter_provider: likewise.

    Raises:
        TypeError: an argument of the wrong type.
        ConfigurationError: a value out of range.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        topology: Topology | None = None,
        name: str = "app",
        provision: Provision = "apply",
        grace: Duration | None = None,
        depth_interval: Duration = 30.0,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self.name = check_type("name", name, str, "a str")
        self.transport = check_type("transport", transport, Transport, "a transport")
        self.topology = check_type("topology", topology, Topology, "a Topology", optional=True) or Topology()
        self.ready = asyncio.Event()
        self._provision = check_one_of("provision", provision, get_args(Provision))
        self._grace = None if grace is None else check_duration("grace", grace)
        if isinstance(transport, Metered) and transport.meter is None:
            transport.meter = UsageMeter()
        self._recorder = Recorder()
        self._providers = tracer_provider, meter_provider
        self._observation: Observation | None = None
        self._depth_interval = check_duration("depth_interval", depth_interval, positive=True)
        self._depths: DepthSampler | None = None
        self._channels = Channels(self.transport, self.topology)
        self._declared: dict[ChannelInfo | int, ConsumerDeclaration] = {}
        self._senders: dict[ChannelInfo, tuple[DeclaredSender, dict[str, Any]]] = {}
        self._resources: list[Any] = []
        self._services: list[Runnable | Late[Any]] = []
        self._consumers: list[Consumer] = []
        self._running: list[Runnable] = []
        self._stop, self._ended = asyncio.Event(), asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening: anyio.CancelScope | None = None
        self._state: Literal["new", "starting", "running", "ended"] = "new"

    # Declarations.

    def consumer(
        self,
        source: ChannelSpec | Source,
        *,
        subscription: str | None = None,
        output: ChannelSpec | Sender | None = None,
        dead_letters: ChannelSpec | Sender | None = None,
        reply_to: str | ReturnAddresses | None = None,
        **options: Unpack[ConsumerOptions],
    ) -> Callable[[_F], _F]:
        """Declare the consumer of a channel; use it as a decorator of the handler.

        Args:
            source: where messages come from.
            subscription: of a topic, bus or stream: the subscription, rule or group whose messages it shares.
            output: where the handler's results go.
            dead_letters: where what can never be handled goes; default: the channel's own dead-letter queue.
            reply_to: answer requests to reply queues whose names begin so, or as the `ReturnAddresses` allow.
            options: of `eip.Consumer`.

        Raises:
            ConfigurationError: the channel has a consumer already, or the application is open.
        """
        self._check_new("consumer")
        channel = None if isinstance(source, Source) else self._channels.info(source, subscription)

        def declare(handler: _F) -> _F:
            declaration = ConsumerDeclaration(
                handler,
                source if isinstance(source, Source) else None,
                channel,
                output=self._destination(output),
                dead_letters=self._destination(dead_letters),
                reply_to=reply_to,
                options=options,
            )
            key = id(source) if channel is None else channel
            if key in self._declared:
                raise ConfigurationError(
                    f"{channel or source} has a consumer already, and the two would share its messages at random; "
                    "dispatch by message type with Handlers, or give each a subscription of its own"
                )
            self._declared[key] = declaration
            return handler

        return declare

    def sender(self, channel: ChannelSpec, *message_types: type) -> Sender:
        """Return the channel to send to, before or while the application is open.

        Args:
            channel: where to.
            message_types: the models of what is sent there, for exports; they restrict nothing.
        """
        info = self._channels.info(channel)
        sender, types = self._senders.setdefault(info, (DeclaredSender(info.name), {}))
        types.update((message_type(each), each) for each in message_types)
        if self._observation is not None:
            sender.bind(self._observation.sender(self._channels.sender(info)))
        return sender

    def add(self, part: _T) -> _T:
        """Add a service, another transport, a store, or any other async context manager; returns it.

        Raises:
            TypeError: neither a service nor something to enter or close.
            ConfigurationError: the application is open.
        """
        self._check_new("add")
        if isinstance(part, Runnable) and not isinstance(part, type):
            self._services.append(part)
        elif is_resource(part):
            self._resources.append(part)
        else:
            raise TypeError(f"part must be a service, or have __aenter__ or aclose, got {part!r}")
        return part

    def service(self, make: Callable[[], _S]) -> Callable[[], _S]:
        """Declare a service that needs the open transport; use it as a decorator.

            @app.service
            def quotes() -> ScatterGather:
                return ScatterGather(requests=app.transport.topic("rides"), replies=app.transport.queue("quotes"))

            await quotes().request(...)

        Args:
            make: called once the transport and the resources are open.

        Returns:
            A function that returns the service; it raises `StateError` while the application is not open.
        """
        self._check_new("service")
        late: Late[_S] = Late(make)
        self._services.append(late)
        return late

    def resource(self, make: Callable[[], AbstractAsyncContextManager[_T]]) -> Callable[[], _T]:
        """Declare what the application enters, such as a connection pool; use it as a decorator.

        Args:
            make: returns the async context manager; called once the transport is open.

        Returns:
            A function that returns what was entered; it raises `StateError` while the application is not open.
        """
        self._check_new("resource")
        late: Late[_T] = Late(make)
        self._resources.append(late)
        return late

    def _destination(self, channel: ChannelSpec | Sender | None) -> Sender | None:
        return channel if channel is None or isinstance(channel, Sender) else self.sender(channel)

    def _check_new(self, what: str) -> None:
        if self._state != "new":
            raise ConfigurationError(f"{what} must be called before the application is open; it is {self._state}")

    # What it is made of.

    @property
    def handlers(self) -> tuple[HandlerInfo, ...]:
        """The declared consumers, in the order of their declaration."""
        return tuple(each.info for each in self._declared.values())

    @property
    def publications(self) -> tuple[PublicationInfo, ...]:
        """The channels that it sends to."""
        return tuple(PublicationInfo(channel, types) for channel, (_, types) in self._senders.items())

    @property
    def channels(self) -> tuple[ChannelInfo, ...]:
        """All channels that it reads or sends to, each once."""
        read = (each.channel for each in self._declared.values() if each.channel is not None)
        return tuple(dict.fromkeys((*read, *self._senders)))

    @property
    def consumers(self) -> tuple[Consumer, ...]:
        """The consumers that run; empty while the application is not open."""
        return tuple(self._consumers)

    @property
    def services(self) -> tuple[Runnable, ...]:
        """The services that run beside the consumers; empty while the application is not open."""
        return tuple(self._running)

    # Health.

    @property
    def is_open(self) -> bool:
        """Whether everything was started, and nothing was asked to end."""
        return self._state == "running" and not self._stop.is_set()

    def parts(self) -> dict[str, Health]:
        """The health of each part: transports, services, consumers; may be called from any thread."""
        found = {"event loop": self._loop_health(), "transport": self.transport.health()}
        for number, each in enumerate(self._resources, 2):
            if isinstance(each, Transport):
                found[f"transport {number}"] = each.health()
        for each in (*self._running, *self._consumers):
            if isinstance(each, Service):
                kind = "consumer" if isinstance(each, Consumer) else "service"
                found[_unused(f"{kind} {each.name}", found)] = each.health()
        return found

    def blocked_for(self) -> float:
        """Seconds for which its event loop has been blocked; 0: it runs. May be called from any thread."""
        blocked = None if self._loop is None else blocked_loop(self._loop)
        return 0.0 if blocked is None else blocked.seconds

    def _loop_health(self) -> Health:
        blocked = None if self._loop is None else blocked_loop(self._loop)
        if blocked is None:
            return Health(ok=True)
        handler = blocked.handler or "other code than a handler's"
        reason = f"blocked for {blocked.seconds:.0f} s by {handler}"
        return Health(ok=False, failing_since=clock.now() - blocked.seconds, reason=reason)

    # Metrics.

    def families(self) -> Iterator[Family]:
        """Its metrics, see `eip.telemetry.families`; may be called from any thread."""
        yield from self._recorder.families()
        yield from consumer_families(lambda: self.consumers)
        yield from health_families(self.parts, self.blocked_for)
        yield from usage_of(self.transport)
        if self._depths is not None:
            yield self._depths.family()

    def _observe(self) -> Observation:
        observation = Observation(self._recorder, *self._providers)
        named = (each.name for each in self.topology.resources if isinstance(each, QueueSpec))
        read = (each.name for each in self.channels if each.kind == "queue")
        queues = [self.transport.queue(name) for name in dict.fromkeys((*named, *read))]
        self._depths = DepthSampler(queues, self._depth_interval)
        observation.export(self.families())
        return observation

    @override
    def health(self) -> Health:
        """Whether it runs and all its parts are well; the reason names the first that is not."""
        if not self.is_open:
            states = {"starting": "starting", "running": "stopping"}
            return Health(ok=False, reason=states.get(self._state, "not running"))
        for name, health in self.parts().items():
            if not health.ok:
                return Health(ok=False, failing_since=health.failing_since, reason=f"{name}: {health.reason}")
        return Health(ok=True)

    # Its life.

    @override
    async def run(self) -> None:
        """Open everything, work until `stop`, drain and close.

        Raises:
            StateError: it ran already: make another one.
        """
        if self._state != "new":
            raise StateError(f"{self.name} ran already; an application runs once, so make another one")
        self._state, self._loop = "starting", asyncio.get_running_loop()
        try:
            async with AsyncExitStack() as stack:
                with anyio.CancelScope() as self._opening:
                    await self._open(stack)
                self._opening = None
                if not self._stop.is_set():
                    await self._work()
        finally:
            self.ready.clear()
            self._state, self._loop = "ended", None
            self._observation = None
            for sender, _ in self._senders.values():
                sender.bind(None)
            self._consumers.clear()
            self._running.clear()
            self._ended.set()

    async def _work(self) -> None:
        self._state = "running"
        self.ready.set()
        _log.info("app_started", app=self.name, transport=type(self.transport).__name__)
        assert self._depths is not None
        looking = asyncio.create_task(self._depths.run(), name=f"{self.name} depths")
        try:
            with watched(Lookout()):
                await self._stop.wait()
        finally:
            looking.cancel()
            self.ready.clear()
            await self._drain()

    async def _open(self, stack: AsyncExitStack) -> None:
        await stack.enter_async_context(self.transport)
        await self._provide()
        observation = self._observation = self._observe()
        for channel, (sender, _) in self._senders.items():
            sender.bind(observation.sender(self._channels.sender(channel)))
        for each in self._resources:
            await entered(each, stack)
        for each in self._services:
            service = each.make() if isinstance(each, Late) else each
            self._running.append(service)
            await stack.enter_async_context(running(service))
        declared = self._declared.values()
        self._consumers += [each.consumer(self.transport, self._channels, observation) for each in declared]
        await stack.enter_async_context(running(*self._consumers))

    async def _provide(self) -> None:
        if not self.topology.resources or self._provision == "skip":
            return
        if self._provision == "apply":
            await self.topology.apply(self.transport)
            return
        plan = await self.topology.plan(self.transport)
        if not plan.in_force:
            steps = "\n".join(map(str, (*plan["create"], *plan["change"])))
            raise ConfigurationError(f"the topology is not in force; run `eip topology apply`:\n{steps}")

    async def _drain(self) -> None:
        """Stop all consumers at once; leaving the block then stops the services one after the other."""
        stopping = (each.stop(grace=self._grace) for each in self._consumers)
        for outcome in await asyncio.gather(*stopping, return_exceptions=True):
            if isinstance(outcome, Exception):
                _log.error("stop_failed", app=self.name, exc_info=outcome)

    @override
    async def stop(self, *, grace: Duration | None = None) -> None:
        if grace is not None:
            self._grace = check_duration("grace", grace)
        self._stop.set()
        if self._opening is not None:
            self._opening.cancel()
        if self._state in ("starting", "running"):
            await self._ended.wait()

    @asynccontextmanager
    async def lifespan(self, _asgi: object = None) -> AsyncIterator[dict[str, Any]]:
        """The lifespan of a Starlette or FastAPI application: ``FastAPI(lifespan=app.lifespan)``.

        The application is ``request.state.eip`` in its routes.
        """
        async with self:
            yield {"eip": self}

    def __repr__(self) -> str:
        return f"<App {self.name} {self._state} consumers={len(self._declared)} services={len(self._services)}>"


def _unused(name: str, taken: Iterable[str]) -> str:
    """The name, or with the next number where it is taken."""
    known, number, free = set(taken), 2, name
    while free in known:
        free, number = f"{name} {number}", number + 1
    return free
