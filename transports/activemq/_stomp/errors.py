"""Errors of a connection: what ERROR frames and failed attempts to connect mean to a caller."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Final

from eip.errors import AccessDenied, ChannelNotFound, ConnectionLost, Throttled, TransportError
from eip.transports.activemq._stomp.frames import Frame, NotStomp
from eip.transports.activemq._stomp.servers import Server

__all__ = ["RefusedByBroker", "connect_error", "error_of", "fresh"]

_NOT_TLS: Final = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
"""Reasons of OpenSSL for a server that answers in plain text."""
_WRONG_PORT: Final = {b"\x15\x03": "the port speaks TLS: use stomp+ssl://", b"HTTP": "the port speaks HTTP"}
"""By the first bytes of the answer, what the port is instead of a STOMP port."""
_BY_EXCEPTION: Final[Mapping[str, type[TransportError]]] = {
    "SecurityException": AccessDenied,
    "JMSSecurityException": AccessDenied,
    "InvalidDestinationException": ChannelNotFound,
    "ResourceAllocationException": Throttled,
    # Another connection has the client id: often our own, which the broker does not know to be dead yet.
    "InvalidClientIDException": ConnectionLost,
    # The broker is starting or stopping, or its store fails.
    **dict.fromkeys(
        (
            *("BrokerStoppedException", "NotStartedException", "AlreadyClosedException", "ServiceStoppedException"),
            *("ConnectionClosedException", "ConnectionFailedException", "TransactionRolledBackException"),
            *("IOException", "EOFException", "InterruptedIOException", "InterruptedException", "SQLException"),
            *("TransportDisposedIOException", "RequestTimedOutIOException", "InactivityIOException"),
        ),
        ConnectionLost,
    ),
}
"""By the exception's class. The text has names of channels in it: a queue may be called ``password-resets``."""
_BY_TEXT: Final[tuple[tuple[tuple[str, ...], type[TransportError]], ...]] = (
    (("securityexception", "not authorized", "password", "authenticat"), AccessDenied),
    (("invaliddestination", "does not exist"), ChannelNotFound),
    (("resourceallocation", "usage manager"), Throttled),
)


class RefusedByBroker(ConnectionLost):
    """The broker sent an ERROR frame that answers no request, which ends the connection (STOMP 1.2, "ERROR")."""


def error_of(frame: Frame) -> TransportError:
    """Return the error that an ERROR frame reports; its body is a stack trace of the broker and is left out."""
    trace = frame.body[:300].decode(errors="replace").partition("\n")[0]
    reason = frame.headers.get("message") or trace
    kind = trace.partition(":")[0].rpartition(".")[2]
    if kind.endswith("Exception") and kind.isalnum() and kind not in reason:
        reason = f"{kind}: {reason}"
    return (_BY_EXCEPTION.get(kind) or _by_text(f"{reason} {trace}".lower()))(reason)


def _by_text(text: str) -> type[TransportError]:
    return next((made for signs, made in _BY_TEXT if any(each in text for each in signs)), TransportError)


def connect_error(server: Server, error: Exception, *, step: str, timeout: float) -> TransportError:
    """Return the error of a failed attempt to connect: where, during which step, and what to check.

    Args:
        server: the broker's address.
        error: what was raised.
        step: what was being done: ``connecting``, ``logging in``.
        timeout: of the attempt, in seconds.
    """
    made: TransportError
    match error:
        case AccessDenied():
            made = AccessDenied(f"{server}: {error}")
        case NotStomp():
            hint = next((text for start, text in _WRONG_PORT.items() if error.start.startswith(start)), str(error))
            made = TransportError(f"{server}: not a STOMP broker: {hint}")
        case TransportError():
            kind = type(error) if isinstance(error, ConnectionLost) else TransportError
            made = kind(f"{server}, while {step}: {str(error).removeprefix(f'{server} ')}")
        case ssl.SSLCertVerificationError():
            made = TransportError(f"{server}: its certificate is not trusted: {error.verify_message}")
        case ssl.SSLError() if error.reason in _NOT_TLS:
            made = TransportError(f"{server}: the port does not speak TLS ({error.reason}): use stomp://")
        case TimeoutError():
            made = ConnectionLost(f"{server}: no answer within {timeout:g} s, while {step}")
        case _:
            made = ConnectionLost(f"{server}, while {step}: {error}")
    return made


def fresh(error: TransportError) -> TransportError:
    """Return a copy to raise: one instance raised in several places would gather all their tracebacks."""
    made = type(error)(*error.args)
    made.__cause__ = error.__cause__
    return made
