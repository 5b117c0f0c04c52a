"""Signed URLs: who has one may put or get one object, until it expires; of our own object store, and of S3."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any, Final, Literal, Protocol, TypeAlias
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from eip import clock

__all__ = ["EXPIRES_S", "OwnUrls", "S3Urls", "Urls"]

Method: TypeAlias = Literal["PUT", "GET"]

EXPIRES_S: Final = 300
"""Seconds that a signed URL can be used."""
_PATH: Final = "/objects/"


class Urls(Protocol):
    """Signs URLs of an object store."""

    async def put(self, key: str, length: int) -> str:
        """A URL to which an object of exactly that many bytes can be put."""
        ...

    async def get(self, key: str) -> str:
        """A URL from which an object can be read."""
        ...


class OwnUrls(Urls):
    """Of the object store that this process serves: HMAC-SHA256 over method, key, length and expiry.

    Args:
        secret: known to whoever signs and whoever checks.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    async def put(self, key: str, length: int) -> str:
        return self._signed("PUT", key, length)

    async def get(self, key: str) -> str:
        return self._signed("GET", key, 0)

    def allows(self, method: Method, url: str, key: str) -> int | None:
        """The length that a URL allows, which is signed and has not expired; None: it allows nothing."""
        given = {name: values[-1] for name, values in parse_qs(urlsplit(url).query).items()}
        try:
            length, expires = int(given["length"]), int(given["expires"])
        except (KeyError, ValueError):
            return None
        expected = self._signature(method, key, length, expires)
        genuine = hmac.compare_digest(expected.encode(), given.get("signature", "").encode())
        return length if genuine and clock.now() <= expires else None

    def _signed(self, method: Method, key: str, length: int) -> str:
        expires = int(clock.now()) + EXPIRES_S
        signature = self._signature(method, key, length, expires)
        query = urlencode({"length": length, "expires": expires, "signature": signature})
        return f"{_PATH}{quote(key)}?{query}"

    def _signature(self, method: Method, key: str, length: int, expires: int) -> str:
        text = "\n".join((method, key, str(length), str(expires)))
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()


class S3Urls(Urls):
    """Of a bucket; the length is among the signed headers, so that S3 refuses any other.

    Args:
        client: an open ``s3`` client.
        bucket: of the photos.
    """

    def __init__(self, client: Any, bucket: str) -> None:
        self._client, self._bucket = client, bucket

    async def put(self, key: str, length: int) -> str:
        return await self._sign("put_object", Key=key, ContentLength=length)

    async def get(self, key: str) -> str:
        return await self._sign("get_object", Key=key)

    async def _sign(self, operation: str, **arguments: Any) -> str:
        url: str = await self._client.generate_presigned_url(
            operation, Params={"Bucket": self._bucket, **arguments}, ExpiresIn=EXPIRES_S
        )
        return url
