"""Subscriptions of topics that no consumer here reads: HTTP endpoints, functions, Firehose, e-mail, strangers' queues.

    TopicSpec("rides"),
    EndpointSubscriptionSpec("rides", url="https://partner.example/rides", delivery=HttpDelivery(max_attempts=10)),
    EndpointSubscriptionSpec("rides", function="audit", filter=FilterPolicy({"kind": ["late"]})),
    EndpointSubscriptionSpec("rides", queue="arn:aws:sqs:eu-west-1:123456789012:rides"),

A queue of this topology is subscribed by `eip.topology.SubscriptionSpec`. Source: Subscribe,
SetSubscriptionAttributes (SNS API Reference), "Message delivery retries" (Developer Guide), 2026.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal, TypeAlias, get_args
from urllib.parse import urlsplit

from typing_extensions import override

from eip._checks import check_integer, check_name, check_one_of, check_type
from eip.channels import Filter
from eip.errors import ConfigurationError
from eip.matching import push_down
from eip.topology import DriverResource, TopicSpec
from eip.topology.names import is_fifo

__all__ = ["BackoffFunction", "EndpointKind", "EndpointSubscriptionSpec", "HttpDelivery"]

BackoffFunction: TypeAlias = Literal["linear", "arithmetic", "geometric", "exponential"]
EndpointKind: TypeAlias = Literal["queue", "url", "function", "firehose", "email"]
_KINDS: Final[tuple[EndpointKind, ...]] = get_args(EndpointKind)
_RAW: Final = ("queue", "url", "firehose")
"""Kinds that SNS can deliver to without its wrapping."""
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+")
_PREFIXES: Final = {"queue": "", "function": "function:", "firehose": "deliverystream/"}
"""What an ARN of each kind has before the name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpDelivery:
    """How SNS retries calls of an HTTP endpoint.

    Args:
        max_attempts: retries, 0 to 100.
        min_delay: whole seconds before the first retry that waits, 1 to 3600.
        max_delay: whole seconds before the last retries, at least ``min_delay``, at most 3600.
        backoff: how the delays grow from one to the other.
        max_rate: calls a second; None: no limit.
        content_type: of the requests; None: ``text/plain; charset=UTF-8``.

    Raises:
        ConfigurationError: a value out of range.
    """

    max_attempts: int = 3
    min_delay: int = 20
    max_delay: int = 20
    backoff: BackoffFunction = "linear"
    max_rate: int | None = None
    content_type: str | None = None

    def __post_init__(self) -> None:
        """Validate the parameters."""
        if not 0 <= check_integer("max_attempts", self.max_attempts, least=0) <= 100:
            raise ConfigurationError(f"max_attempts must be 0 to 100, got {self.max_attempts}")
        if not 1 <= self.min_delay <= self.max_delay <= 3600:
            raise ConfigurationError(
                f"min_delay and max_delay must be 1 to 3600 s, and min_delay the smaller, got {self.min_delay} and "
                f"{self.max_delay}"
            )
        check_one_of("backoff", self.backoff, get_args(BackoffFunction))
        if self.max_rate is not None:
            check_integer("max_rate", self.max_rate, least=1)

    @property
    def policy(self) -> dict[str, Any]:
        """As SNS takes it."""
        retries = {
            "numRetries": self.max_attempts,
            "numNoDelayRetries": 0,
            "numMinDelayRetries": 0,
            "numMaxDelayRetries": 0,
            "minDelayTarget": self.min_delay,
            "maxDelayTarget": self.max_delay,
            "backoffFunction": self.backoff,
        }
        made: dict[str, Any] = {"healthyRetryPolicy": retries}
        if self.max_rate is not None:
            made["throttlePolicy"] = {"maxReceivesPerSecond": self.max_rate}
        if self.content_type is not None:
            made["requestPolicy"] = {"headerContentType": self.content_type}
        return made


