"""The record format of Amazon's Kinesis Producer Library: many user records in one, read and written without protobuf.

    magic (4 bytes)  |  protobuf AggregatedRecord  |  MD5 of the protobuf (16 bytes)

    message AggregatedRecord { repeated string partition_key_table = 1; repeated string explicit_hash_key_table = 2;
                               repeated Record records = 3; }
    message Record { required uint64 partition_key_index = 1; optional uint64 explicit_hash_key_index = 2;
                     required bytes data = 3; repeated Tag tags = 4; }

Source: aggregation-format.md of awslabs/amazon-kinesis-producer.
"""

from __future__ import annotations

from hashlib import md5
from typing import Final, NamedTuple

__all__ = ["MAGIC", "AggregatedRecord", "UserRecord", "deaggregate"]

MAGIC: Final = b"\xf3\x89\x9a\xc2"
_DIGEST: Final = 16
_KEY, _HASH, _RECORD = 0x0A, 0x12, 0x1A  # fields 1 to 3, each with a length
_KEY_INDEX, _HASH_INDEX, _DATA = 0x08, 0x10, 0x1A
_MAX_VARINT_BYTES: Final = 10
_MAX_USER_RECORDS: Final = 1024 * 1024 // 6
"""The library's largest aggregate has 1 MiB, and its smallest user record 6 bytes."""


class UserRecord(NamedTuple):
    """A record inside an aggregate."""

    key: str
    hash_key: str | None
    data: bytes


def deaggregate(data: bytes) -> list[UserRecord] | None:
    """The user records of an aggregate, in order; None for data that is no aggregate.

    What looks like an aggregate and is not one (damaged, cut short, of more than 174,762 records, which are more than
    the 1 MiB of the producer library hold) is an ordinary record, as for Amazon's own consumers. An aggregate inside
    an aggregate is the data of a user record.
    """
    if not data.startswith(MAGIC) or len(data) < len(MAGIC) + _DIGEST:
        return None
    body = data[len(MAGIC) : -_DIGEST]
    if md5(body, usedforsecurity=False).digest() != data[-_DIGEST:]:
        return None
    try:
        return _records(body)
    except (IndexError, ValueError):
        return None


def _records(body: bytes) -> list[UserRecord]:
    keys: list[str] = []
    hashes: list[str] = []
    found: list[UserRecord] = []
    place, end = 0, len(body)
    while place < end:
        tag = body[place]
        if tag not in (_KEY, _HASH, _RECORD):
            place = _skip(body, place)
            continue
        size = body[place + 1]
        place += 2
        if size & 0x80:
            size, place = _varint(body, place - 1)
        stop = place + size
        if stop > end:
            raise ValueError("cut short")
        if tag == _RECORD:
            if len(found) == _MAX_USER_RECORDS:
                raise ValueError("more user records than an aggregate has room for")
            found.append(_record(body, place, stop, keys, hashes))
        elif tag == _KEY:
            keys.append(body[place:stop].decode())
        else:
            hashes.append(body[place:stop].decode())
        place = stop
    if place != end or not found:
        raise ValueError("cut short, or without a record")
    return found


def _record(body: bytes, place: int, stop: int, keys: list[str], hashes: list[str]) -> UserRecord:
    key: str | None = None
    hash_key: str | None = None
    data: bytes | None = None
    while place < stop:
        tag = body[place]
        if tag not in (_KEY_INDEX, _HASH_INDEX, _DATA):
            place = _skip(body, place)
            continue
        number = body[place + 1]
        place += 2
        if number & 0x80:
            number, place = _varint(body, place - 1)
        if tag == _DATA:
            data = body[place : place + number]
            place += number
        elif tag == _KEY_INDEX:
            key = keys[number]
        else:
            hash_key = hashes[number]
    if key is None or data is None or place != stop:
        raise ValueError("a user record lacks a field, or is cut short")
    return UserRecord(key, hash_key, data)


