"""A request as it is made: what it is sent with, and when it is complete."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, TypeVar

from typing_extensions import override

from eip import clock
from eip._checks import check_duration, check_integer
from eip._ids import new_id
from eip.channels import Queue, Receiver, Source
from eip.clock import Duration
from eip.codec import JsonCodec, load_json
from eip.errors import ConfigurationError, DecodeError
from eip.message import REQUEST_ID, Message

__all__ = [
    "REPLY_CODEC",
    "Conditions",
    "Predicate",
    "ReplyChannel",
    "asked",
    "check_deadline",
    "check_function",
    "check_reply_channel",
]

_Function = TypeVar("_Function")
Predicate: TypeAlias = Callable[[Sequence[Message[Any]]], bool]


class ReplyChannel(Protocol):
    """What replies come in on: a queue, or another `eip.Source` with an address that responders can answer to."""

    name: str
    address: str
    retry_queue: Queue | None

    def receiver(self, *, capacity: int = 10) -> Receiver:
        """A receiver of the replies, as `eip.Source.receiver` makes it."""
        ...


class Conditions(NamedTuple):
    """When a request is complete, apart from its deadline."""

    expected: int | None
    names: frozenset[str] | None
    count: int | None  # type: ignore[assignment]  # hides tuple.count, which nobody needs of it

    @staticmethod
    def of(expected: int | Iterable[str] | None, count: int | None) -> Conditions:
        """Validate what `ScatterGather.request` was given."""
        if count is None and expected.__class__ is int:  # the common case: one object for all requests that share it
            known = _COMMON.get(expected)
            if known is not None:
                return known
        if count is not None:
            check_integer("count", count, least=1)
        if expected is None:
            return Conditions(None, None, count)
        if isinstance(expected, int):
            check_integer("expected", expected, least=0)
            return Conditions(expected, None, count)
        if isinstance(expected, (str, bytes)) or not isinstance(expected, Iterable):
            raise TypeError(f"expected must be a number or the responders' names, got {expected!r}")
        names = frozenset(expected)
        for name in names:
            if not isinstance(name, str):
                raise TypeError(f"expected must hold names (str), got {name!r}")
        return Conditions(len(names), names, count)


_COMMON: Final = {expected: Conditions(expected, None, None) for expected in range(1000)}


def check_deadline(name: str, duration: Duration) -> float:
    """The duration in seconds, where it is positive and finite; raises `TypeError` or `ConfigurationError`."""
    if (duration.__class__ is float or duration.__class__ is int) and 0 < duration < math.inf:
        return duration  # the common case, at the price of a comparison
    wait = check_duration(name, duration, positive=True)
    if wait == math.inf:
        raise ConfigurationError(f"{name} must be finite, got {duration!r}")
    return wait


def check_reply_channel(name: str, value: ReplyChannel) -> ReplyChannel:
    """The channel, where it is a `ReplyChannel`; raises `TypeError`."""
    if not isinstance(value, Source) or not isinstance(getattr(value, "address", None), str):
        raise TypeError(f"{name} must be a queue, or a source with an address, got {value!r}")
    return value


def check_function(name: str, value: _Function) -> _Function:
    """The function, or None; raises `TypeError` for anything else."""
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be a function, got {value!r}")
    return value


def asked(body: Any, *, return_address: str, wait: float) -> Message[Any]:
    """The request as it is sent: with a request id of our own, its return address, and its deadline as expiry.

    The caller's correlation id is kept; without one, a whole message has its own id as such, and a body the request id.
    """
    key, ends = new_id(), clock.now() + wait
    if isinstance(body, Message):
        return body.replace(
            correlation_id=body.correlation_id or body.id,
            return_address=return_address,
            expires_at=ends,
            headers={**body.headers, REQUEST_ID: key},
        )
    headers = {REQUEST_ID: key}
    return Message(body, id=key, correlation_id=key, return_address=return_address, expires_at=ends, headers=headers)


class _ReplyCodec(JsonCodec):
    """JSON; what is not is text, or failing that, bytes: responders that do not know this library answer plainly."""

    @staticmethod
    @override
    def decode(raw: bytes | str) -> Any:
        """The body, whatever it is."""
        try:
            return load_json(raw)
        except DecodeError:
            try:
                return raw if isinstance(raw, str) else raw.decode()
            except UnicodeDecodeError:
                return raw


REPLY_CODEC: Final = _ReplyCodec()
"""Reads the body of any reply."""
