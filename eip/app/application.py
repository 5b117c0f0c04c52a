"""The application: what it declares, and its life from opening the transports to closing them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, get_args

import anyio
from typing_extensions import override

from eip._checks import check_duration, check_one_of, check_type
from eip._logging import get_logger
from eip.app._metrics import DepthSampler, consumer_families, health_families, usage_of
from eip.app._observing import Observation
from eip.app._resources import Late, entered
from eip.app._watched_loop import WatchedLoop
from eip.app.declaring import Declarations
from eip.app.journal import Journal
from eip.channels import Transport
from eip.clock import Duration
from eip.errors import ConfigurationError, StateError
from eip.health import Health
from eip.runtime._watchdog import Lookout, watched
from eip.runtime.consumer import Consumer
from eip.runtime.service import Runnable, Service, running
from eip.telemetry.families import Family, Recorder
from eip.telemetry.meter import Metered, UsageMeter
from eip.topology import QueueSpec, Topology

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["App", "Provision"]

_log = get_logger("eip.app")

Provision: TypeAlias = Literal["apply", "check", "skip"]


class App(Declarations, Service):
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
        super().__init__(transport, topology)
        self.name = check_type("name", name, str, "a str")
        self.ready = asyncio.Event()
        self._provision = check_one_of("provision", provision, get_args(Provision))
        self._grace = None if grace is None else check_duration("grace", grace)
        if isinstance(transport, Metered) and transport.meter is None:
            transport.meter = UsageMeter()
        self._recorder = Recorder()
        self._providers = tracer_provider, meter_provider
        self.journal = Journal()
        """The recent history of its messages, kept only on demand: see `Journal.keep`."""
        self._depth_interval = check_duration("depth_interval", depth_interval, positive=True)
        self._depths: DepthSampler | None = None
        self._consumers: list[Consumer] = []
        self._running: list[Runnable] = []
        self._stop, self._ended = asyncio.Event(), asyncio.Event()
        self._watched_loop = WatchedLoop()
        self._opening: anyio.CancelScope | None = None

    # Its parts.

    @property
    def consumers(self) -> tuple[Consumer, ...]:
        """The consumers that run; empty while the application is not open."""
        return tuple(self._consumers)

    @property
    def services(self) -> tuple[Runnable, ...]:
        """The services that run beside the consumers; empty while the application is not open."""
        return tuple(self._running)

    @property
    def is_open(self) -> bool:
        """Whether everything was started, and nothing was asked to end."""
        return self._state == "running" and not self._stop.is_set()

    def parts(self) -> dict[str, Health]:
        """The health of each part: event loop, transports, services, consumers; may be called from any thread.

        Each part is asked on the application's loop. While that is blocked, what they answered last is returned, with
        the loop's own state.
        """
        return self._watched_loop.ask(self._parts_now)

    def _parts_now(self) -> dict[str, Health]:
        found = {"event loop": self._watched_loop.health(), "transport": self.transport.health()}
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
        return self._watched_loop.blocked_for()

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
        observation = Observation(self._recorder, *self._providers, journal=self.journal)
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
        self._begin()
        try:
            async with AsyncExitStack() as stack:
                with anyio.CancelScope() as self._opening:
                    await self._open(stack)
                self._opening = None
                if not self._stop.is_set():
                    await self._work()
        finally:
            self._end()

    @asynccontextmanager
    async def inspected(self) -> AsyncIterator[Self]:
        """Open it to be looked at, as from a console in another process: nothing is provisioned, consumed or run.

        Transport and resources are open meanwhile, and its services are made, so that what they keep in stores can be
        read.

        Raises:
            StateError: it ran already: make another one.
        """
        self._begin()
        try:
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(self.transport)
                await self._enter_resources(stack)
                self._running += [each.make() if isinstance(each, Late) else each for each in self._services]
                self._state = "inspected"
                yield self
        finally:
            self._end()

    def _begin(self) -> None:
        if self._state != "new":
            raise StateError(f"{self.name} ran already; an application runs once, so make another one")
        self._state = "starting"
        self._watched_loop.attach()

    def _end(self) -> None:
        self.ready.clear()
        self._state = "ended"
        self._watched_loop.detach()
        self._observation = None
        for sender, _ in self._senders.values():
            sender.bind(None)
        self._consumers.clear()
        self._running.clear()
        self._ended.set()

    async def _enter_resources(self, stack: AsyncExitStack) -> None:
        """Make what the application declares usable, once its transport is open."""
        observation = self._observation = self._observe()
        for channel, (sender, _) in self._senders.items():
            sender.bind(observation.sender(self._channels.sender(channel)))
        for each in self._resources:
            await entered(each, stack)

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
        await self._enter_resources(stack)
        for each in self._services:
            service = each.make() if isinstance(each, Late) else each
            self._running.append(service)
            await stack.enter_async_context(running(service))
        declared, observation = self._declared.values(), self._observation
        assert observation is not None
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
