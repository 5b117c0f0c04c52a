"""The message: a body in an immutable envelope (Hohpe & Woolf, "Message", chapter 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf, isfinite
from types import MappingProxyType
from typing import Any, Final, Generic, NamedTuple, TypeAlias, cast

from typing_extensions import TypeVar

from eip import clock
from eip._ids import new_id
from eip.attributes import AttributeValue, check_attributes, is_unicode
from eip.clock import Duration, seconds
from eip.codec import BYTES, JSON, Codec, ViewCodec, check_codec, dump_json, is_embeddable, writer_of
from eip.errors import InvalidMessage

__all__ = ["REQUEST_ID", "RESERVED_KEYS", "AtRest", "AttributeValue", "Message", "SequenceInfo"]

T = TypeVar("T", default=Any)
U = TypeVar("U")

REQUEST_ID: Final = "request-id"
"""The header by which a reply finds its request, whatever the correlation id; `Message.reply` keeps it."""

_Headers: TypeAlias = tuple[tuple[str, str], ...]
"""Names and texts. A mapping is made when someone looks: the garbage collector leaves tuples of text alone."""
AtRest: TypeAlias = tuple[bytes, str | None, *tuple[Any, ...]]
"""What `Message.at_rest` returns: the body's bytes, the message group, and all else."""
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
_new = object.__new__


class _Undecoded:
    """Stands in a body's place until someone asks for it."""

    def __repr__(self) -> str:
        return "<undecoded>"


_UNDECODED: Final = _Undecoded()
_IMMUTABLE: Final = (str, int, float, bytes, type(None))


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
        "_headers",
        "_raw",
        "_rest",
        "attributes",
        "correlation_id",
        "created_at",
        "deduplication_id",
        "expires_at",
        "extensions",
        "group_id",
        "id",
        "return_address",
        "sequence",
        "source",
        "traceparent",
        "type",
    )

    _body: Any
    _raw: bytes | None
    _rest: AtRest | None
    """What it was woken from, as long as that is what it would rest as."""
    _codec: Codec
    _headers: _Headers
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
    extensions: Mapping[str, Any]


_set_body = _Fields.__dict__["_body"].__set__
_set_raw = _Fields.__dict__["_raw"].__set__
_set_rest = _Fields.__dict__["_rest"].__set__
_set_codec = _Fields.__dict__["_codec"].__set__
_ENVELOPE = (*(name for name in _Fields.__slots__ if not name.startswith("_")), "headers")
_ENVELOPE_NAMES: Final = frozenset(_ENVELOPE)


# What each field can hold. One comparison where that is the common case: each message pays for it, at each hop.


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {type(value).__name__}")
    if not value.isascii() and not is_unicode(value):
        raise InvalidMessage(f"{name} is not Unicode text: it has a lone surrogate")
    return value


def _time(name: str, value: Any) -> float:
    if not isinstance(value, (float, int)) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, seconds since the epoch, not {type(value).__name__}")
    try:
        if isfinite(value):
            return value
    except OverflowError:  # an integer beyond the range of a float
        value = inf
    raise InvalidMessage(f"{name} must be a finite number of seconds since the epoch, got {value}")


def _sequence(name: str, value: Any) -> SequenceInfo:
    if not isinstance(value, SequenceInfo):
        raise TypeError(f"{name} must be a SequenceInfo, not {type(value).__name__}")
    _text(f"{name}.id", value.id)
    parts: Mapping[str, Any] = {"position": value.position, "size": 0 if value.size is None else value.size}
    for part, number in parts.items():
        if not isinstance(number, int) or isinstance(number, bool):
            raise TypeError(f"{name}.{part} must be an integer, not {type(number).__name__}")
        if number < 0 or number.bit_length() > _MAX_POSITION_BITS:
            raise InvalidMessage(f"{name}.{part} must be 0 or more, with at most 3,900 digits")
    return value


_MAX_POSITION_BITS: Final = 13_000


def _attributes(_: str, value: Mapping[str, AttributeValue]) -> Mapping[str, AttributeValue]:
    if not value:
        return _mapping("attributes", value)
    check_attributes(value)
    return MappingProxyType(dict(value))


