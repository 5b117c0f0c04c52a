"""CloudEvents 1.0 as the form in which messages travel, for channels whose other side speaks it.

A structured event holds its envelope itself, so any program that knows CloudEvents reads it off any channel. For many
events in one message, the specification's batch, see `eip.patterns.Packer`; consumers unpack that unasked.
"""

from __future__ import annotations

from typing import Any

from typing_extensions import override

from eip.channels import SenderDecorator
from eip.cloudevents import from_cloud_event, is_cloud_event, to_cloud_event
from eip.errors import DecodeError
from eip.message import Message
from eip.patterns.diagram import with_diagram
from eip.runtime.handlers import Handler, Middleware, Result, middleware

__all__ = ["CloudEvents", "cloud_events"]


class CloudEvents(SenderDecorator):
    """A sender that writes each message as a structured CloudEvent."""

    @override
    async def send(self, *messages: Message[Any], **options: Any) -> None:
        await super().send(*map(to_cloud_event, messages), **options)


def cloud_events(*, strict: bool = False) -> Middleware:
    """Hand on what a structured CloudEvent holds, as a message like any other.

    Args:
        strict: refuse a message that is not a CloudEvent, which dead-letters it; default: hand it on as it came.
    """

    @middleware
    def wrap(handle: Handler) -> Handler:
        async def read(message: Message[Any]) -> Result:
            if is_cloud_event(message):
                return await handle(from_cloud_event(message))
            if strict:
                raise DecodeError("not a CloudEvent of version 1.0")
            return await handle(message)

        return with_diagram(read, "cloud_events", inside=handle)

    return wrap
