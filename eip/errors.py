"""Every error the library raises.

    EipError
    ├── ConfigurationError (ValueError)    the program is wrong; not tried again
    │   ├── UnsupportedChannel             the transport has no such kind of channel
    │   ├── StateError                     used after it was closed, or before it was opened
    │   ├── InvalidPattern                 an event pattern or filter policy the service would refuse
    │   └── InvalidResult (TypeError)      a handler returned what cannot be sent
    ├── InvalidMessage (ValueError)        a message that no channel, or this one, can ever carry; not tried again
    │   └── MessageTooLarge
    ├── TransportError                     the service or the way to it failed
    │   ├── ConnectionLost                 (transient) no answer, or the connection broke
    │   ├── Throttled                      (transient) the service asks to slow down
    │   ├── ChannelNotFound
    │   ├── Conflict                       it exists already, or is in no state for that
    │   ├── AccessDenied
    │   ├── CheckpointInvalid              a checkpoint of another stream: it was deleted and made again
    │   ├── LeaseLost                      the message may be with another consumer: it was not settled
    │   └── SendError                      not accepted by the service
    │       └── PartialSendError           some were accepted, some were not
    ├── DecodeError (ValueError)           received bytes that are not what they should be
    ├── AddressRefused                     a return address outside the allow-list
    ├── StoreError                         a pattern's store failed or refused
    ├── RequestTimeout (TimeoutError)      no reply before the deadline
    └── Disposition                        raised by handlers to say what becomes of the message
        ├── Reject                         to the dead-letter channel now, without retries
        ├── Park                           aside, with its whole message group
        └── Retry                          again, after a delay of the handler's choice

Drivers map foreign errors to these at their border and keep the original as ``__cause__``.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from eip.clock import Duration, seconds

__all__ = [
    "AccessDenied",
    "AddressRefused",
    "ChannelNotFound",
    "CheckpointInvalid",
    "ConfigurationError",
    "Conflict",
    "ConnectionLost",
    "DecodeError",
    "Disposition",
    "EipError",
    "FailedEntry",
    "InvalidMessage",
    "InvalidPattern",
    "InvalidResult",
    "LeaseLost",
    "MessageTooLarge",
    "Park",
    "PartialSendError",
    "Reject",
    "RequestTimeout",
    "Retry",
    "SendError",
    "StateError",
    "StoreError",
    "Throttled",
    "TransportError",
    "UnsupportedChannel",
    "error_text",
    "stack_text",
]

_LIBRARY: Final = f"{Path(__file__).parent}/"
"""Prefix of the file names of the library's own frames."""
_MAX_FRAMES: Final = 20
_MAX_STACK: Final = 2000
"""Characters of a stack: dead letters carry it, and are billed by their size."""


class EipError(Exception):
    """Base of every error of this library."""


class ConfigurationError(EipError, ValueError):
    """The program is configured or used wrongly. The call that raises this sent nothing; earlier calls may have."""


class UnsupportedChannel(ConfigurationError):
    """The transport has no such kind of channel.

    ``kind`` is what was asked for, ``available`` the kinds that the transport has.
    """

    def __init__(self, transport: str, kind: str, available: Iterable[str]) -> None:
        self.transport, self.kind, self.available = transport, kind, tuple(available)
        super().__init__(f"{transport} has no {kind}; it has: {', '.join(self.available) or 'nothing'}")


class StateError(ConfigurationError):
    """A transport, channel or store is used after it was closed, or before it was opened."""


class InvalidPattern(ConfigurationError):
    """An event pattern or filter policy that the service would refuse.

    ``reason`` is the service's own text, ``pointer`` the offending place as a JSON pointer (RFC 6901; "": all of it).
    """

    def __init__(self, reason: str, *, pointer: str = "") -> None:
        self.reason, self.pointer = reason, pointer
        super().__init__(f"{reason}\n at {pointer}" if pointer else reason)


class InvalidResult(ConfigurationError, TypeError):
    """A handler returned what cannot be sent: no messages, too many, or messages with nowhere to go."""


class InvalidMessage(EipError, ValueError):
    """A message that the channel can never carry, found before sending; never retried. The data is at fault."""


class MessageTooLarge(InvalidMessage):
    """The encoded message, attributes included, exceeds the channel's limit; both in bytes of UTF-8."""

    def __init__(self, size: int, limit: int, *, channel: str = "") -> None:
        self.size, self.limit, self.channel = size, limit, channel
        where = f" of {channel}" if channel else ""
        super().__init__(
            f"message of {size:,} bytes exceeds the limit{where} of {limit:,}; send less, or use a claim check"
        )


class TransportError(EipError):
    """The service, or the way to it, failed.

    ``transient`` tells whether the same call may succeed later.
    """

    transient = False


class ConnectionLost(TransportError):
    """No connection, or it broke before the answer came: the call may or may not have taken effect."""

    transient = True


