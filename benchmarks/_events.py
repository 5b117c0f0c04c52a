"""Messages to measure with: events of an exact size on the wire, as different and as alike as real ones are."""

from __future__ import annotations

import random
from typing import Any

from eip import Message
from eip.limits import MIB
from eip.transports.aws._attributes import carried

_TEXT = """order invoice parcel customer warehouse shipped paid cancelled returned express standard gift note fragile
morning evening berlin lisbon oslo kyoto quito nairobi blue green red small medium large cotton steel oak paper"""
_WORDS = _TEXT.split()


def events(count: int, *, size: int = 1024, seed: int = 7, **envelope: Any) -> list[Message[Any]]:
    """``count`` messages of ``size`` bytes each, attributes and envelope included, as SQS and SNS count them."""
    dice = random.Random(seed)
    return [_event(number, size, dice, envelope) for number in range(count)]


def _event(number: int, size: int, dice: random.Random, envelope: dict[str, Any]) -> Message[Any]:
    body: dict[str, Any] = {
        "order": f"{dice.getrandbits(64):016x}",
        "number": number,
        "customer": {"id": dice.randrange(10**6), "city": dice.choice(_WORDS)},
        "total": round(dice.uniform(1, 500), 2),
        "items": [
            {"sku": f"{dice.randrange(10**5):05}", "count": dice.randrange(1, 9), "name": dice.choice(_WORDS)}
            for _ in range(5)
        ],
        "note": "",
    }
    message = Message(body, created_at=1_764_000_000.123456, **envelope)
    missing = size - carried(message, channel="sized", limit=MIB).size
    if missing < 0:
        raise ValueError(f"an event has at least {size - missing} bytes")
    text = " ".join(dice.choice(_WORDS) for _ in range(missing // 3 + 1))
    return message.with_body({**body, "note": text[:missing]})