@dataclass(frozen=True, slots=True)
class EndpointSubscriptionSpec(DriverResource):
    """A subscription of one endpoint: exactly one of queue, url, function, firehose and email.

    SNS asks HTTP endpoints, e-mail addresses and the owners of other accounts' queues to confirm. Until they do, a plan
    shows the subscription as it is, "waits for confirmation"; it is not asked for again, and SNS forgets it after two
    days.

    Args:
        topic: the name of a declared topic, or the ARN of any, of another account or region too.
        queue: ARN of a queue of another account or region. Its policy has to let the topic send: it is changed where
            the queue is this account's.
        url: http or https.
        function: a Lambda function: its name or ARN.
        firehose: a delivery stream: its name or ARN.
        email: an address.
        as_json: mail the notification as JSON. E-mail only.
        filter: which messages pass; SNS evaluates it, so it has to be one that SNS can.
        raw: deliver messages as sent, without SNS's wrapping. Queues, URLs and Firehose only.
        delivery: how calls are retried. URLs only; default: the topic's.
        dead_letters: a declared queue for what cannot be delivered.
        role: ARN of the role with which SNS writes to Firehose; default: the one that is there, or one that is made.

    Raises:
        ConfigurationError: what Subscribe would refuse.
    """

    kind: ClassVar[str] = "subscription"
    rank: ClassVar[int] = 0

    topic: str
    queue: str | None = field(default=None, kw_only=True)
    url: str | None = field(default=None, kw_only=True)
    function: str | None = field(default=None, kw_only=True)
    firehose: str | None = field(default=None, kw_only=True)
    email: str | None = field(default=None, kw_only=True)
    as_json: bool = field(default=False, kw_only=True)
    filter: Filter | None = field(default=None, kw_only=True, compare=False)
    raw: bool = field(default=False, kw_only=True)
    delivery: HttpDelivery | None = field(default=None, kw_only=True)
    dead_letters: str | None = field(default=None, kw_only=True)
    role: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Validate the parameters."""
        check_name(self.topic, "topic")
        named = [kind for kind in _KINDS if getattr(self, kind) is not None]
        if len(named) != 1:
            raise ConfigurationError(
                f"a subscription must be of exactly one of {', '.join(_KINDS)}, got {', '.join(named) or 'none'}"
            )
        check_type(self.endpoint_kind, self.endpoint, str, "a str")
        self._check_endpoint()
        self._check_options()

    def _check_endpoint(self) -> None:
        kind, endpoint = self.endpoint_kind, self.endpoint
        if is_fifo(self.topic) and kind != "queue":
            raise ConfigurationError(f"subscription of {self.topic}: a FIFO topic delivers to queues only, got {kind}")
        if kind == "url" and not (urlsplit(endpoint).scheme in ("http", "https") and urlsplit(endpoint).netloc):
            raise ConfigurationError(f"url must begin with http:// or https://, got {endpoint!r}")
        if kind == "email" and not _EMAIL.fullmatch(endpoint):
            raise ConfigurationError(f"email must be an address, got {endpoint!r}")
        if kind == "queue" and not endpoint.startswith("arn:"):
            raise ConfigurationError(f"queue must be an ARN, got {endpoint!r}; declare your own in a SubscriptionSpec")

    def _check_options(self) -> None:
        kind = self.endpoint_kind
        of_one_kind = {"as_json": "email", "delivery": "url", "role": "firehose"}
        for parameter, only in of_one_kind.items():
            if getattr(self, parameter) and kind != only:
                raise ConfigurationError(f"{parameter} is for subscriptions {only}=..., got one of {kind}")
        if self.raw and kind not in _RAW:
            raise ConfigurationError(f"raw is for queues, URLs and Firehose, got a subscription of {kind}")
        if self.filter is not None and push_down(self.filter, "sns").pushed is None:
            raise ConfigurationError(f"filter of {self.endpoint} must be one that SNS evaluates: use a FilterPolicy")
        if self.role is not None and not self.role.startswith("arn:"):
            raise ConfigurationError(f"role must be the ARN of a role, got {self.role!r}")

    @property
    def endpoint_kind(self) -> EndpointKind:
        """Which of the parameters is given."""
        return next(kind for kind in _KINDS if getattr(self, kind) is not None)

    @property
    def endpoint(self) -> str:
        """As it was given."""
        return str(getattr(self, self.endpoint_kind))

    @property
    def name(self) -> str:  # type: ignore[override]
        """What tells it from other subscriptions of the topic: the last part of its ARN, its URL or its address."""
        if self.endpoint_kind in _PREFIXES and not self.endpoint.startswith("arn:"):
            return f"{_PREFIXES[self.endpoint_kind]}{self.endpoint}"
        return self.endpoint

    @property
    def protocol(self) -> str:
        """SNS's name of the kind of endpoint."""
        match self.endpoint_kind:
            case "queue":
                return "sqs"
            case "url":
                return urlsplit(self.endpoint).scheme
            case "function":
                return "lambda"
            case "email":
                return "email-json" if self.as_json else "email"
            case "firehose":
                return "firehose"

    @property
    @override
    def container(self) -> tuple[type, str]:
        return TopicSpec, self.topic
