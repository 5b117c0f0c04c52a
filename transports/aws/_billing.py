"""What SQS, SNS and EventBridge bill for a call: one request for each 64 KiB begun (the services' pricing pages)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eip.transports._capabilities import SQS

__all__ = ["measure_received", "request_units"]


def request_units(size: int) -> int:
    """Billed requests of a payload of ``size`` bytes."""
    return max(1, -(-size // (SQS.unit_bytes or 1)))


def measure_received(answer: Mapping[str, Any]) -> tuple[int, int, int]:
    """Messages of a ReceiveMessage answer, their bytes with attributes, and the billed requests."""
    found = answer.get("Messages")
    messages = [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []
    size = sum(len(str(each.get("Body", "")).encode("utf-8", "replace")) + _attributes_size(each) for each in messages)
    return len(messages), size, request_units(size)


def _attributes_size(message: Mapping[str, Any]) -> int:
    attributes = message.get("MessageAttributes")
    if not isinstance(attributes, Mapping):
        return 0
    return sum(
        len(name) + sum(len(part if isinstance(part, bytes) else str(part).encode()) for part in each.values())
        for name, each in attributes.items()
        if isinstance(each, Mapping)
    )
