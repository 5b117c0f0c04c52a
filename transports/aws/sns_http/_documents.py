"""What SNS posts to an endpoint, checked as far as that goes without its certificate."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from eip import clock
from eip._http import RequestRefused
from eip.codec import load_json
from eip.errors import DecodeError

__all__ = ["check_url", "document_of", "is_confirmation_url", "service_host", "signed_text"]

_SIGNED: Final[Mapping[str, tuple[str, ...]]] = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    **dict.fromkeys(
        ("SubscriptionConfirmation", "UnsubscribeConfirmation"),
        ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    ),
}
"""The fields that are signed, in their order (SNS Developer Guide, "Verifying the signatures of messages")."""
_OPTIONAL: Final = "Subject"
_MAX_AHEAD_S: Final = 300.0
"""Seconds that the clock of SNS may be ahead of this one."""


def document_of(body: bytes, *, topics: Collection[str], max_age: float) -> Mapping[str, str]:
    """What was posted, of one of the topics and fresh.

    Args:
        body: of the request.
        topics: ARNs.
        max_age: seconds since it was published.

    Raises:
        RequestRefused: anything else.
    """
    try:
        found: Any = load_json(body)
    except DecodeError as error:
        raise RequestRefused(400, "the body is not JSON") from error
    if not isinstance(found, Mapping) or (fields := _SIGNED.get(str(found.get("Type")))) is None:
        raise RequestRefused(400, f"Type must be one of {', '.join(_SIGNED)}")
    for name in (*fields, "Signature", "SignatureVersion", "SigningCertURL"):
        if not isinstance(found.get(name), str) and not (name == _OPTIONAL and found.get(name) is None):
            raise RequestRefused(400, f"{name} must be a string")
    if found["TopicArn"] not in topics:
        raise RequestRefused(403, "no message of this topic is taken here")
    age = clock.now() - _time(found["Timestamp"])
    if not -_MAX_AHEAD_S <= age <= max_age:
        raise RequestRefused(403, f"Timestamp must be at most {max_age:g} s old")
    return found


def _time(text: str) -> float:
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise RequestRefused(400, "Timestamp must be a time") from error
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def signed_text(document: Mapping[str, str]) -> bytes:
    """What SNS signed: names and values of the fields, a line each."""
    named = ((name, document.get(name)) for name in _SIGNED[document["Type"]])
    return "".join(f"{name}\n{value}\n" for name, value in named if value is not None).encode("utf-8", "surrogatepass")


def service_host(topic: str) -> str:
    """The host of SNS in the region of a topic's ARN."""
    _, partition, _, region, *_ = topic.split(":")
    return f"sns.{region}.amazonaws.com{'.cn' if partition == 'aws-cn' else ''}"


def check_url(name: str, url: str, topic: str) -> None:
    """Refuse a URL that is not of SNS in the topic's region, by TLS: requests from here go nowhere else.

    Args:
        name: of the field.
        url: as posted.
        topic: ARN.

    Raises:
        RequestRefused: it is another one.
    """
    try:
        parts = urlsplit(url)
        own = parts.scheme == "https" and parts.netloc == service_host(topic) and not parts.fragment
    except ValueError:
        own = False
    if not own or not url.isprintable():
        raise RequestRefused(403, f"{name} must be an https URL of {service_host(topic)}")


def is_confirmation_url(document: Mapping[str, str]) -> bool:
    """Whether the URL confirms this subscription and does nothing else."""
    given = parse_qs(urlsplit(document["SubscribeURL"]).query)
    wanted = {"Action": "ConfirmSubscription", "TopicArn": document["TopicArn"], "Token": document["Token"]}
    return all(given.get(name) == [value] for name, value in wanted.items())
