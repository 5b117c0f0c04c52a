"""What scatter-gather keeps in a store: a record per request, a part per reply, an index of correlation ids."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from pydantic import BaseModel

from eip._logging import get_logger
from eip._repeated import RepeatedLines
from eip.codec import dump_json, load_json
from eip.envelope import dump_message, load_message
from eip.errors import DecodeError, StoreError
from eip.message import Message
from eip.patterns._gathering import REPLY_CODEC, CompletedBy, Gathered

__all__ = [
    "RequestRecord",
    "Sharing",
    "StoredReply",
    "gathered",
    "in_order",
    "is_request_id",
    "sharing_key",
    "sorted_out",
]

_lines = RepeatedLines(get_logger("eip.scatter_gather"))

_DIGITS: Final = 20
"""Hexadecimal digits of each half of a part's name."""


class RequestRecord(BaseModel):
    """A request's record; the request itself follows it, on a line of its own."""

    v: int = 1
    correlation_id: str
    expected: int | None = None
    names: list[str] | None = None
    count: int | None = None
    deadline: float
    """Seconds since the epoch."""
    notify: bool = False
    """Whether a function is to be called once it is completed."""
    completed_by: CompletedBy | None = None
    """None: it is open."""
    completed_at: float | None = None
    replies: list[str] = []
    """Once completed: the parts that are its replies, in the order of their arrival, ..."""
    errors: list[str] = []
    """... those that report an error, ..."""
    missing: list[str] = []
    """... and the names that did not answer."""
    _request: bytes = b""

    @staticmethod
    def new(request: Message[Any], **fields: Any) -> RequestRecord:
        """The record of a request that was not sent yet."""
        record = RequestRecord(**fields)
        record._request = dump_message(request)
        return record

    @staticmethod
    def load(value: bytes) -> RequestRecord:
        """The record of its `dump`; the request is not decoded. Raises `StoreError` for anything else."""
        head, _, request = value.partition(b"\n")
        try:
            record = RequestRecord.model_validate_json(head)
        except ValueError as error:
            reason = f"the record of a request is another program's: {type(error).__name__}"
            raise StoreError(reason, transient=False) from None  # the cause's text holds the value
        record._request = request  # noqa: SLF001 - a record in the making
        return record

    def dump(self) -> bytes:
        """The record as it is stored."""
        return self.model_dump_json(exclude_defaults=True).encode() + b"\n" + self._request

    @property
    def request(self) -> Message[Any]:
        """The request as it was sent."""
        return load_message(self._request)

    @property
    def least_replies(self) -> int:
        """How many replies it takes at least to complete it before its deadline, by its own conditions."""
        return min((each for each in (self.expected, self.count) if each is not None), default=sys.maxsize)

    @property
    def completed(self) -> bool:
        """Whether it is over; nothing of it changes any more."""
        return self.completed_by is not None

    def counts(self, part: str) -> bool:
        """Whether the reply of that part's id is in the result."""
        identity = part[:_DIGITS]
        return any(each.startswith(identity) for each in (*self.replies, *self.errors))

    def complete(self, by: CompletedBy, replies: list[StoredReply], at: float) -> None:
        """End it with those replies."""
        self.completed_by, self.completed_at = by, at
        self.replies = [each.part for each in replies if not each.failed]
        self.errors = [each.part for each in replies if each.failed]
        self.missing = sorted(set(self.names or ()) - {each.source for each in replies})


class Sharing(BaseModel):
    """Under a correlation id of the caller's own: the requests that have it, and until when."""

    requests: dict[str, float] = {}


class StoredReply(NamedTuple):
    """A reply's part: a line of JSON with what completing a request needs, then the reply."""

    at: float
    """When it was taken, seconds since the epoch."""
    part: str
    failed: bool
    id: str
    source: str
    """Empty: it names none."""
    dumped: bytes

    @staticmethod
    def dump(reply: Message[Any], *, at: float, failed: bool) -> tuple[str, bytes]:
        """The part's name and value.

        The name is that of the reply's id and content. So a reply that is delivered again is the same part, and another
        message with its id replaces nothing.
        """
        dumped = dump_message(reply)
        part = _digest(reply.id.encode("utf-8", "surrogatepass")) + _digest(dumped)
        return part, dump_json([at, failed, reply.id, reply.source or ""]) + b"\n" + dumped

    @staticmethod
    def load(part: str, value: bytes) -> StoredReply:
        """The part, its reply not decoded yet; raises `StoreError` for what `dump` did not write."""
        head, _, dumped = value.partition(b"\n")
        try:
            at, failed, identity, source = load_json(head)
            return StoredReply(float(at), part, bool(failed), str(identity), str(source), dumped)
        except (TypeError, ValueError) as error:
            reason = f"the part {part!r} of a request is not a reply: {type(error).__name__}"
            raise StoreError(reason, transient=False) from error

    @property
    def message(self) -> Message[Any] | None:
        """The reply; None where it cannot be read, which is logged."""
        try:
            message = load_message(self.dumped)
        except DecodeError as error:
            _lines.error("reply_unreadable", part=self.part, error=str(error))
            return None
        message.decode_with(REPLY_CODEC)
        return message


def in_order(parts: dict[str, bytes]) -> list[StoredReply]:
    """The replies in the order of their arrival, each message once; a part that is none is passed over."""
    found = sorted(_readable(parts))
    return list({each.id: each for each in reversed(found)}.values())[::-1]


def _readable(parts: dict[str, bytes]) -> Iterator[StoredReply]:
    for part, value in parts.items():
        try:
            yield StoredReply.load(part, value)
        except StoreError as error:
            _lines.error("reply_unreadable", part=part, error=str(error))


def gathered(key: str, record: RequestRecord, parts: dict[str, bytes]) -> Gathered:
    """What the request has brought."""
    taken, errors, late = sorted_out(record, parts)
    return Gathered(
        id=key,
        correlation_id=record.correlation_id,
        request=record.request,
        replies=_messages(taken),
        errors=_messages(errors),
        expected=record.expected,
        names=None if record.names is None else frozenset(record.names),
        missing=frozenset(record.missing),
        completed_by=record.completed_by,
        completed_at=record.completed_at,
        late=len(late),
        late_replies=_messages(late),
    )


def _messages(replies: Iterable[StoredReply]) -> list[Message[Any]]:
    return [message for each in replies if (message := each.message) is not None]


def sorted_out(
    record: RequestRecord, parts: dict[str, bytes]
) -> tuple[list[StoredReply], list[StoredReply], list[StoredReply]]:
    """The answers, the errors, and what came late.

    A completed record decides: a reply that is delivered again is written again, at another time.
    """
    replies = in_order(parts)
    if not record.completed:
        return [each for each in replies if not each.failed], [each for each in replies if each.failed], []
    taken, errors = ([StoredReply.load(part, parts[part]) for part in each] for each in (record.replies, record.errors))
    return taken, errors, [each for each in replies if not record.counts(each.part)]


def is_request_id(text: str) -> bool:
    """Whether the text can be a request id: whatever else is asked for needs no look into the store."""
    return len(text) == 32 and text.isalnum() and text.isascii()


def sharing_key(correlation_id: str) -> str:
    """The key of a correlation id's `Sharing`; no request id looks like it."""
    return "correlation-" + hashlib.sha256(correlation_id.encode("utf-8", "surrogatepass")).hexdigest()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_DIGITS]
