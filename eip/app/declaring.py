"""The declarations of an application: consumers, senders, services and resources, by name and before it is open."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, TypeAlias, TypeVar, Unpack

from eip._checks import check_type
from eip.app._channels import Channels, ChannelSpec, DeclaredSender
from eip.app._consumers import ConsumerDeclaration
from eip.app._observing import Observation
from eip.app._resources import Late, is_resource
from eip.app.declarations import ChannelInfo, ConsumerOptions, HandlerInfo, PublicationInfo, names_type
from eip.channels import Sender, Source, Transport
from eip.channels.addresses import ReturnAddresses
from eip.errors import ConfigurationError
from eip.runtime.dispatch import message_type
from eip.runtime.handlers import AnyHandler
from eip.runtime.service import Runnable
from eip.topology import Topology

__all__ = ["Declarations"]

_F = TypeVar("_F", bound=AnyHandler)
_T = TypeVar("_T")
_S = TypeVar("_S", bound=Runnable)
_State: TypeAlias = Literal["new", "starting", "running", "inspected", "ended"]


class Declarations:
    """The part of an `eip.App` that its maker calls; nothing of it asks the transport before the application is open.

    Args:
        transport: of the channels that are named.
        topology: the channels that it declares; a name that is not among them is a queue's.
    """

    def __init__(self, transport: Transport, topology: Topology | None) -> None:
        self.transport = check_type("transport", transport, Transport, "a transport")
        self.topology = check_type("topology", topology, Topology, "a Topology", optional=True) or Topology()
        self._channels = Channels(self.transport, self.topology)
        self._declared: dict[ChannelInfo | int, ConsumerDeclaration] = {}
        self._senders: dict[ChannelInfo, tuple[DeclaredSender, dict[str, Any]]] = {}
        self._resources: list[Any] = []
        self._services: list[Runnable | Late[Any]] = []
        self._observation: Observation | None = None
        """While it is open: what observes its senders."""
        self._state: _State = "new"

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
            message_types: the models of what is sent there, for exports; they restrict nothing. What handlers return
                is known by their annotations.
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
        """The channels that it sends to, with the types that are declared there and those that handlers return."""
        return tuple(
            PublicationInfo(channel, {**self._returned_to(channel.name), **types})
            for channel, (_, types) in self._senders.items()
        )

    def _returned_to(self, channel: str) -> dict[str, Any]:
        """The models that handlers return to a channel, by message type."""
        results = (model for each in self.handlers if each.output == channel for model in each.results)
        return {message_type(model): model for model in results if names_type(model)}

    @property
    def channels(self) -> tuple[ChannelInfo, ...]:
        """All channels that it reads or sends to, each once."""
        read = (each.channel for each in self._declared.values() if each.channel is not None)
        return tuple(dict.fromkeys((*read, *self._senders)))
