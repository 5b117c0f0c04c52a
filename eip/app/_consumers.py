"""A declared consumer: what was given, and the consumer that is made of it once the transport is open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eip.app._channels import Channels, DeclaredSender
from eip.app._observing import Observation
from eip.app.declarations import (
    ChannelInfo,
    ConsumerOptions,
    HandlerInfo,
    message_types_of,
    name_of_handler,
    replying_handlers,
    results_of,
)
from eip.channels import Filter, Sender, Source, Transport
from eip.channels.addresses import ReturnAddresses
from eip.errors import ConfigurationError
from eip.matching.predicate import as_predicate
from eip.message import Message
from eip.runtime.consumer import Consumer
from eip.runtime.handlers import AnyHandler, Handler, Middleware, Result, body_type, handler_of, middleware

__all__ = ["ConsumerDeclaration"]


@dataclass(slots=True)
class ConsumerDeclaration:
    """The arguments of `App.consumer`; a handler that can never work is refused at once."""

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
        replying = replying_handlers(self.handler) if self.reply_to is None else (self.handler,)
        return HandlerInfo(
            name=name_of_handler(self.handler),
            channel=self.channel,
            message_types=message_types_of(self.handler),
            body=body_type(self.handler),
            output=None if self.output is None else self.output.name,
            options=self.options,
            dead_letters=None if self.dead_letters is None else self.dead_letters.name,
            results=results_of(self.handler),
            replies=bool(replying),
            reply_types=tuple(dict.fromkeys(model for each in replying for model in results_of(each))),
        )

    def consumer(self, transport: Transport, channels: Channels, observation: Observation) -> Consumer:
        """Make the consumer; the transport is open."""
        source = self.source if self.channel is None else channels.source(self.channel)
        if source is None:
            raise ConfigurationError("source must be a channel's name, a specification, or a source")
        filter_ = None if self.channel is None else channels.filter(self.channel)
        handler = self.handler if filter_ is None else _filtered(filter_)(self.handler)
        replies = self.reply_to
        if isinstance(replies, str):
            replies = ReturnAddresses(transport, prefix=replies)
        return Consumer(
            observation.source(source),
            observation.handler(handler, self.options.get("name") or source.name),
            output=self._observed(self.output, observation),
            dead_letters=self._observed(self.dead_letters, observation),
            replies=None if replies is None else observation.addresses(replies),
            **self.options,
        )

    @staticmethod
    def _observed(sender: Sender | None, observation: Observation) -> Sender | None:
        """The sender, observed; one that the application declares is already."""
        return sender if sender is None or isinstance(sender, DeclaredSender) else observation.sender(sender)


def _filtered(filter_: Filter) -> Middleware:
    """Middleware that drops what the filter does not let through."""
    accepts = as_predicate(filter_)

    @middleware
    def wrap(handle: Handler) -> Handler:
        async def handled(message: Message[Any]) -> Result:
            return await handle(message) if accepts(message) else None

        return handled

    return wrap
