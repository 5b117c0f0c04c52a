"""Partners: which customer a client's certificate stands for."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import HTTPConnection

from eip.errors import ConfigurationError
from examples.rfq.files import Reloaded
from examples.rfq.model import Text
from examples.rfq.problems import Problem
from examples.rfq.tls import Certificate
from examples.rfq.tokens import Caller, Role

__all__ = ["Partners", "certificate_of"]


class Partner(BaseModel):
    """Who shows a certificate with all of what is given here."""

    model_config = ConfigDict(extra="forbid")

    name: Text
    """The customer's, as in their requests."""
    role: Role = "customer"
    subject: Text
    issuer: Text | None = None
    serial: Text | None = None
    """Hexadecimal digits."""

    def fits(self, certificate: Certificate) -> bool:
        """Whether it is theirs."""
        issuer, serial = self.issuer or certificate.issuer, (self.serial or certificate.serial).lower()
        return (self.subject, issuer, serial) == (certificate.subject, certificate.issuer, certificate.serial)


class _PartnerFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    partners: list[Partner]

    @classmethod
    def load(cls, path: Path) -> _PartnerFile:
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            reason = error.strerror if isinstance(error, OSError) else error.errors(include_input=False)[0]["msg"]
            raise ConfigurationError(f"{path} is no partner file: {reason}") from None


class Partners:
    """Who calls, by the certificates that the server has verified.

    Args:
        file: JSON, ``{"partners": [{"name": "Ada", "subject": "CN=ada,O=Wild Rydes", "issuer": "CN=authority"}]}``;
            read again when it changes. None: whoever has a certificate of the authorities may ask for anybody.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = None if file is None else Reloaded([file], lambda: _PartnerFile.load(file))

    def caller(self, request: HTTPConnection) -> Caller | None:
        """The partner whose certificate the client has shown; None: it has shown none of a known partner."""
        certificate = certificate_of(request)
        if certificate is None or self._file is None:
            return None
        found = next((each for each in self._file.current.partners if each.fits(certificate)), None)
        return None if found is None else Caller(name=found.name, role=found.role)

    def refusal(self, request: HTTPConnection) -> Problem | None:
        """Why a client that is no known caller is not let in; None: it may be."""
        if certificate_of(request) is None:
            return Problem(403, "Client certificate required", "connect with a certificate that this service trusts")
        if self._file is not None:
            return Problem(403, "Unknown partner", "the certificate is valid, and of no partner of this service")
        return None


def certificate_of(request: HTTPConnection) -> Certificate | None:
    """The client's certificate; None: it has shown none."""
    found: Certificate | None = request.scope.get("certificate")
    return found
