"""The trace that is current, for messages that are written down before they are sent: an outbox's rows, packs.

OpenTelemetry is not imported here: where the program has not imported it, no span can be current.
"""

from __future__ import annotations

import sys
from typing import Any

from eip.message import Message

__all__ = ["current_traceparent", "with_current_trace", "with_trace_of"]


def current_traceparent() -> str | None:
    """The W3C ``traceparent`` of OpenTelemetry's current span; None where there is none."""
    api: Any = sys.modules.get("opentelemetry.trace")
    if api is None:
        return None
    context = api.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def with_current_trace(message: Message[Any]) -> Message[Any]:
    """The message with the current span's trace, where it carries none of its own."""
    if message.traceparent is not None or (current := current_traceparent()) is None:
        return message
    return message.replace(traceparent=current)


def with_trace_of(cause: Message[Any], result: Message[Any]) -> Message[Any]:
    """The result of handling a message, with the current span's trace, or the message's, where it has none."""
    traced = with_current_trace(result)
    if traced.traceparent is not None or cause.traceparent is None:
        return traced
    return traced.replace(traceparent=cause.traceparent)
