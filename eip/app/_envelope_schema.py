"""The envelope beside each body, as AsyncAPI documents describe it: where correlation ids and return addresses are."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["ENVELOPE"]

_TEXTS: Final = {
    "id": "Identity.",
    "type": "What the message is about.",
    "source": "Who sent it.",
    "cid": "The request that it belongs to.",
    "reply": "Address for replies.",
    "group": "Ordered, one at a time, within a group.",
    "trace": "W3C trace context.",
}
"""The fields of the wire format (docs/wire-format.md) that another program may want to read."""

ENVELOPE: Final[dict[str, Any]] = {
    "correlationIds": {
        "eip": {"description": "The correlation id of the envelope.", "location": "$message.header#/eip/cid"}
    },
    "messageTraits": {
        "eip": {
            "correlationId": {"$ref": "#/components/correlationIds/eip"},
            "headers": {
                "type": "object",
                "properties": {
                    "eip": {
                        "type": "object",
                        "description": "The envelope, as JSON text in a message attribute or header named eip; on "
                        "EventBridge and Kinesis in the body's key eip. A message without one is a plain message.",
                        "properties": {name: {"type": "string", "description": text} for name, text in _TEXTS.items()},
                    }
                },
            },
        }
    },
}
"""Components of every document."""
