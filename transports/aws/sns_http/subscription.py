"""An HTTP(S) subscriber of SNS topics: confirms its subscription, verifies signatures, and is a source of messages.

    offers = SnsHttpSubscription(["arn:aws:sns:eu-central-1:123456789012:offers"])
    app = Starlette(routes=[Route("/sns/offers", offers)], lifespan=...)     # where SNS posts to
    Consumer(offers, handle)                                                # the same handler as on a queue

SNS gets 200 once the message is handled, and 503 where it is to come again: SNS repeats it by the subscription's
delivery policy, then moves it to the subscription's dead-letter queue. Delivery is at-least-once.

Source: SNS Developer Guide, "Fanout Amazon SNS notifications to HTTPS endpoints", 2026.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import override

from eip import clock
from eip._checks import check_duration, check_integer
from eip._http import RequestRefused, problem, read_body
from eip._logging import get_logger
from eip.channels import Receiver, Source
from eip.clock import Duration
from eip.codec import JSON, Codec, check_codec
from eip.errors import ConfigurationError, error_text
from eip.limits import MIB
from eip.transports.aws._reading import read_message
from eip.transports.aws.sns_http._certificates import Certificates, Fetch, fetch_url
from eip.transports.aws.sns_http._documents import check_url, document_of, is_confirmation_url
from eip.transports.aws.sns_http._inbox import Inbox, InboxReceiver

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

__all__ = ["SnsHttpSubscription"]

_log = get_logger("eip.sns_http")

_TOPIC: Final = re.compile(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}")
_MAX_BODY: Final = 2 * MIB
"""Bytes: 256 KiB, whose characters JSON may escape."""
_MAX_TIMEOUT_S: Final = 15.0
"""Seconds that SNS waits for an answer (Developer Guide, "HTTP/S endpoints")."""
_MAX_SEEN: Final = 10_000
_RAW: Final = "x-amz-sns-rawdelivery"


class SnsHttpSubscription(Source):
    """The endpoint of HTTP(S) subscriptions: an ASGI application, and a source for consumers in the same process.

    Args:
        topics: ARNs of the topics that may post here; others are refused.
        timeout: seconds until SNS is answered, up to 15: a message that is not done by then comes again, and its
            handler is cancelled.
        max_age: seconds since a message was published, after which it is refused; SNS repeats one for about an hour.
            Within that time a message that is done is not handled a second time by this process.
        max_waiting: messages that wait or are handled at once; more come again.
        signature_versions: which are taken: 1 (SHA-1), 2 (SHA-256). Set the topic's to 2 and take that one only.
        codec: decodes the bodies of foreign producers.
        fetch: gets certificates and confirms subscriptions; default: by HTTPS.

    Raises:
        ConfigurationError: a value out of range, or what is no ARN of a standard topic.
    """

    def __init__(
        self,
        topics: Sequence[str],
        *,
        timeout: Duration = 13.0,
        max_age: Duration = 3600.0,
        max_waiting: int = 100,
        signature_versions: Collection[int] = (1, 2),
        codec: Codec = JSON,
        fetch: Fetch = fetch_url,
    ) -> None:
        wrong = [each for each in topics if not _TOPIC.fullmatch(each)]
        if wrong or not topics or isinstance(topics, str):
            raise ConfigurationError(f"topics must be ARNs of standard topics, got {topics!r:.200}")
        if not signature_versions or not set(signature_versions) <= {1, 2}:
            raise ConfigurationError(f"signature_versions must be of 1 and 2, got {signature_versions!r}")
        self._topics = frozenset(topics)
        self.name = ",".join(sorted(each.rpartition(":")[2] for each in topics))
        self._timeout = check_duration("timeout", timeout, positive=True, most=_MAX_TIMEOUT_S)
        self._max_age = check_duration("max_age", max_age, positive=True)
        check_codec(codec)
        self._codec, self._fetch = codec, fetch
        self._inbox = Inbox(self.name, check_integer("max_waiting", max_waiting, least=1))
        self._certificates = Certificates(fetch, signature_versions)
        self._done: OrderedDict[str, float] = OrderedDict()
        """Ids of messages that are done, and until when they are kept."""

    @override
    def receiver(self, *, capacity: int = 10) -> Receiver:
        return InboxReceiver(self._inbox, capacity)

    @property
    def depth(self) -> int:
        """Messages that wait or are handled."""
        return self._inbox.held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            response = await self._answer(Request(scope, receive))
        except RequestRefused as refused:
            _log.warning("request_refused", channel=self.name, status=refused.status, reason=refused.reason)
            response = problem(refused)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if request.method != "POST":
            raise RequestRefused(405, "SNS sends with POST", {"Allow": "POST"})
        if request.headers.get(_RAW, "").lower() == "true":
            raise RequestRefused(403, "raw messages are not signed: turn raw delivery off for this subscription")
        body = await read_body(request, limit=_MAX_BODY, timeout=self._timeout)
        document = document_of(body, topics=self._topics, max_age=self._max_age)
        await self._certificates.verify(document)
        match document["Type"]:
            case "SubscriptionConfirmation":
                await self._confirm(document)
            case "UnsubscribeConfirmation":
                _log.warning("unsubscribed", channel=self.name, topic=document["TopicArn"])
            case _:
                await self._handle(document["MessageId"], body)
        return Response(status_code=200)

    async def _confirm(self, document: Mapping[str, str]) -> None:
        """Confirm the subscription, of a topic that may post here, by the URL that SNS gave."""
        check_url("SubscribeURL", document["SubscribeURL"], document["TopicArn"])
        if not is_confirmation_url(document):
            raise RequestRefused(403, "SubscribeURL must confirm this subscription")
        try:
            await self._fetch(document["SubscribeURL"])
        except Exception as error:
            _log.error("subscription_not_confirmed", topic=document["TopicArn"], error=error_text(error))
            raise _again("the subscription cannot be confirmed now") from error
        _log.info("subscription_confirmed", topic=document["TopicArn"])

    async def _handle(self, identity: str, body: bytes) -> None:
        """Have the message handled; raises `RequestRefused` where it is to come again."""
        if identity in self._done:
            return
        message, error = read_message(identity, body.decode(), {}, {}, codec=self._codec)
        done = await self._inbox.outcome(message, error, seconds=self._timeout)
        if done is None:
            raise _again("nobody can take the message now")
        if not done:
            raise _again("the message is not done")
        self._remember(identity)

    def _remember(self, identity: str) -> None:
        """Keep the id for as long as its message would be taken: a replay of it is not handled."""
        now = clock.now()
        self._done[identity] = now + self._max_age
        while self._done and (len(self._done) > _MAX_SEEN or next(iter(self._done.values())) < now):
            self._done.popitem(last=False)


def _again(reason: str) -> RequestRefused:
    return RequestRefused(503, reason, {"Retry-After": "5"})
