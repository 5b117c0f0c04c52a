"""What the services' answers say about each entry of a call, and whether it is what was sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import md5
from typing import Any

from eip.errors import DecodeError
from eip.transports.aws._batch_dispatcher import Outcome
from eip.transports.aws._client.errors import ServiceFailed, entry_error
from eip.transports.aws._entry_queue import Entry

__all__ = ["attributes_md5", "checksum_error", "outcome_of", "outcomes_of"]


def outcomes_of(service: str, operation: str, answer: Mapping[str, Any], entries: Sequence[object]) -> list[Outcome]:
    """Of the entries of SQS and SNS; one that the answer does not mention, or whose checksum is another, was not done.

    Ids are indices; what an answer has under another id is ignored.
    """
    outcomes: list[Outcome] = [ServiceFailed(f"{service} {operation}: the answer does not mention the entry")] * len(
        entries
    )
    for index, done in _by_index(answer.get("Successful"), len(entries)):
        entry = entries[index]
        same = not isinstance(entry, Entry) or _same(done, entry.payload)
        outcomes[index] = None if same else ServiceFailed(f"{service} {operation}: the service's MD5 is another")
    for index, failed in _by_index(answer.get("Failed"), len(entries)):
        outcomes[index] = entry_error(service, operation, failed)
    return outcomes


def outcome_of(service: str, operation: str, answered: Any, *, proof: str) -> Outcome:
    """Of an entry that is answered at its place; without ``proof``, an id that the service gave it, it was not done."""
    if not isinstance(answered, Mapping):
        return ServiceFailed(f"{service} {operation}: the answer does not say what became of the entry")
    if answered.get(proof) and not answered.get("ErrorCode"):
        return None
    return entry_error(service, operation, answered)


def _by_index(members: Any, count: int) -> list[tuple[int, Mapping[str, Any]]]:
    """The members of a list whose id is an index below ``count``, as it was sent."""
    indices, found = _indices(count), []
    for each in members if isinstance(members, list) else ():
        identity = each.get("Id") if isinstance(each, dict) else None
        if isinstance(identity, str) and identity in indices:
            found.append((indices[identity], each))
    return found


@cache
def _indices(count: int) -> Mapping[str, int]:
    """The indices of so many entries by the ids that they are sent with; at most ten go in a call."""
    return {str(index): index for index in range(count)}


def _same(done: Mapping[str, Any], payload: Mapping[str, Any]) -> bool:
    body, attributes = done.get("MD5OfMessageBody"), done.get("MD5OfMessageAttributes")
    if body and "MessageBody" in payload and body != _md5(payload["MessageBody"].encode()):
        return False
    return not attributes or attributes == attributes_md5(payload.get("MessageAttributes") or {})


def checksum_error(received: Mapping[str, Any]) -> DecodeError | None:
    """Why a received message is not what the queue says it is, by its MD5s; None where it is, or they are missing."""
    body, attributes = received.get("MD5OfBody"), received.get("MD5OfMessageAttributes")
    try:
        if body and body != _md5(received["Body"].encode()):
            return DecodeError("MD5 of the body is not the one that SQS gives")
        if attributes and attributes != attributes_md5(received.get("MessageAttributes") or {}):
            return DecodeError("MD5 of the attributes is not the one that SQS gives")
    except (AttributeError, LookupError, TypeError, UnicodeError):  # which reading finds, too, and says better
        return None
    return None


def _md5(data: bytes) -> str:
    return md5(data, usedforsecurity=False).hexdigest()


def attributes_md5(attributes: Mapping[str, Mapping[str, Any]]) -> str:
    """As SQS computes it ("Calculating the MD5 message digest for message attributes", Developer Guide)."""
    parts: list[bytes] = []
    for name in sorted(attributes):
        attribute = attributes[name]
        kind = attribute["DataType"]
        binary = kind.startswith("Binary")
        value = attribute["BinaryValue"] if binary else attribute["StringValue"].encode()
        for part in (name.encode(), kind.encode()):
            parts += (len(part).to_bytes(4), part)
        parts += (b"\x02" if binary else b"\x01", len(value).to_bytes(4), value)
    return _md5(b"".join(parts))
