"""A declared consumer: what was given, and the consumer that is made of it once the transport is open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eip.app._channels import Channels
from eip.app.declarations import ChannelInfo, ConsumerOptions, HandlerInfo, message_types_of
from eip.channels import Filter, Sender, Source, Transport
from eip.channels.addresses import ReturnAddresses
from eip.errors import ConfigurationError
from eip.matching.predicate import as_predicate
from eip.message import Message
from eip.runtime.consumer import Consumer
from eip.runtime.handlers import AnyHandler, Handler, Middleware, Result, body_type, handler_of, middleware, name_of

__all__ = ["ConsumerDeclaration"]


@dataclass(slots=True)
class ConsumerDeclaration:
    """What `App.consumer` was given; refuses a handler that can never work at once."""

    handler: AnyHandler
    source: Source | None
    channel: ChannelInfo | None
    output: Sender | None
    dead_letters: Sender | None
    reply_to: str | ReturnAddresses | None
    options: ConsumerOptions

    def __post_init__(self) -> None:
        """Validate what needs no transport."""
        handler_of(self.handler)
        if self.channel is not None and self.channel.kind != "queue" and self.channel.subscription is None:
            raise ConfigurationError(f"{self.channel}: give the consumer subscription=..., whose messages it shares")

    @property
    def info(self) -> HandlerInfo:
        """The declaration as a value."""
        return HandlerInfo(
            name=name_of(self.handler),
            channel=self.channel,
            message_types=message_types_of(self.handler),
            body=body_type(self.handler),
            output=None if self.output is None else self.output.name,
            options=self.options,
        )

    def consumer(self, transport: Transport, channels: Channels) -> Consumer:
        """Make the consumer; the transport is open."""
        source = self.source if self.channel is None else channels.source(self.channel)
        if source is None:
            raise ConfigurationError("source must be a channel's name, a specification, or a source")
        filter_ = None if self.channel is None else channels.filter(self.channel)
        replies = self.reply_to
        return Consumer(
            source,
            self.handler if filter_ is None else _filtered(filter_)(self.handler),
            output=self.output,
            dead_letters=self.dead_letters,
            replies=ReturnAddresses(transport, prefix=replies) if isinstance(replies, str) else replies,
            **self.options,
        )


def _filtered(filter_: Filter) -> Middleware:
    """Middleware that drops what the filter does not let through."""
    accepts = as_predicate(filter_)

    @middleware
    def wrap(handle: Handler) -> Handler:
        async def handled(message: Message[Any]) -> Result:
            return await handle(message) if accepts(message) else None

        return handled

    return wrap
