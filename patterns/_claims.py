"""Claims in the place of a body that waits elsewhere: a pointer of AWS's extended clients, or the URL of an object."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from eip.codec import dump_json, load_json
from eip.envelope import dump_envelope
from eip.errors import DecodeError, InvalidMessage, Reject, StoreError
from eip.message import Message

__all__ = [
    "SIZE_ATTRIBUTE",
    "SIZE_ATTRIBUTES",
    "Claim",
    "check_key",
    "check_size",
    "claim_body",
    "claim_of",
    "is_claim",
    "size_beside",
]

SIZE_ATTRIBUTE: Final = "ExtendedPayloadSize"
"""The attribute that marks a claim; its value is the size of the object in bytes."""
SIZE_ATTRIBUTES: Final = (SIZE_ATTRIBUTE, "SQSLargePayloadSize")
_POINTER: Final = "software.amazon.payloadoffloading.PayloadS3Pointer"
_POINTERS: Final = (_POINTER, "com.amazon.sqs.javamessaging.MessageS3Pointer")
_URL: Final = "payload_url"
_SIZE: Final = "payload_size_bytes"
"""The names are those of Shopify's large events on EventBridge, as of 2026."""
_MAX_KEY_BYTES: Final = 1024
"""Of S3 (user guide, "Naming Amazon S3 objects"); other stores of objects take no longer ones."""
_S3_HOST: Final = re.compile(
    r"(?:(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])\.)?"
    r"s3(?:\.dualstack)?(?:[.-][a-z]{2}(?:-[a-z]+){1,2}-[0-9])?\.amazonaws\.com(?:\.cn)?"
)
"""Virtual-hosted and path-style (S3 user guide, "Methods for accessing a general purpose bucket")."""


class Claim(NamedTuple):
    """Where the body is."""

    bucket: str
    key: str


def claim_body(claim: Claim, size: int, *, as_object: bool) -> bytes:
    """The body that stands for the claimed one.

    Args:
        claim: where that is.
        size: its bytes.
        as_object: the channel carries JSON objects only, so a URL stands for it.
    """
    if as_object:
        return dump_json({_URL: f"s3://{claim.bucket}/{claim.key}", _SIZE: size})
    return dump_json([_POINTER, {"s3BucketName": claim.bucket, "s3Key": claim.key}])


def claim_of(message: Message[Any], *, url_key: str | None, hosts: Collection[str]) -> Claim | None:
    """The claim that the message is; None for any other message.

    Args:
        message: as it came.
        url_key: the member that has the URL in bodies of others; None: others send no URLs.
        hosts: beside Amazon S3's own.

    Raises:
        Reject: a URL that names no object of S3 or of one of the hosts.
    """
    ours = not message.attributes.keys().isdisjoint(SIZE_ATTRIBUTES)
    if not ours and url_key is None:
        return None
    try:
        body = load_json(message.encode())
    except (DecodeError, InvalidMessage):
        return None
    if isinstance(body, Mapping):
        url = body.get(_URL) if ours else body.get(url_key or "")
        return _object_of(url, hosts) if isinstance(url, str) else None
    match body:
        case [str(kind), {"s3BucketName": str(bucket), "s3Key": str(key)}] if ours and kind in _POINTERS:
            return Claim(bucket, key)
    return None


def is_claim(message: Message[Any]) -> bool:
    """Whether the message is a claim of ours or of AWS's clients, as one that is moved or dead-lettered."""
    try:
        return claim_of(message, url_key=None, hosts=()) is not None
    except Reject:  # of an object that is not to be fetched
        return True


def _object_of(url: str, hosts: Collection[str]) -> Claim:
    """The object that a URL names; nothing is fetched from the URL itself."""
    if url.startswith("s3://"):
        bucket, _, key = url.removeprefix("s3://").partition("/")  # keys are not encoded here
        found = Claim(bucket, key)
    else:
        found = _object_of_http(url, hosts)
    if not found.bucket or not found.key:
        raise Reject(f"claim refused: {_shown(url)} names no object")
    return found


def _object_of_http(url: str, hosts: Collection[str]) -> Claim:
    try:
        parts = urlsplit(url)
        host, path = _host(parts), unquote(parts.path.removeprefix("/"), errors="strict")
    except ValueError:
        raise Reject(f"claim refused: {_shown(url)} is not a URL") from None
    s3 = _S3_HOST.fullmatch(host) if parts.scheme == "https" else None
    if s3 is not None and s3["bucket"]:
        return Claim(s3["bucket"], path)
    if s3 is None and not (parts.scheme in {"http", "https"} and host in hosts):
        raise Reject(f"claim refused: the host of {_shown(url)} is not in the allow-list")
    bucket, _, key = path.partition("/")
    return Claim(bucket, key)


def _host(parts: SplitResult) -> str:
    """Host and port, as an allow-list has them.

    Raises `ValueError` for a URL with a user, whose host is easily misread.
    """
    if "@" in parts.netloc or not parts.hostname:
        raise ValueError(parts.netloc)
    return parts.hostname if parts.port is None else f"{parts.hostname}:{parts.port}"


def _shown(url: str) -> str:
    """The URL for reasons and logs, without user and query: they hold passwords and signatures of presigned URLs."""
    return repr(re.sub(r"//[^/?#]*@", "//…@", re.split(r"[?#]", url, maxsplit=1)[0])[:200])


def check_key(claim: Claim) -> None:
    """Raise `Reject` for a key that no object can have: it would be asked for again and again."""
    if not 0 < len(claim.key.encode()) <= _MAX_KEY_BYTES:
        raise Reject(f"claim refused: {claim.key[:200]!r} in {claim.bucket} names no object")


def check_size(message: Message[Any], body: bytes, claim: Claim) -> None:
    """Raise `StoreError` where the object has fewer bytes than the size in its message: it was cut off.

    More bytes are not an error: some producers count characters.
    """
    sizes = [message.attributes[name] for name in SIZE_ATTRIBUTES if name in message.attributes]
    size = next((each for each in sizes if isinstance(each, int)), 0)
    if len(body) < size:
        raise StoreError(f"{claim.key} in {claim.bucket} has {len(body):,} of {size:,} bytes")


def size_beside(message: Message[Any]) -> int:
    """Bytes that envelope and attributes take, rather more than less: names are counted with a note of their types."""
    named = sum(2 * len(name.encode()) + _length(value) + 40 for name, value in message.attributes.items())
    return len(dump_envelope(message)) + 64 + named


def _length(value: Any) -> int:
    return len(value) if isinstance(value, bytes) else len(str(value).encode())
