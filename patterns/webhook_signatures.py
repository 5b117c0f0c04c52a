"""Signatures of webhooks: a keyed digest of the body, and of a time against replays.

HmacSignature(secret)                                              X-Hub-Signature-256: sha256=… (GitHub)
HmacSignature(secret, header="x-signature", prefix="", timestamp_header="x-timestamp")      of "TIME.BODY"
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from eip import clock
from eip._checks import check_duration, check_name, check_one_of
from eip.clock import Duration
from eip.errors import ConfigurationError

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["Digest", "HmacSignature"]

Digest: TypeAlias = Literal["sha256", "sha512"]
_MIN_SECRET: Final = 16
"""Bytes of a secret; fewer can be tried out."""
_MAX_SIGNATURES: Final = 10
"""In one header, of secrets that replace each other."""


class HmacSignature:
    """Checks that a request was signed with one of the secrets; `Webhook(authenticate=...)`.

    Args:
        secrets: one, or several while one replaces another; at least 16 bytes each.
        header: with the signature in hexadecimal digits; several are parted by commas.
        prefix: of each signature.
        digest: ``"sha256"`` or ``"sha512"``.
        timestamp_header: with the time of the request, in seconds since the epoch, which is signed too, as
            ``TIME.BODY``; None: only the body is signed, and a request can be replayed.
        tolerance: seconds that the time may be off.

    Raises:
        ConfigurationError: a secret that is too short, or none.
    """

    def __init__(
        self,
        secrets: str | bytes | Sequence[str | bytes],
        *,
        header: str = "x-hub-signature-256",
        prefix: str = "sha256=",
        digest: Digest = "sha256",
        timestamp_header: str | None = None,
        tolerance: Duration = 300.0,
    ) -> None:
        given = [secrets] if isinstance(secrets, (str, bytes)) else list(secrets)
        self._secrets = [each.encode() if isinstance(each, str) else each for each in given]
        if not self._secrets or min(map(len, self._secrets)) < _MIN_SECRET:
            raise ConfigurationError(f"secrets must be one or more of at least {_MIN_SECRET} bytes")
        self._header, self._prefix = check_name(header, "header").lower(), prefix
        self._digest = check_one_of("digest", digest, ("sha256", "sha512"))
        self._timestamp_header = (
            None if timestamp_header is None else check_name(timestamp_header, "timestamp_header").lower()
        )
        self._tolerance = check_duration("tolerance", tolerance, positive=True)

    def __call__(self, request: Request, body: bytes) -> bool:
        """Whether the request is signed."""
        return self.verify(request.headers, body)

    def verify(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Whether headers, by lower-case name, sign the body."""
        signed = self._signed(headers, body)
        given = [each.strip() for each in headers.get(self._header, "").split(",")[:_MAX_SIGNATURES]]
        if signed is None:
            return False
        wanted = [self._signature(secret, signed) for secret in self._secrets]
        return any(hmac.compare_digest(each.encode(errors="surrogatepass"), ours) for each in given for ours in wanted)

    def sign(self, body: bytes) -> dict[str, str]:
        """The headers that sign a body with the first secret, for callers and tests."""
        headers = {} if self._timestamp_header is None else {self._timestamp_header: str(int(clock.now()))}
        signed = self._signed(headers, body)
        assert signed is not None
        return {**headers, self._header: self._signature(self._secrets[0], signed).decode()}

    def _signed(self, headers: Mapping[str, str], body: bytes) -> bytes | None:
        """What is signed; None where the time is missing or too far off."""
        if self._timestamp_header is None:
            return body
        text = headers.get(self._timestamp_header, "")
        if not (text.isascii() and text.isdigit() and len(text) < 16):
            return None
        return None if abs(clock.now() - int(text)) > self._tolerance else text.encode() + b"." + body

    def _signature(self, secret: bytes, signed: bytes) -> bytes:
        return self._prefix.encode() + hmac.new(secret, signed, getattr(hashlib, self._digest)).hexdigest().encode()