def _headers(name: str, value: Mapping[str, str]) -> _Headers:
    if value.__class__ is not dict and not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping, not {type(value).__name__}")
    items = tuple(value.items())
    for header, text in items:
        if not (header.__class__ is text.__class__ is str and header.isascii() and text.isascii()):
            _text(f"{name} name", header)
            _text(f"{name}[{header!r}]", text)
    return items


def _mapping(name: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
    if value.__class__ is not dict and not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping, not {type(value).__name__}")
    return MappingProxyType(dict(value)) if value else _NOTHING


RESERVED_KEYS: Final = frozenset(
    (
        *("id", "type", "source", "at", "exp", "cid", "reply", "group", "dedup", "trace", "seq", "headers"),
        *("attrs", "types", "ct", "enc", "in", "b", "body"),
    )
)
"""Keys of an envelope on the wire that an extension cannot have (docs/wire-format.md)."""


def _extensions(name: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
    copied = _mapping(name, value)
    for key, each in copied.items():
        _text(f"{name} key", key)
        if key in RESERVED_KEYS:
            raise InvalidMessage(f"{name} must not have the key {key!r}, which the envelope has itself")
        if key == "v" and (each.__class__ is not int or each < 1):
            raise InvalidMessage(
                f"{name}['v'] is the version of an envelope: an integer of 1 or more, got {each!r:.80}"
            )
        try:
            raw = dump_json({key: each})
        except InvalidMessage as error:
            raise InvalidMessage(f"{name}[{key!r:.80}] must be JSON: {error}") from error
        if not is_embeddable(raw):
            raise InvalidMessage(f"{name}[{key!r:.80}] is nested too deep to be passed on")
    return copied


_CHECKS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    **dict.fromkeys(_ENVELOPE, _text),
    "created_at": _time,
    "expires_at": _time,
    "sequence": _sequence,
    "attributes": _attributes,
    "headers": _headers,
    "extensions": _extensions,
}
_NEVER_NONE: Final = frozenset(("id", "created_at", "attributes", "headers", "extensions"))


def _checked(name: str, value: Any) -> Any:
    """The value of a field; raises `TypeError` or `InvalidMessage` naming the field."""
    if value is not None:
        return _CHECKS[name](name, value)
    if name in ("attributes", "extensions"):
        return _NOTHING
    if name == "headers":
        return ()
    if name in _NEVER_NONE:
        raise TypeError(f"{name} must not be None")
    return None


def _codec_for(body: object, codec: Codec) -> Codec:
    """Bytes travel as they are, whatever is made of them as JSON."""
    codec = writer_of(codec)
    if isinstance(body, bytes):
        return BYTES if codec is JSON else codec
    return JSON if codec is BYTES else codec


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
        extensions: fields of the envelope that this version does not know, as a later one wrote them; passed on.
        codec: what encodes the body; default: JSON, and bytes as they are.

    Raises:
        TypeError: a field of the wrong type; the text names it.
        InvalidMessage: a value that no channel carries: a number that is not finite, text with lone surrogates, an
            extension that is not JSON or has the key of a field.
    """

    __slots__ = ()

    def __new__(  # noqa: C901, D102, PLR0912, PLR0915 - spelled out, since every message pays; described above
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
        extensions: Mapping[str, Any] | None = None,
        codec: Codec | None = None,
    ) -> Message[T]:
        made = _new(_Fields)
        made._body = body  # noqa: SLF001 - a message in the making
        made._raw = made._rest = None  # noqa: SLF001
        if codec is None:
            codec = BYTES if isinstance(body, bytes) else JSON
        elif codec is not JSON:
            check_codec(codec)
        made._codec = codec  # noqa: SLF001
        # Each given text: one comparison of classes and one look at a flag; all else is for `_text`.
        if id is None:
            id = new_id()  # noqa: A001
        elif id.__class__ is not str or not id.isascii():
            _text("id", id)
        if type is not None and (type.__class__ is not str or not type.isascii()):
            _text("type", type)
        if source is not None and (source.__class__ is not str or not source.isascii()):
            _text("source", source)
        if correlation_id is not None and (correlation_id.__class__ is not str or not correlation_id.isascii()):
            _text("correlation_id", correlation_id)
        if return_address is not None and (return_address.__class__ is not str or not return_address.isascii()):
            _text("return_address", return_address)
        if group_id is not None and (group_id.__class__ is not str or not group_id.isascii()):
            _text("group_id", group_id)
        if deduplication_id is not None and (deduplication_id.__class__ is not str or not deduplication_id.isascii()):
            _text("deduplication_id", deduplication_id)
        if traceparent is not None and (traceparent.__class__ is not str or not traceparent.isascii()):
            _text("traceparent", traceparent)
        if created_at is None:
            created_at = clock._source()  # noqa: SLF001 - `now` without its call
        elif created_at.__class__ is not float or created_at - created_at != 0.0:  # NaN and infinities
            _time("created_at", created_at)
        if expires_at is not None and (expires_at.__class__ is not float or expires_at - expires_at != 0.0):
            _time("expires_at", expires_at)
        made.id = id
        made.type = type
        made.source = source
        made.correlation_id = correlation_id
        made.return_address = return_address
        made.group_id = group_id
        made.deduplication_id = deduplication_id
        made.sequence = sequence if sequence is None else _sequence("sequence", sequence)
        made.created_at = created_at
        made.expires_at = expires_at
        made.traceparent = traceparent
        if attributes:
            check_attributes(attributes)
            made.attributes = MappingProxyType(dict(attributes))
        elif attributes is None or attributes.__class__ is dict:
            made.attributes = _NOTHING
        else:
            made.attributes = _mapping("attributes", attributes)
        made._headers = () if headers is None else _headers("headers", headers)  # noqa: SLF001
        made.extensions = _NOTHING if extensions is None else _extensions("extensions", extensions)
        made.__class__ = cls
        return made  # type: ignore[return-value]  # its class was changed just now; `cast` is a call

    @staticmethod
    def received(raw: bytes, **envelope: Any) -> Message[Any]:
        """A message as a driver received it: the body stays ``raw`` until someone reads `body`.

        ``envelope`` are the constructor's keywords.
        """
        made: Message[Any] = _construct(Message, _UNDECODED, **envelope)
        _set_raw(made, raw)
        return made

    @property
    def body(self) -> T:
        """The body; decoded at the first look, which raises `DecodeError` where it is not what the codec expects."""
        body: T = self._body
        if body is _UNDECODED:
            body = self._codec.decode(cast("bytes", self._raw))
            _set_body(self, body)
        return body

    @property
    def decoded(self) -> bool:
        """Whether the body is there as a value, and not only as the bytes received."""
        return self._body is not _UNDECODED

    @property
    def codec(self) -> Codec:
        """The codec of the body."""
        return self._codec

    def decode_with(self, codec: Codec) -> None:
        """Let another codec decode a JSON body when it is looked at; nothing changes once it was. For receivers."""
        if self._body is _UNDECODED and self._codec is JSON:
            _set_codec(self, codec)
            _set_rest(self, None)

    def encode(self) -> bytes:
        """The body's bytes on the wire; a received message that is passed on unchanged keeps its own.

        A body that was looked at and changed since (a dict, a list, a model) is encoded again, so that what is sent is
        what it holds.
        """
        raw, body = self._raw, self._body
        if raw is None:
            return self._codec.encode(body)
        if body is _UNDECODED or isinstance(body, _IMMUTABLE) or self._unchanged(raw):
            return raw
        return self._codec.encode(body)

    def _unchanged(self, raw: bytes) -> bool:
        """Whether the body is still what was decoded; compared as it is written, since 1 == True == 1.0."""
        try:
            now = self._codec.encode(self._body)
        except InvalidMessage:  # read, and yet cannot be written: 1e400 is an infinity
            return repr(self._codec.decode(raw)) == repr(self._body)
        return now == raw or now == self._codec.encode(self._codec.decode(raw))

    @property
    def raw(self) -> bytes | None:
        """The bytes received, or None for a message made here."""
        return self._raw

    @property
    def headers(self) -> Mapping[str, str]:
        """Text for middleware and drivers; a new mapping each time, see `header`."""
        return MappingProxyType(dict(self._headers)) if self._headers else _NOTHING

    def header(self, name: str) -> str | None:
        """One of the headers, None where there is none of that name; costs less than to look at all of them."""
        for each, text in self._headers:
            if each == name:
                return text
        return None

    @property
    def replay_name(self) -> str | None:
        """The replay that brought this message (EventBridge's replay-name), or None for an original."""
        return self.header("replay-name")

    def expired(self, at: float | None = None) -> bool:
        """Whether the message is past its expiry ``at`` a time (default: now)."""
        return self.expires_at is not None and (clock.now() if at is None else at) >= self.expires_at

    def sealed(self) -> Message[Any]:
        """The same message with its body as bytes only: what a receiver gets, who shares nothing with the sender.

        Raises `InvalidMessage` for a body that cannot be encoded.
        """
        return Message.woken(self.at_rest())

    def at_rest(self) -> AtRest:
        """The sealed message as a tuple, for where many wait; `woken` makes messages of it.

        CPython's garbage collector looks at a message in each of its rounds, but at a tuple of plain values only once.
        This is one, unless the message has attributes, extensions, a sequence, or a codec of its own.

        Raises `InvalidMessage` for a body that cannot be encoded.
        """
        codec, rest = self._codec, self._rest
        raw = cast("bytes", self._raw) if self._body is _UNDECODED else self.encode()
        if rest is not None and raw is rest[0]:
            return rest  # it goes to sleep again as it was woken
        return (
            raw,
            self.group_id,
            None if codec is JSON else writer_of(codec),
            self.id,
            self.type,
            self.source,
            self.correlation_id,
            self.return_address,
            self.deduplication_id,
            self.sequence,
            self.created_at,
            self.expires_at,
            self.traceparent,
            self.attributes or None,
            self._headers,
            self.extensions or None,
        )

    @staticmethod
    def woken(rest: AtRest) -> Message[Any]:
        """The message of `at_rest`; each call makes another, so that receivers share nothing."""
        made = _new(_Fields)
        made._body = _UNDECODED  # noqa: SLF001 - a message in the making
        made._rest = rest  # noqa: SLF001
        (
            made._raw,  # noqa: SLF001
            made.group_id,
            codec,
            made.id,
            made.type,
            made.source,
            made.correlation_id,
            made.return_address,
            made.deduplication_id,
            made.sequence,
            made.created_at,
            made.expires_at,
            made.traceparent,
            attributes,
            made._headers,  # noqa: SLF001
            extensions,
        ) = rest
        made._codec = JSON if codec is None else codec  # noqa: SLF001
        made.attributes = _NOTHING if attributes is None else attributes
        made.extensions = _NOTHING if extensions is None else extensions
        made.__class__ = Message
        return made  # type: ignore[return-value]  # as in `__new__`

    def read_as(self, read: Callable[[bytes], U]) -> Message[U]:
        """The same message, its body as ``read`` makes it of the bytes; passed on unchanged, it is the same bytes."""
        raw, writer = self.encode(), writer_of(self._codec)
        return cast("Message[U]", self._with(_body=read(raw), _raw=raw, _codec=ViewCodec(writer, read)))

    def with_body(self, body: U) -> Message[U]:
        """The same message, same id, holding another body."""
        return cast("Message[U]", self._with(_body=body, _raw=None, _codec=_codec_for(body, self._codec)))

    def with_encoded(self, raw: bytes, *, codec: Codec | None = None, **envelope: Any) -> Message[Any]:
        """The same message, same id, whose body is that of other bytes.

        ``codec``: default, as before; ``envelope``: other fields to change, as of `replace`.
        """
        check_codec(codec, optional=True)
        made = self._changed(envelope)
        made._body, made._raw = _UNDECODED, raw  # noqa: SLF001 - a message in the making
        if codec is not None:
            made._codec = codec  # noqa: SLF001
        made.__class__ = type(self)
        return cast("Message[Any]", made)

    def undecoded(self) -> Message[T]:
        """The same message as it was received, whatever was made of its body since; itself where it was made here."""
        return self if self._raw is None or self._body is _UNDECODED else self.with_encoded(self._raw)

    def with_codec(self, codec: Codec) -> Message[T]:
        """The same message, same id, whose body another codec encodes."""
        check_codec(codec)
        return self._with(_body=self.body, _raw=None, _codec=codec)

    def replace(self, **envelope: Any) -> Message[T]:
        """The same message with some fields of its envelope changed; the id stays unless given."""
        made = self._changed(envelope)
        made.__class__ = type(self)
        return cast("Message[T]", made)

    def derive(self, body: U, *, expires_in: Duration | None = None, **envelope: Any) -> Message[U]:
        """A new message caused by this one: new id, with correlation, trace, group and expiry carried over.

        ``expires_in`` (seconds or timedelta) and ``envelope`` (constructor keywords) take precedence.
        """
        if expires_in is None and not envelope:
            made = self._caused(body)
            made.__class__ = Message
            return made  # type: ignore[return-value]  # as in `__new__`
        carried: dict[str, Any] = {
            "correlation_id": self.correlation_id or self.id,
            "group_id": self.group_id,
            "traceparent": self.traceparent,
            "expires_at": self.expires_at if expires_in is None else clock.now() + seconds(expires_in),
        }
        return Message(body, **{**carried, **envelope})

    def reply(self, body: U, **envelope: Any) -> Message[U]:
        """The answer to this request: its correlation id is the request's (or the request's id where it has none).

        Carries trace, group, expiry and the header by which it finds its request; where it goes is the request's
        `return_address`.
        """
        kept = self._headers
        if not envelope and len(kept) == 1 and kept[0][0] == REQUEST_ID:  # what nearly every reply is
            made = self._caused(body)
            made._headers = kept  # noqa: SLF001 - shared by all replies
            made.__class__ = Message
            return made  # type: ignore[return-value]  # as in `__new__`
        request_id = self.header(REQUEST_ID)
        if request_id is not None:
            envelope["headers"] = {**(envelope.get("headers") or {}), REQUEST_ID: request_id}
        return self.derive(body, **envelope)

    def _caused(self, body: object) -> _Fields:
        """What `derive` makes where nothing is changed, still writable; what it copies was checked before."""
        made = _new(_Fields)
        made._body = body  # noqa: SLF001 - a message in the making
        made._raw = made._rest = None  # noqa: SLF001
        made._codec = BYTES if isinstance(body, bytes) else JSON  # noqa: SLF001
        made.id = new_id()
        made.type = made.source = made.return_address = made.deduplication_id = made.sequence = None
        made.correlation_id = self.correlation_id or self.id
        made.group_id = self.group_id
        made.created_at = clock.now()
        made.expires_at = self.expires_at
        made.traceparent = self.traceparent
        made.attributes = made.extensions = _NOTHING
        made._headers = ()  # noqa: SLF001
        return made

    def _with(self, **slots: Any) -> Message[Any]:
        made = self._copied()
        for name, value in slots.items():
            setattr(made, name, value)
        made.__class__ = type(self)
        return cast("Message[Any]", made)

    def _changed(self, envelope: Mapping[str, Any]) -> _Fields:
        """The same fields but for those of the envelope that are given, still writable."""
        if not envelope.keys() <= _ENVELOPE_NAMES:
            wrong = envelope.keys() - _ENVELOPE_NAMES
            raise TypeError(f"a message has no {', '.join(sorted(wrong))}; it has {', '.join(_ENVELOPE)}")
        made = self._copied()
        for name, value in envelope.items():
            setattr(made, "_headers" if name == "headers" else name, _checked(name, value))
        return made

    def _copied(self) -> _Fields:
        """The same fields, still writable; spelled out, since every hop of a message pays for it."""
        made = _new(_Fields)
        made._body = self._body  # noqa: SLF001 - a message in the making
        made._raw = self._raw  # noqa: SLF001
        made._rest = None  # noqa: SLF001 - whoever copies changes something
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
        made._headers = self._headers  # noqa: SLF001
        made.extensions = self.extensions
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


_construct: Final = Message.__new__
"""Without the call of the class, which packs all keywords into a dictionary once more."""