def _varint(body: bytes, place: int) -> tuple[int, int]:
    """The number there, and the place after it."""
    number = 0
    for count in range(_MAX_VARINT_BYTES):
        byte = body[place + count]
        number |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            return number, place + count + 1
    raise ValueError("a number without end")


def _skip(body: bytes, place: int) -> int:
    """The place after a field that is not ours (tags, and what newer versions may have)."""
    tag, place = _varint(body, place)
    kind = tag & 0x07
    if kind == 0:
        return _varint(body, place)[1]
    if kind == 2:
        size, place = _varint(body, place)
        return place + size
    if kind in (1, 5):
        return place + (8 if kind == 1 else 4)
    raise ValueError("a field of an unknown kind")


class AggregatedRecord:
    """User records on their way into one record, up to ``limit`` bytes of it, its partition key included."""

    __slots__ = ("_hash_keys", "_heads", "_keys", "_limit", "_pieces", "_tables", "count", "size")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._keys: dict[str, int] = {}
        self._hash_keys: dict[str, int] = {}
        """Their places in the tables."""
        self._tables: list[bytes] = []
        self._heads: dict[str | tuple[str, str], bytes] = {}
        """By key, or key and hash key: the fields of a user record up to the length of its data."""
        self._pieces: list[bytes] = []
        """Of the user records, joined at the end: that costs half of making each record by itself."""
        self.count = 0
        self.size = len(MAGIC) + _DIGEST
        """Bytes of what `encode` would give now."""

    def add(self, key: str, hash_key: str | None, data: bytes) -> bool:
        """Take the record in; False, and nothing is changed, where it would not fit."""
        head, tables = self._heads.get(key if hash_key is None else (key, hash_key)), b""
        known = head is not None
        if head is None:
            head, tables = self._head(key, hash_key)
        length = _numbers[len(data)]
        size = len(head) + len(length) + len(data)
        whole = _numbers[size]
        grown = self.size + len(tables) + 1 + len(whole) + size
        if grown > self._limit and self.count:
            return False
        if not known:
            self._register(key, hash_key, head, tables)
        self._pieces += (b"\x1a", whole, head, length, data)
        self.count += 1
        self.size = grown
        return True

    def _head(self, key: str, hash_key: str | None) -> tuple[bytes, bytes]:
        """The first fields of the records of a key, and what the tables need for them."""
        tables = b"" if key in self._keys else _field(_KEY, key.encode())
        head = b"\x08" + _numbers[self._keys.get(key, len(self._keys))]
        if hash_key is not None:
            if hash_key not in self._hash_keys:
                tables += _field(_HASH, hash_key.encode())
            head += b"\x10" + _numbers[self._hash_keys.get(hash_key, len(self._hash_keys))]
        return head + b"\x1a", tables

    def _register(self, key: str, hash_key: str | None, head: bytes, tables: bytes) -> None:
        self._keys.setdefault(key, len(self._keys))
        if hash_key is not None:
            self._hash_keys.setdefault(hash_key, len(self._hash_keys))
        self._heads[key if hash_key is None else (key, hash_key)] = head
        self._tables.append(tables)

    def encode(self) -> bytes:
        """The aggregate's data."""
        body = b"".join((*self._tables, *self._pieces))
        return MAGIC + body + md5(body, usedforsecurity=False).digest()


def _field(tag: int, value: bytes) -> bytes:
    return b"".join((bytes((tag,)), _numbers[len(value)], value))


class _Numbers(dict[int, bytes]):
    """Numbers as varints, each made once; those of three bytes and more each time."""

    def __missing__(self, value: int) -> bytes:
        parts, rest = bytearray(), value
        while rest >= 0x80:
            parts.append(rest & 0x7F | 0x80)
            rest >>= 7
        parts.append(rest)
        made = bytes(parts)
        if value < _MAX_KNOWN:
            self[value] = made
        return made


_MAX_KNOWN: Final = 1 << 14
_numbers: Final = _Numbers()
