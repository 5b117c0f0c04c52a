"""TLS of the server: its certificate, whose clients' certificates it trusts, and which of them were revoked.

The files are read again when they change. A connection keeps what it was verified with, so each request of one from
before such a change is refused, and the connection ends: a client that comes back is verified again.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from examples.rfq.files import Reloaded
from examples.rfq.problems import Problem

__all__ = ["Certificate", "Trust"]

_LETTERS = {
    "commonName": "CN",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "countryName": "C",
    "domainComponent": "DC",
    "userId": "UID",
    "streetAddress": "STREET",
}
"""Of attributes of names (RFC 4514, 3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A client's certificate, which was verified."""

    subject: str
    """As RFC 4514 has it: ``CN=partner,O=Wild Rydes``."""
    issuer: str
    serial: str
    """Hexadecimal digits."""
    valid_from: datetime
    valid_until: datetime
    pem: str

    @staticmethod
    def of(connection: Any) -> Certificate | None:
        """That of a TLS connection's client; None: it has shown none.

        Args:
            connection: an `ssl.SSLObject` or socket.
        """
        found = connection.getpeercert()
        if not found:
            return None
        return Certificate(
            subject=_name(found["subject"]),
            issuer=_name(found["issuer"]),
            serial=found["serialNumber"].lower(),
            valid_from=_time(found["notBefore"]),
            valid_until=_time(found["notAfter"]),
            pem=ssl.DER_cert_to_PEM_cert(connection.getpeercert(True)),
        )


def _name(parts: Any) -> str:
    """A distinguished name, the last part first, as RFC 4514 has it."""
    return ",".join(
        "+".join(f"{_LETTERS.get(key, key)}={_escaped(value)}" for key, value in part) for part in parts[::-1]
    )


def _escaped(value: str) -> str:
    escaped = "".join(f"\\{each}" if each in ',+"\\<>;' else each for each in value)
    escaped = escaped.replace("\0", "\\00")
    if escaped.startswith(("#", " ")):
        escaped = f"\\{escaped}"
    return f"{escaped[:-1]}\\ " if escaped.endswith(" ") and len(escaped) > 1 else escaped


def _time(text: str) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(text), UTC)


class Trust:
    """What TLS connections are made with; files are read again when they change.

    Args:
        certificate: the server's, as PEM.
        key: its key; None: in the same file.
        client_ca: PEM of the authorities whose clients are let in; None: clients show no certificates.
        revoked: PEM of their revocation lists. Once there is one, each of the authorities needs one that is not over:
            a certificate that is not known to be good is not let in.
        optional: whether clients without a certificate are let in too, for the application to decide.
    """

    def __init__(
        self,
        certificate: Path,
        key: Path | None = None,
        *,
        client_ca: Path | None = None,
        revoked: Path | None = None,
        optional: bool = False,
    ) -> None:
        self._certificate, self._key, self._client_ca, self._revoked = certificate, key, client_ca, revoked
        self.optional = optional
        files = [file for file in (certificate, key, client_ca, revoked) if file is not None]
        self._contexts = Reloaded(files, self._context)
        self.certificates: dict[tuple[str, int], tuple[Certificate | None, ssl.SSLContext]] = {}
        """By the client's address: its certificate, and what that was verified with."""

    @property
    def context(self) -> ssl.SSLContext:
        """For a new connection."""
        return self._contexts.current

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self._client_ca)
        context.load_cert_chain(self._certificate, self._key)
        if self._client_ca is not None:
            context.verify_mode = ssl.CERT_OPTIONAL if self.optional else ssl.CERT_REQUIRED
        if self._revoked is not None:
            context.load_verify_locations(self._revoked)
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
        return context

    def wrapped(self, app: ASGIApp) -> ASGIApp:
        """The application, which finds the client's `Certificate` in ``scope["certificate"]``."""

        async def with_certificate(scope: Scope, receive: Receive, send: Send) -> None:
            client = scope.get("client")
            certificate, context = self.certificates.get(tuple(client) if client else ("", 0), (None, None))
            if certificate is not None and context is not self.context:
                detail = "the service's trust store has changed; connect again"
                headers = {"Connection": "close"}
                await Problem(421, "Verified before", detail, headers=headers).response()(scope, receive, send)
                return
            scope["certificate"] = certificate
            scope["is_trusted"] = lambda: certificate is None or context is self.context
            await app(scope, receive, send)

        return with_certificate


def as_json(certificate: Certificate) -> Mapping[str, str]:
    """The certificate as the API shows it."""
    return {
        "subject": certificate.subject,
        "issuer": certificate.issuer,
        "serial": certificate.serial,
        "valid-from": certificate.valid_from.isoformat(),
        "valid-until": certificate.valid_until.isoformat(),
        "pem": certificate.pem,
    }
