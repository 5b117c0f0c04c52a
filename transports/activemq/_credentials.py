"""Where credentials come from: the URL, environment variables, AWS Secrets Manager."""

from __future__ import annotations

import os
from typing import Any, Final

from eip.codec import load_json
from eip.errors import AccessDenied, ConfigurationError, DecodeError
from eip.transports.activemq._stomp.servers import Credentials, CredentialsSource

__all__ = ["credentials_source", "environment", "secret"]

_PASSWORD_VARIABLE: Final = "ACTIVEMQ_PASSWORD"  # noqa: S105 - a variable's name


def environment(user: str = "ACTIVEMQ_USER", password: str = _PASSWORD_VARIABLE) -> CredentialsSource:
    """Read credentials from environment variables, at each connection.

    Args:
        user: name of the variable with the user; where it is not set, the connection is anonymous.
        password: name of the variable with the password; default: an empty password.
    """

    async def read() -> Credentials | None:
        name = os.environ.get(user)
        return None if name is None else Credentials(user=name, password=os.environ.get(password, ""))

    return read


def secret(secret_id: str, *, region: str | None = None, session: Any = None, **client: Any) -> CredentialsSource:
    """Read credentials from AWS Secrets Manager, at each connection, so that a rotated secret is used.

    The secret is a JSON object with ``username`` and ``password``. Needs the extra ``aws`` or ``aiobotocore``.

    Args:
        secret_id: its name or ARN.
        region: default: the session's.
        session: of aioboto3 or aiobotocore; default: one with the SDK's default chain of credentials.
        client: more keywords of the SDK's client, e.g. ``endpoint_url``.
    """
    kept = session  # loading the SDK may take longer than one attempt has: the next one goes on from there

    async def read() -> Credentials:
        nonlocal kept
        try:
            from eip._aws.sessions import new_session, sdk_session  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise ConfigurationError(
                "secret() needs an extra: pip install aioeip[aws], or aioeip[aiobotocore]"
            ) from error
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - as above

        try:
            kept = new_session() if kept is None else sdk_session(kept)
            async with kept.create_client("secretsmanager", region_name=region, **client) as sdk:
                answer = await sdk.get_secret_value(SecretId=secret_id)
        except (ClientError, BotoCoreError) as error:
            raise AccessDenied(f"secret {secret_id!r} cannot be read: {type(error).__name__}") from error
        match _parsed(answer.get("SecretString")):
            case {"username": str(user), "password": str(password)}:
                return Credentials(user=user, password=password)
        raise ConfigurationError(f"secret {secret_id!r} must be a JSON object with username and password")

    return read


def credentials_source(given: Credentials | CredentialsSource | None, in_url: Credentials | None) -> CredentialsSource:
    """Return the source to use: the one given, or the URL's credentials, or else the environment."""
    if given is not None and not isinstance(given, Credentials):
        return given
    fixed = given or in_url
    if fixed is None:
        return environment()

    async def read() -> Credentials:
        password = fixed.password or os.environ.get(_PASSWORD_VARIABLE, "")
        return Credentials(user=fixed.user, password=password)

    return read


def _parsed(text: Any) -> Any:
    try:
        return load_json(text) if isinstance(text, str) else None
    except DecodeError:
        return None
