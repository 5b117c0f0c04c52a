"""The message: a body in an immutable envelope (Hohpe & Woolf, "Message", chapter 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final, Generic, NamedTuple, cast

from typing_extensions import TypeVar

from eip import clock
from eip._ids import new_id
from eip.clock import Duration, seconds
from eip.codec import JSON, Codec

__all__ = ["AttributeValue", "Message", "SequenceInfo"]

T = TypeVar("T", default=Any)
U = TypeVar("U")

AttributeValue = str | int | float | Decimal | bool | bytes | Sequence[str | int | float | Decimal]
"""What a filterable attribute can hold; how each is written is the driver's business."""

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
_new = object.__new__


class _Undecoded:
    """Stands in a body's place until someone asks for it."""

    def __repr__(self) -> str:
        return "<undecoded>"


_UNDECODED: Final = _Undecoded()


class SequenceInfo(NamedTuple):
    """Where a message stands among the parts of a whole (pattern "Message Sequence")."""

    id: str
    position: int
    """From 0."""
    size: int | None = None
    """How many parts there are; None while unknown."""


class _Fields:
    """The slots of a message, writable while it is being made.

    A frozen dataclass of as many fields takes 2.6 times as long to create (measured), which every message pays twice.
    """

    __slots__ = (
        "_body",
        "_codec",
        "_raw",
        "attributes",
        "correlation_id",
        "created_at",
        "deduplication_id",
        "expires_at",
        "group_id",
        "headers",
        "id",
        "return_address",
        "sequence",
        "source",
        "traceparent",
        "type",
    )

    _body: Any
    _raw: bytes | None
    _codec: Codec
    id: str
    type: str | None
    source: str | None
    correlation_id: str | None
    return_address: str | None
    group_id: str | None
    deduplication_id: str | None
    sequence: SequenceInfo | None
    created_at: float
    expires_at: float | None
    traceparent: str | None
    attributes: Mapping[str, AttributeValue]
    headers: Mapping[str, str]


_set_body = _Fields.__dict__["_body"].__set__
_set_raw = _Fields.__dict__["_raw"].__set__
_set_codec = _Fields.__dict__["_codec"].__set__
_ENVELOPE = tuple(name for name in _Fields.__slots__ if not name.startswith("_"))


