"""The target of a command: an application by ``module:attribute``, or a transport by options and the environment."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import typer

from eip.app import App
from eip.app._channels import Channels
from eip.app.declarations import ChannelInfo, ChannelKind
from eip.channels import Queue, Source, Transport
from eip.errors import ConfigurationError
from eip.topology import Topology

__all__ = ["JsonOption", "Place", "Target", "load", "load_app", "load_topology", "with_target"]

JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Lines of JSON, as in a pipe.")]

_KINDS: Final[dict[str, ChannelKind]] = {"queue": "queue", "topic": "topic", "bus": "bus", "stream": "stream"}


def load(target: str) -> Any:
    """The object that ``module:attribute`` names; one that is called without arguments makes it.

    Args:
        target: imported with the working directory first on the path.

    Raises:
        ConfigurationError: there is none.
    """
    module, colon, attribute = target.partition(":")
    if not colon or not module or not attribute:
        raise ConfigurationError(f"target must be module:attribute, e.g. shop.app:app, got {target!r}")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise  # a module that the application itself misses
        raise ConfigurationError(f"there is no module {module!r} in {here} or on the path") from None
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ConfigurationError(f"{module} has no {attribute!r}")
        found = getattr(found, part)
    return found() if callable(found) and not isinstance(found, (App, Topology)) else found


def load_app(target: str) -> App:
    """The application that ``module:attribute`` is or makes; raises `ConfigurationError` where it is none."""
    found = load(target)
    if not isinstance(found, App):
        raise ConfigurationError(f"{target} must be an App, or a function that makes one, got {found!r}")
    return found


def load_topology(target: str) -> tuple[Topology, Transport | None]:
    """The topology that ``module:attribute`` is or makes, or that of an application with its transport."""
    found = load(target)
    if isinstance(found, App):
        return found.topology, found.transport
    if isinstance(found, Topology):
        return found, None
    raise ConfigurationError(f"{target} must be a Topology or an App, got {found!r}")


class Place:
    """An open transport, and the channels that a topology declares for it.

    Args:
        transport: open.
        topology: what kinds the channels are.
    """

    def __init__(self, transport: Transport, topology: Topology) -> None:
        self.transport, self.topology = transport, topology
        self._channels = Channels(transport, topology)

    def info(self, channel: str) -> ChannelInfo:
        """Which channel ``orders``, ``topic/orders`` or ``topic/orders/billing`` names."""
        kind, slash, rest = channel.partition("/")
        if not slash or kind not in _KINDS:
            return self._channels.info(channel)
        name, _, subscription = rest.partition("/")
        return ChannelInfo(_KINDS[kind], name, subscription or None)

    def sender(self, channel: str) -> Any:
        """The channel to send to."""
        return self._channels.sender(self.info(channel))

    def queue(self, channel: str) -> Queue:
        """The queue of that name, or of a subscription; raises `ConfigurationError` for anything else."""
        info = self.info(channel)
        found: Source | Any = self._channels.source(info) if info.subscription else self._channels.sender(info)
        if isinstance(found, Queue):
            return found
        inner = getattr(found, "queue", None)
        if isinstance(inner, Queue):
            return inner
        raise ConfigurationError(f"{info} is not a queue; name a queue, or a subscription: topic/NAME/SUBSCRIPTION")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The target that a command's options name: an application, or a transport."""

    app: str | None = None
    transport: str | None = None
    region: str | None = None
    endpoint_url: str | None = None
    broker: str | None = None

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Place]:
        """Open the transport; options win over the environment.

        Raises:
            ConfigurationError: nothing names a transport, or one that no other process can reach.
        """
        if self.app is not None:
            loaded = load_app(self.app)
            used, topology = loaded.transport, loaded.topology
        else:
            used, topology = self.configured(), Topology()
        async with used:
            yield Place(used, topology)

    @property
    def names_transport(self) -> bool:
        """Whether an option chooses a transport, whatever the environment says."""
        return any((self.transport, self.region, self.endpoint_url, self.broker))

    def configured(self) -> Transport:
        """The transport of the options and the environment, not opened yet."""
        from eip.app.settings import AppSettings  # noqa: PLC0415 - an extra

        options = {"transport": self.transport or ("activemq" if self.broker else None), "region": self.region}
        options |= {"endpoint_url": self.endpoint_url, "broker_url": self.broker}
        settings = AppSettings(**{name: value for name, value in options.items() if value is not None})
        if settings.transport == "memory":
            raise ConfigurationError(
                "no other process can reach the memory transport; give --transport aws or activemq, --app, or "
                "EIP_TRANSPORT"
            )
        return settings.make_transport()


_OPTIONS: Final[dict[str, Any]] = {
    "app": typer.Option("--app", help="The application whose transport and topology to use: module:attribute."),
    "transport": typer.Option("--transport", help="aws or activemq. Default: EIP_TRANSPORT."),
    "region": typer.Option("--region", help="Default: EIP_REGION, AWS_REGION."),
    "endpoint_url": typer.Option("--endpoint-url", help="Of an emulator. Default: EIP_ENDPOINT_URL."),
    "broker": typer.Option("--broker", help="stomp+ssl://host:61614 of ActiveMQ. Default: EIP_BROKER_URL."),
}


def with_target(*, app: bool = True) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options that make its parameter ``at``, a `Target`; use it as a decorator.

    Args:
        app: whether ``--app`` is among them.
    """
    names = [name for name in _OPTIONS if app or name != "app"]
    added = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, _OPTIONS[name]]
        )
        for name in names
    ]

    def wrap(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(**given: Any) -> None:
            function(at=Target(**{name: given.pop(name) for name in names}), **given)

        own = inspect.signature(function, eval_str=True).parameters.values()
        kept = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own if each.name != "at"]
        command.__signature__ = inspect.Signature([*kept, *added])  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in (*kept, *added)}
        del command.__wrapped__  # typer would read its signature
        return command

    return wrap
