"""The certificates that SNS signs with: fetched from SNS itself, kept, and used to verify signatures."""

from __future__ import annotations

import asyncio
import re
from base64 import b64decode
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from eip import clock
from eip._http import RequestRefused
from eip._logging import get_logger
from eip.errors import ConnectionLost, error_text
from eip.transports.aws.sns_http._documents import check_url, signed_text

__all__ = ["Certificates", "Fetch", "fetch_url"]

_log = get_logger("eip.sns_http")

Fetch: TypeAlias = Callable[[str], Awaitable[bytes]]
"""Gets a URL; raises anything where that fails."""

_DIGESTS: Final[Mapping[str, hashes.HashAlgorithm]] = {"1": hashes.SHA1(), "2": hashes.SHA256()}  # noqa: S303 - theirs
"""By SignatureVersion."""
_PATH: Final = re.compile(r"/SimpleNotificationService-[0-9a-zA-Z]+\.pem")
_MAX_BYTES: Final = 65_536
_TIMEOUT_S: Final = 5.0
_MAX_KEPT: Final = 16
_KEPT_S: Final = 86_400.0
_RETRY_AFTER: Final = {"Retry-After": "5"}
_OK: Final = 200


async def fetch_url(url: str) -> bytes:
    """Get a URL by verified TLS, without redirects; raises `ConnectionLost` where that fails."""
    import aiohttp  # noqa: PLC0415 - of the extra ``aws``, not needed with a fetch of one's own

    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, allow_redirects=False) as answer,
        ):
            body = await answer.content.read(_MAX_BYTES + 1)
            if answer.status != _OK or len(body) > _MAX_BYTES:
                raise ConnectionLost(f"{urlsplit(url).netloc} answered {answer.status} with {len(body)} bytes")
            return body
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise ConnectionLost(f"{urlsplit(url).netloc} cannot be reached: {error}") from error


class _Known(NamedTuple):
    key: rsa.RSAPublicKey
    until: float


class Certificates:
    """Verifies what SNS signed.

    Args:
        fetch: gets a certificate.
        versions: the SignatureVersions that are taken.
    """

    def __init__(self, fetch: Fetch, versions: Collection[int]) -> None:
        self._fetch = fetch
        self._versions = frozenset(map(str, versions))
        self._kept: OrderedDict[str, _Known] = OrderedDict()
        self._fetching = asyncio.Lock()
        """One at a time: strangers can make this endpoint ask for certificates. Those that are kept wait for none."""

    async def verify(self, document: Mapping[str, str]) -> None:
        """Return where SNS signed the document; raises `RequestRefused` otherwise."""
        version, url = document["SignatureVersion"], document["SigningCertURL"]
        if version not in self._versions:
            raise RequestRefused(403, f"SignatureVersion must be {' or '.join(sorted(self._versions))}")
        check_url("SigningCertURL", url, document["TopicArn"])
        if not _PATH.fullmatch(urlsplit(url).path) or urlsplit(url).query:
            raise RequestRefused(403, "SigningCertURL must be a certificate of SNS")
        key = await self._key(url)
        try:
            signature = b64decode(document["Signature"], validate=True)
            key.verify(signature, signed_text(document), padding.PKCS1v15(), _DIGESTS[version])
        except (InvalidSignature, ValueError) as error:
            raise RequestRefused(403, "the signature is wrong") from error

    async def _key(self, url: str) -> rsa.RSAPublicKey:
        if (known := self._known(url)) is None:
            async with self._fetching:
                if (known := self._known(url)) is None:
                    known = self._kept[url] = await self._fetched(url)
        self._kept.move_to_end(url)
        while len(self._kept) > _MAX_KEPT:
            self._kept.popitem(last=False)
        return known.key

    def _known(self, url: str) -> _Known | None:
        known = self._kept.get(url)
        return None if known is None or known.until <= clock.now() else known

    async def _fetched(self, url: str) -> _Known:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                raw = await self._fetch(url)
        except Exception as error:
            _log.warning("certificate_not_fetched", url=url, error=error_text(error))
            raise RequestRefused(503, "the certificate cannot be fetched now", _RETRY_AFTER) from error
        try:
            certificate = x509.load_pem_x509_certificate(raw)
            key = certificate.public_key()
        except ValueError as error:
            raise RequestRefused(403, "SigningCertURL holds no certificate") from error
        begins, ends = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
        if not isinstance(key, rsa.RSAPublicKey) or not begins <= clock.now() < ends:
            raise RequestRefused(403, "the certificate is not valid now, or not of the kind that SNS has")
        return _Known(key, min(ends, clock.now() + _KEPT_S))