class Message(_Fields, Generic[T]):
    """A body in an immutable envelope.

    Args:
        body: JSON-able value or pydantic model; what a handler asks for is validated on receipt.
        id: identity for deduplication and tracing; default: 128 random bits.
        type: what the message is about (EventBridge's detail-type), e.g. ``"JobCreated"``.
        source: who says so (EventBridge's source), e.g. ``"com.example.jobs"``.
        correlation_id: the request this one belongs to (pattern "Correlation Identifier").
        return_address: where replies go (pattern "Return Address"), an address of `Transport.resolve`.
        group_id: messages of one group are handled in order, one at a time (MessageGroupId, JMSXGroupID, partition
            key).
        deduplication_id: FIFO channels drop a second message with the same id for five minutes.
        sequence: its place among the parts of a whole.
        created_at: seconds since the epoch; default: now.
        expires_at: seconds since the epoch; consumers drop the message after that (pattern "Message Expiration").
        traceparent: W3C trace context.
        attributes: filterable attributes of the user.
        headers: text for middleware and drivers (attempts, history, replay name); travels along, cannot be filtered on.
    """

    __slots__ = ()

    def __new__(  # noqa: D102 - the class's docstring describes it
        cls,
        body: T,
        *,
        id: str | None = None,  # noqa: A002 - the envelope's own term
        type: str | None = None,  # noqa: A002 - the envelope's own term
        source: str | None = None,
        correlation_id: str | None = None,
        return_address: str | None = None,
        group_id: str | None = None,
        deduplication_id: str | None = None,
        sequence: SequenceInfo | None = None,
        created_at: float | None = None,
        expires_at: float | None = None,
        traceparent: str | None = None,
        attributes: Mapping[str, AttributeValue] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Message[T]:
        made = _new(_Fields)
        made._body = body  # noqa: SLF001 - a message in the making
        made._raw = None  # noqa: SLF001
        made._codec = JSON  # noqa: SLF001
        made.id = new_id() if id is None else id
        made.type = type
        made.source = source
        made.correlation_id = correlation_id
        made.return_address = return_address
        made.group_id = group_id
        made.deduplication_id = deduplication_id
        made.sequence = sequence
        made.created_at = clock.now() if created_at is None else created_at
        made.expires_at = expires_at
        made.traceparent = traceparent
        made.attributes = MappingProxyType(dict(attributes)) if attributes else _NOTHING
        made.headers = MappingProxyType(dict(headers)) if headers else _NOTHING
        made.__class__ = cls
        return cast("Message[T]", made)

    @staticmethod
    def received(raw: bytes, *, codec: Codec = JSON, **envelope: Any) -> Message[Any]:
        """A message as a driver received it: the body stays ``raw`` until someone reads `body`.

        ``envelope`` are the constructor's keywords.
        """
        made: Message[Any] = Message(_UNDECODED, **envelope)
        _set_raw(made, raw)
        _set_codec(made, codec)
        return made

    @property
    def body(self) -> T:
        """The body; decoded at the first look, which raises `DecodeError` where it is not what the codec expects."""
        body = self._body
        if body is _UNDECODED:
            body = self._codec.decode(cast("bytes", self._raw))
            _set_body(self, body)
        return cast("T", body)

    @property
    def decoded(self) -> bool:
        """Whether the body is there as a value, and not only as the bytes received."""
        return self._body is not _UNDECODED

    @property
    def codec(self) -> Codec:
        """What encodes and decodes the body."""
        return self._codec

    def encode(self) -> bytes:
        """The body's bytes on the wire; a received message that is passed on keeps its own to the letter.

        A mutable body (a dict, a list) that was looked at is encoded anew, so that what is sent is what it holds.
        """
        if self._raw is not None and (self._body is _UNDECODED or isinstance(self._body, (str, int, float, bytes))):
            return self._raw
        return self._codec.encode(self._body)

    @property
    def raw(self) -> bytes | None:
        """The bytes received, or None for a message made here."""
        return self._raw

    @property
    def replay_name(self) -> str | None:
        """The replay that brought this message (EventBridge's replay-name), or None for an original."""
        return self.headers.get("replay-name")

    def expired(self, at: float | None = None) -> bool:
        """Whether the message is past its expiry ``at`` a time (default: now)."""
        return self.expires_at is not None and (clock.now() if at is None else at) >= self.expires_at

    def sealed(self) -> Message[T]:
        """The same message with its body as bytes only: what a receiver gets, who shares nothing with the sender.

        Raises `InvalidMessage` for a body that cannot be encoded.
        """
        made = self._copied()
        made._body = _UNDECODED  # noqa: SLF001 - a message in the making
        made._raw = self.encode()  # noqa: SLF001
        made.__class__ = Message
        return cast("Message[T]", made)

    def with_body(self, body: U) -> Message[U]:
        """The same message, same id, holding another body."""
        return cast("Message[U]", self._with(_body=body, _raw=None))

    def with_encoded(self, raw: bytes) -> Message[Any]:
        """The same message, same id and codec, whose body is that of other bytes."""
        return self._with(_body=_UNDECODED, _raw=raw)

    def with_codec(self, codec: Codec) -> Message[T]:
        """The same message, same id, whose body another codec encodes."""
        return self._with(_body=self.body, _raw=None, _codec=codec)

    def replace(self, **envelope: Any) -> Message[T]:
        """The same message with some fields of its envelope changed; the id stays unless given."""
        wrong = envelope.keys() - set(_ENVELOPE)
        if wrong:
            raise TypeError(f"a message has no {', '.join(sorted(wrong))}; it has {', '.join(_ENVELOPE)}")
        for name in ("attributes", "headers"):
            if name in envelope:
                given = envelope[name]
                envelope[name] = MappingProxyType(dict(given)) if given else _NOTHING
        return self._with(**envelope)

    def derive(self, body: U, *, expires_in: Duration | None = None, **envelope: Any) -> Message[U]:
        """A new message caused by this one: new id, with correlation, trace, group and expiry carried over.

        ``expires_in`` (seconds or timedelta) and ``envelope`` (constructor keywords) take precedence.
        """
        carried: dict[str, Any] = {
            "correlation_id": self.correlation_id or self.id,
            "group_id": self.group_id,
            "traceparent": self.traceparent,
            "expires_at": self.expires_at if expires_in is None else clock.now() + seconds(expires_in),
        }
        return Message(body, **{**carried, **envelope})

    def reply(self, body: U, **envelope: Any) -> Message[U]:
        """The answer to this request: its correlation id is the request's (or the request's id where it has none).

        Carries trace, group and expiry; where it goes is the request's `return_address`.
        """
        return self.derive(body, **envelope)

    def _with(self, **slots: Any) -> Message[Any]:
        made = self._copied()
        for name, value in slots.items():
            setattr(made, name, value)
        made.__class__ = type(self)
        return cast("Message[Any]", made)

    def _copied(self) -> _Fields:
        """The same fields, still writable; spelled out, since every hop of a message pays for it."""
        made = _new(_Fields)
        made._body = self._body  # noqa: SLF001 - a message in the making
        made._raw = self._raw  # noqa: SLF001
        made._codec = self._codec  # noqa: SLF001
        made.id = self.id
        made.type = self.type
        made.source = self.source
        made.correlation_id = self.correlation_id
        made.return_address = self.return_address
        made.group_id = self.group_id
        made.deduplication_id = self.deduplication_id
        made.sequence = self.sequence
        made.created_at = self.created_at
        made.expires_at = self.expires_at
        made.traceparent = self.traceparent
        made.attributes = self.attributes
        made.headers = self.headers
        return made

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a message is immutable; use derive() or replace({name}=...)")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("a message is immutable")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message):
            return NotImplemented
        same_envelope = all(getattr(self, name) == getattr(other, name) for name in _ENVELOPE)
        return same_envelope and self.encode() == other.encode()

    def __hash__(self) -> int:
        return hash(self.id)

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("messages are not pickled; send them through a channel")

    def __repr__(self) -> str:
        """State without the body: bodies never reach logs."""
        shown = ("type", "correlation_id", "group_id")
        extra = "".join(f" {name}={getattr(self, name)!r}" for name in shown if getattr(self, name) is not None)
        return f"<Message {self.id}{extra}>"
