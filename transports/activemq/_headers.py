"""Names of headers: the driver's own, the broker's, and those that are attributes.

One rule keeps attributes apart from headers: an attribute becomes a header only under a name that is a plain word and
not reserved, here and nowhere else; any other travels inside the envelope. Source of the broker's names:
https://activemq.apache.org/components/classic/documentation/stomp
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from eip.envelope import ENVELOPE_KEY
from eip.transports.activemq._addresses import to_address

__all__ = [
    "ATTEMPTS",
    "BROKER_HEADERS",
    "DELAY",
    "DUE",
    "attribute_headers",
    "is_attribute_name",
    "is_priority",
    "number",
]

ATTEMPTS: Final = "eip-attempts"
"""How many times the message was received before it was sent again for a retry."""
DUE: Final = "eip-due"
"""When a delayed message is to be delivered, in milliseconds since the epoch: not every broker has a scheduler."""
DELAY: Final = "AMQ_SCHEDULED_DELAY"
"""For the broker's scheduler, in milliseconds."""

_NAME: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$.-]{0,249}")
_MESSAGE_NAMES: Final = """
    ack amq-msg-type content-length content-type correlation-id destination expires message-id original-destination
    originalDestination originalExpiration dlqDeliveryFailureCause persistent priority redelivered reply-to
    scheduledJobId subscription timestamp type
"""
BROKER_HEADERS: Final = frozenset(_MESSAGE_NAMES.split())
"""Headers that brokers put into the frames of messages."""
_COMMAND_NAMES: Final = """
    browser content-encoding host id login message passcode receipt receipt-id selector server session transaction
    transformation transformation-error version
"""
_BY_VALUE: Final = frozenset(("destination", "persistent", "priority", "redelivered", "reply-to", "timestamp"))
"""Of those, the ones whose values tell a JMS property of the same name."""
_FLAGS: Final = frozenset(("true", "false"))
_PRIORITIES: Final = frozenset("0123456789")
_NAMES_WITHOUT_ATTRIBUTES: Final = BROKER_HEADERS | {"", ENVELOPE_KEY}
_NEVER_ATTRIBUTES: Final = (BROKER_HEADERS - _BY_VALUE) | {"", ENVELOPE_KEY}
_OF_COMMANDS: Final = frozenset(_COMMAND_NAMES.split())
"""Headers that mean something in frames that clients send, or in other frames of brokers."""
_RESERVED: Final = BROKER_HEADERS | _OF_COMMANDS
_RESERVED_PREFIXES: Final = ("eip", "JMS", "AMQ_", "activemq.", "_AMQ")
_BROKERS_PREFIXES: Final = ("JMS", "AMQ_", "_AMQ", f"{ENVELOPE_KEY}-")


def is_attribute_name(name: str) -> bool:
    """Return whether an attribute of this name may be sent as a header."""
    return name not in _RESERVED and not name.startswith(_RESERVED_PREFIXES) and _NAME.fullmatch(name) is not None


def attribute_headers(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the headers of a received message that are its attributes: by name, or by a value no broker gives it."""
    if _NAMES_WITHOUT_ATTRIBUTES.issuperset(headers) and _has_usual_values(headers):
        return []  # most messages: two looks at all headers in place of some at each
    found: list[tuple[str, str]] = []
    for name, text in headers.items():
        if name in _NEVER_ATTRIBUTES:
            continue
        if name in _BY_VALUE:
            if _is_property(name, text):
                found.append((name, text))
        elif not name.startswith(_BROKERS_PREFIXES):
            found.append((name, text))
    return found


def _has_usual_values(headers: Mapping[str, str]) -> bool:
    """Return whether the headers of `_BY_VALUE` are a broker's, by their values; False where it takes a closer look."""
    get = headers.get
    return (
        get("destination", "/").startswith("/")
        and get("persistent", "true") in _FLAGS
        and get("redelivered", "true") in _FLAGS
        and get("priority", "4") in _PRIORITIES
        and number(get("timestamp", "1")) > 0
        and "reply-to" not in headers
    )


def _is_property(name: str, text: str) -> bool:
    """Return whether the value of a broker's header can only be a JMS property of the same name."""
    if name == "timestamp":
        return not number(text) and text != "0"
    if name == "priority":
        return not is_priority(text)
    if name == "destination":
        return not text.startswith("/")
    if name == "reply-to":
        return to_address(text) is None
    return text not in _FLAGS


def is_priority(text: str) -> bool:
    """Return whether the text is a JMS priority, 0 to 9."""
    return text in _PRIORITIES


def number(text: str | None) -> int:
    """Parse a numeric header; 0 if malformed (headers are untrusted)."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= 15 else 0
