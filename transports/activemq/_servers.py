"""Where the brokers are, and who we are to them."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from eip.codec import load_json
from eip.errors import AccessDenied, ConfigurationError, DecodeError

__all__ = ["Credentials", "CredentialsSource", "Server", "environment", "parse_servers", "secret"]

_PORTS: Final = {"stomp": 61613, "stomp+ssl": 61614}


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Who we are to the broker; its repr does not tell the password."""

    user: str
    password: str = field(repr=False)


CredentialsSource = Callable[[], Awaitable[Credentials | None]]
"""Asked for each connection, so that a rotated password is taken up at the next; None: anonymous."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A broker's address."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        return f"stomp{'+ssl' if self.tls else ''}://{self.host}:{self.port}"


def parse_servers(url: str) -> tuple[Sequence[Server], Credentials | None]:
    """The brokers of ``stomp+ssl://user:password@active:61614,stomp+ssl://standby:61614``, and the credentials in it.

    Raises `ConfigurationError`, whose text holds nothing of the URL.
    """
    servers: list[Server] = []
    found: Credentials | None = None
    for number, each in enumerate(url.split(","), 1):
        try:
            parts = urlsplit(each.strip())
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in _PORTS or not parts.hostname or parts.path not in ("", "/") or parts.query:
            # Nothing of it is shown: wherever it is wrong, its password may be.
            raise ConfigurationError(f"address {number} of the URL is none of a broker, such as stomp+ssl://host:61614")
        servers.append(Server(host=parts.hostname, port=port or _PORTS[parts.scheme], tls=parts.scheme.endswith("ssl")))
        if parts.username is not None and found is None:
            found = Credentials(user=unquote(parts.username), password=unquote(parts.password or ""))
    return servers, found


def environment(user: str = "ACTIVEMQ_USER", password: str = "ACTIVEMQ_PASSWORD") -> CredentialsSource:  # noqa: S107 - names of variables
    """Credentials of two environment variables; none where the first is not set."""

    async def read() -> Credentials | None:
        name = os.environ.get(user)
        return None if name is None else Credentials(user=name, password=os.environ.get(password, ""))

    return read


def secret(secret_id: str, *, region: str | None = None, session: Any = None, **client: Any) -> CredentialsSource:
    """Credentials of a secret in AWS Secrets Manager: a JSON object with ``username`` and ``password``.

    Needs the extra ``aws``. Read anew for each connection, so that a rotated secret is taken up.

    Args:
        secret_id: its name or ARN.
        region: default: the session's.
        session: an `aioboto3.Session`; default: one of the ordinary chain of credentials.
        client: more keywords of the SDK's client, e.g. ``endpoint_url``.
    """

    async def read() -> Credentials:
        try:
            import aioboto3  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise ConfigurationError("secrets need the extra: pip install aioeip[aws]") from error
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - as above

        try:
            async with (session or aioboto3.Session()).client("secretsmanager", region_name=region, **client) as sdk:
                answer = await sdk.get_secret_value(SecretId=secret_id)
        except (ClientError, BotoCoreError) as error:
            raise AccessDenied(f"secret {secret_id!r} cannot be read: {type(error).__name__}") from error
        match _object(answer.get("SecretString")):
            case {"username": str(user), "password": str(password)}:
                return Credentials(user=user, password=password)
        raise ConfigurationError(f"secret {secret_id!r} is no JSON object with username and password")

    return read


def _object(text: Any) -> Any:
    try:
        return load_json(text) if isinstance(text, str) else None
    except DecodeError:
        return None
