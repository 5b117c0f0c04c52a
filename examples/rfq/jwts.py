"""JSON Web Tokens (RFC 7519) as bearer tokens: signed by somebody whose public keys are in a JWKS file (RFC 7517).

The customer is the token's ``sub``; another role than a customer's is its claim ``role``. The algorithm is asymmetric
and one that fits the key; a token's header chooses among the keys only. So nobody signs with a public key as a secret
(RFC 8725, 2.1 and 3.1).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, get_args

import jwt
from pydantic import TypeAdapter, ValidationError

from eip.errors import ConfigurationError
from examples.rfq.files import Reloaded
from examples.rfq.model import Text
from examples.rfq.tokens import Caller, Role

__all__ = ["JwtTokens"]

_ALGORITHMS: Final = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC": ("ES256", "ES384", "ES512"),
    "OKP": ("EdDSA",),
}
"""By type of key."""
_CURVES: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_REQUIRED: Final = ("exp", "iss", "aud", "sub")
_LEEWAY_S: Final = 30.0
"""That clocks may differ by."""
_MAX_LETTERS: Final = 8192
"""Of a token."""
_NAME: Final = TypeAdapter[str](Text)


class JwtTokens:
    """Verifies tokens; keys are read again when the file changes.

    Args:
        keys: a JWKS file, of public keys.
        issuer: what ``iss`` must be.
        audience: what ``aud`` must be, or hold.
    """

    def __init__(self, keys: Path, *, issuer: str, audience: str) -> None:
        self._keys = Reloaded([keys], lambda: _read(keys))
        self._issuer, self._audience = issuer, audience

    def owner(self, given: str) -> Caller | None:
        """Whose token it is; None for one that is not valid now, here."""
        if len(given) > _MAX_LETTERS:
            return None
        try:
            header = jwt.get_unverified_header(given)
            key = self._key(header)
            if key is None:
                return None
            claims: dict[str, Any] = jwt.decode(
                given,
                key.key,
                algorithms=[header["alg"]],
                audience=self._audience,
                issuer=self._issuer,
                leeway=_LEEWAY_S,
                options={"require": list(_REQUIRED)},
            )
            return _caller(claims)
        except (jwt.PyJWTError, ValidationError, ValueError):
            return None

    def _key(self, header: dict[str, Any]) -> jwt.PyJWK | None:
        """The key that a header names, where the algorithm fits it; without a name, the only key that fits."""
        named = header.get("kid")
        fitting = [
            key
            for key in self._keys.current
            if header.get("alg") in _fitting(key) and (named is None or key.key_id == named)
        ]
        return fitting[0] if len(fitting) == 1 else None


def _caller(claims: dict[str, Any]) -> Caller | None:
    role = claims.get("role", "customer")
    return Caller(name=_NAME.validate_python(claims["sub"]), role=role) if role in get_args(Role) else None


def _fitting(key: jwt.PyJWK) -> tuple[str, ...]:
    """The algorithms that a key may be used with: its own, where it names one."""
    kind = key.key_type or ""
    named = key._jwk_data.get("alg")  # noqa: SLF001 - PyJWT fills in a default, which hides whether there is one
    algorithms = _ALGORITHMS.get(kind, ())
    if kind == "EC":
        algorithms = tuple(filter(None, [_CURVES.get(key._jwk_data.get("crv", ""))]))  # noqa: SLF001 - as above
    return tuple(each for each in algorithms if named in (None, each))


def _read(file: Path) -> list[jwt.PyJWK]:
    try:
        keys = jwt.PyJWKSet.from_json(file.read_text(encoding="utf-8")).keys
    except (OSError, ValueError, jwt.PyJWTError) as error:
        raise ConfigurationError(f"{file} is no JWKS file: {error}") from None
    if any("d" in key._jwk_data for key in keys):  # noqa: SLF001 - as above
        raise ConfigurationError(
            f"{file} holds a private key, which belongs to the issuer alone: name a file of public keys"
        )
    usable = [key for key in keys if key.public_key_use in (None, "sig") and _fitting(key)]
    if not usable:
        raise ConfigurationError(f"{file} has no public key to verify signatures with")
    return usable