class Throttled(TransportError):
    """The service asks to slow down; nothing took effect."""

    transient = True


class ChannelNotFound(TransportError):
    """The channel does not exist; declare it with ``eip.topology``."""


class Conflict(TransportError):
    """The resource exists already, or is in a state that does not allow the call."""


class AccessDenied(TransportError):
    """The credentials do not allow the call."""


class CheckpointInvalid(TransportError):
    """The group's checkpoint is not of this stream, which was probably deleted and made again.

    What is in the stream now was never read by the group: begin again with `eip.streams.StreamGroup.seek`.
    """


class LeaseLost(TransportError):
    """The lease ran out or was taken: another consumer may have the message, so it was not settled."""


class SendError(TransportError):
    """The service did not accept the message."""

    def __init__(self, *reason: object, transient: bool = False) -> None:
        self.transient = transient
        super().__init__(*reason)


class FailedEntry(NamedTuple):
    """One message of a batch that was not accepted, and why."""

    message: Any
    """The `eip.Message`; not typed as one, since messages import their errors from here."""
    error: Exception


class PartialSendError(SendError):
    """Some messages of one ``send`` were not accepted; the others were, and must not be sent again.

    ``failed`` holds the refused entries in the order given, ``sent`` the number accepted.
    """

    def __init__(self, failed: Sequence[FailedEntry], *, sent: int) -> None:
        self.failed, self.sent = tuple(failed), sent
        self.transient = any(getattr(entry.error, "transient", False) for entry in self.failed)
        super().__init__(
            f"{len(self.failed)} of {len(self.failed) + sent} messages not accepted; first: {self.failed[0].error}"
        )


class DecodeError(EipError, ValueError):
    """Received bytes that are not what they should be; goes to the dead-letter channel, never retried."""


class AddressRefused(EipError):
    """A return address outside the allow-list; nothing was sent there."""

    def __init__(self, address: str, *, reason: str = "not in the allow-list") -> None:
        self.address = address
        super().__init__(f"return address {address[:200]!r} refused: {reason}")


class StoreError(EipError):
    """A pattern's store failed, or refused the change; a write may or may not have taken effect.

    ``transient`` tells whether the same call may succeed later: not where the database refuses the credentials, the
    statement or the data, or cannot be read by this version of the library.
    """

    def __init__(self, *reason: object, transient: bool = True) -> None:
        self.transient = transient
        super().__init__(*reason)


class RequestTimeout(EipError, TimeoutError):
    """No reply came before the deadline."""


class Disposition(EipError):
    """Raised by a handler to say what becomes of the message, instead of the default retry."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason or type(self).__name__.lower()
        super().__init__(self.reason)


class Reject(Disposition):
    """The message can never be handled: to the dead-letter channel now, with the reason."""


class Park(Disposition):
    """Put the message aside, and with it every later message of its group, to the dead-letter channel."""


class Retry(Disposition):
    """Handle the message again after ``delay`` seconds (default: the consumer's backoff).

    Args:
        reason: for the log.
        delay: seconds or a timedelta; a negative one counts as 0.
        counted: whether this was an attempt. If not, as when the handler only waits for something, the message stays
            with its consumer, its lease kept, and uses up no receive; at most for the consumer's ``max_processing``.

    Raises:
        TypeError: ``delay`` is neither a number nor a timedelta.
        ConfigurationError: ``delay`` is infinite, or not a number.
    """

    def __init__(self, reason: str = "", *, delay: Duration | None = None, counted: bool = True) -> None:
        self.delay, self.counted = None if delay is None else max(seconds(delay), 0.0), counted
        if self.delay is not None and not math.isfinite(self.delay):
            raise ConfigurationError(f"delay must be a finite number of seconds, got {delay!r}")
        super().__init__(reason)


def stack_text(error: BaseException) -> str | None:
    """Where an error was raised, without the library's own frames and without values of variables; at most 2,000 bytes.

    None for a `Disposition`, which a handler raises on purpose, and where no frame is known.
    """
    if isinstance(error, Disposition):
        return None
    last = traceback.extract_tb(error.__traceback__, limit=-_MAX_FRAMES)
    frames = [each for each in last if not each.filename.startswith(_LIBRARY)]
    if not frames:
        return None
    text = "".join(traceback.format_list(frames)).rstrip().encode("ascii", "backslashreplace").decode()
    return text if len(text) <= _MAX_STACK else f"...{text[3 - _MAX_STACK :]}"


def error_text(error: BaseException) -> str:
    """Type and text of an error, as Unicode; a foreign error whose text cannot be read must not raise another one."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - `__str__` is the user's code
        text = "(its text cannot be read)"
    whole = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return whole.encode(errors="backslashreplace").decode()  # lone surrogates: neither a log nor a header takes them
