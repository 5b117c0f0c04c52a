"""The SDK's sessions: aiobotocore's own, and aioboto3's, which has one inside. Either makes every client here."""

from __future__ import annotations

from typing import Any

from aiobotocore.session import AioSession, get_session

__all__ = ["check_session", "new_session", "sdk_session"]


def new_session(region: str | None = None) -> AioSession:
    """A session of the ordinary chain of credentials; ``region`` replaces the configured one."""
    session = get_session()
    if region is not None:
        session.set_config_variable("region", region)
    return session


def sdk_session(session: Any) -> AioSession:
    """The session of aiobotocore that is given, or that one of aioboto3 has inside."""
    return session if isinstance(session, AioSession) else session._session  # noqa: SLF001 - has no other way


def check_session(session: Any) -> None:
    """Raise `TypeError` for anything but a session of aioboto3 or aiobotocore, or None."""
    inner = getattr(session, "_session", session)
    if session is not None and not isinstance(inner, AioSession):
        raise TypeError(
            f"session must be an aioboto3.Session or an aiobotocore.session.AioSession, got {type(session).__name__}"
        )
