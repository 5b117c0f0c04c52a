"""HTTP endpoints as targets of rules: API destinations, and the connections that authorize their calls.

    key = ApiKey(name="X-Api-Key", value=settings.partner_key)
    Topology(
        ConnectionSpec("partner", key),
        ApiDestinationSpec("orders", "partner", url="https://partner.example/orders/*"),
        BusSpec("shop"),
        RuleSpec("shop", "partner", pattern, (TargetSpec(api_destination="orders", path_values=["$.detail.id"]),)),
    )

Source: "API destinations" and "Connections" (EventBridge User Guide), CreateConnection, CreateApiDestination (API
Reference), 2026.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal, TypeAlias
from urllib.parse import urlsplit

from typing_extensions import override

from eip._checks import check_integer, check_one_of, check_type
from eip.errors import ConfigurationError
from eip.topology import DriverResource

__all__ = ["ApiDestinationSpec", "ApiKey", "Authorization", "BasicAuth", "ConnectionSpec", "HttpMethod", "OAuth"]

HttpMethod: TypeAlias = Literal["POST", "GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"]
_METHODS: Final[tuple[HttpMethod, ...]] = ("POST", "GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE")
_NAME: Final = re.compile(r"[.\-_A-Za-z0-9]{1,64}")
_DEFAULT_RATE: Final = 300
"""Calls a second where none is given (CreateApiDestination)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A header with a secret value.

    Args:
        name: of the header.
        value: the secret.
    """

    name: str
    value: str = field(repr=False)

    @property
    def shown(self) -> dict[str, Any]:
        """What the service shows of it."""
        return {"ApiKeyAuthParameters": {"ApiKeyName": self.name}}

    def parameters(self, secret: Any) -> dict[str, Any]:
        """As CreateConnection takes it."""
        return {"ApiKeyAuthParameters": {"ApiKeyName": self.name, "ApiKeyValue": secret}}


@dataclass(frozen=True, slots=True, kw_only=True)
class BasicAuth:
    """A user name and a password.

    Args:
        username: the name.
        value: the password.
    """

    username: str
    value: str = field(repr=False)

    @property
    def shown(self) -> dict[str, Any]:
        """What the service shows of it."""
        return {"BasicAuthParameters": {"Username": self.username}}

    def parameters(self, secret: Any) -> dict[str, Any]:
        """As CreateConnection takes it."""
        return {"BasicAuthParameters": {"Username": self.username, "Password": secret}}


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuth:
    """Client credentials, for which EventBridge gets tokens.

    Args:
        client_id: the client's.
        value: the client's secret.
        endpoint: the https URL that gives tokens.
        method: of the call for a token.
        body: further fields of that call, e.g. ``{"grant_type": "client_credentials"}``.
    """

    client_id: str
    value: str = field(repr=False)
    endpoint: str
    method: Literal["GET", "POST", "PUT"] = "POST"
    body: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Validate the parameters."""
        check_one_of("method", self.method, ("GET", "POST", "PUT"))
        _check_https("endpoint", self.endpoint)

    @property
    def shown(self) -> dict[str, Any]:
        """What the service shows of it."""
        return self._parameters({})

    def parameters(self, secret: Any) -> dict[str, Any]:
        """As CreateConnection takes it."""
        return self._parameters({"ClientSecret": secret})

    def _parameters(self, secret: dict[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = {
            "ClientParameters": {"ClientID": self.client_id, **secret},
            "AuthorizationEndpoint": self.endpoint,
            "HttpMethod": self.method,
        }
        if self.body:
            fields = [{"Key": key, "Value": value, "IsValueSecret": False} for key, value in self.body.items()]
            made["OAuthHttpParameters"] = {"BodyParameters": fields}
        return {"OAuthParameters": made}


Authorization: TypeAlias = ApiKey | BasicAuth | OAuth
_TYPES: Final[dict[type[Authorization], str]] = {
    ApiKey: "API_KEY",
    BasicAuth: "BASIC",
    OAuth: "OAUTH_CLIENT_CREDENTIALS",
}


@dataclass(frozen=True, slots=True)
class ConnectionSpec(DriverResource):
    """How calls of API destinations are authorized; EventBridge keeps the secret in Secrets Manager.

    Args:
        name: of the connection.
        authorization: an `ApiKey`, a `BasicAuth` or an `OAuth`.
        headers: more headers of each call.
        revision: any text. The service does not show the secret, so a new one is set only where the revision, or
            anything else that is declared, differs; it is kept as the connection's description.
        encryption: a KMS key for the secret: its id, ARN or ``alias/...``; default: EventBridge's own.

    Raises:
        TypeError: an authorization of another type.
        ConfigurationError: not a valid name.
    """

    kind: ClassVar[str] = "connection"
    rank: ClassVar[int] = -2

    name: str
    authorization: Authorization
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    revision: str = ""
    encryption: str | None = None

    def __post_init__(self) -> None:
        """Validate the parameters."""
        _check_name(self.name, "connection")
        check_type(
            "authorization", self.authorization, (ApiKey, BasicAuth, OAuth), "an ApiKey, a BasicAuth or an OAuth"
        )

    @property
    def type(self) -> str:
        """The service's name of the kind of authorization."""
        return _TYPES[type(self.authorization)]

    @property
    def shown(self) -> dict[str, Any]:
        """What the service shows of the parameters."""
        return self.authorization.shown | self._more()

    def parameters(self, secret: Any = None) -> dict[str, Any]:
        """The parameters as CreateConnection takes them; ``secret``: in place of the real one, for a template."""
        return self.authorization.parameters(self.authorization.value if secret is None else secret) | self._more()

    def _more(self) -> dict[str, Any]:
        if not self.headers:
            return {}
        headers = [{"Key": key, "Value": value, "IsValueSecret": False} for key, value in self.headers.items()]
        return {"InvocationHttpParameters": {"HeaderParameters": headers}}


@dataclass(frozen=True, slots=True)
class ApiDestinationSpec(DriverResource):
    """An HTTP endpoint that rules can have as target: `eip.topology.TargetSpec.api_destination`.

    Args:
        name: of the API destination.
        connection: the name of a declared connection.
        url: https; each ``*`` in it is filled with one of the target's ``path_values``.
        method: of the calls.
        max_rate: calls a second; what is more waits, within the target's ``max_age``.

    Raises:
        ConfigurationError: a value that CreateApiDestination would refuse.
    """

    kind: ClassVar[str] = "api_destination"
    rank: ClassVar[int] = -1

    name: str
    connection: str
    url: str
    method: HttpMethod = "POST"
    max_rate: int = _DEFAULT_RATE

    def __post_init__(self) -> None:
        """Validate the parameters."""
        _check_name(self.name, "API destination")
        _check_name(self.connection, "connection")
        _check_https("url", self.url)
        check_one_of("method", self.method, _METHODS)
        check_integer("max_rate", self.max_rate, least=1)

    @property
    @override
    def container(self) -> tuple[type, str]:
        return ConnectionSpec, self.connection


def _check_name(name: str, of: str) -> None:
    if not _NAME.fullmatch(check_type("name", name, str, "a str")):
        raise ConfigurationError(f"name of a {of} must be 1 to 64 letters, digits and ._-, got {name!r}")


def _check_https(parameter: str, url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.netloc:
        raise ConfigurationError(f"{parameter} must be an https URL, got {url!r}")
