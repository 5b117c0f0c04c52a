"""Requests of strangers: an adapter answers each with a status of its own, and takes in nothing that nobody signed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

from hypothesis import strategies as st

from eip import Message
from eip.channels import Sender
from eip.patterns import HmacSignature, Webhook
from eip.stores import MemoryStore
from eip.transports.aws import SnsHttpSubscription
from tests.fuzz import bounded_time, fuzz, mutated, odd_json, odd_text
from tests.transports.aws.sns_http.test_subscription import TOPIC, Sns

SNS = Sns()
SIGNED = SNS.notification()
FIELDS = tuple(SIGNED)
SIGNATURE = HmacSignature("0123456789abcdef")
HEADERS = (b"content-type", b"content-length", b"idempotency-key", b"x-hub-signature-256", b"x-amz-sns-rawdelivery")


class Kept(Sender):
    name = address = "kept"

    def __init__(self) -> None:
        self.sent: list[Message] = []

    async def send(self, *messages: Message[Any]) -> None:
        self.sent += messages


async def status_of(app: Any, body: bytes, headers: list[tuple[bytes, bytes]]) -> int:
    """One request by ASGI's own events."""
    requests, answers = asyncio.Queue[Any](), asyncio.Queue[Any]()
    requests.put_nowait({"type": "http.request", "body": body})
    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}
    await app(scope, requests.get, answers.put)
    return int(answers.get_nowait()["status"])


def answered(request: Coroutine[Any, Any, int]) -> int:
    with bounded_time():
        return asyncio.run(request)


@fuzz(
    mutated([json.dumps(SIGNED).encode()]) | odd_json(*FIELDS).map(lambda value: json.dumps(value).encode()), short=60
)
def test_an_odd_document_of_sns_is_refused(raw):
    """Nobody consumes: what passes all checks, as only the unchanged one does, is answered with 503."""
    status = answered(status_of(SnsHttpSubscription([TOPIC], max_age=86_400, fetch=SNS.fetch), raw, []))
    same = _parsed(raw) == SIGNED
    assert status == 503 if same else status in (400, 403)


@fuzz(st.sampled_from(FIELDS), odd_json(), short=60)
def test_a_document_with_one_odd_field_is_refused(field, value):
    document = {**SIGNED, field: value}
    if value == SIGNED[field] or field == "UnsubscribeURL":  # which is not signed, and not used
        return
    status = answered(
        status_of(SnsHttpSubscription([TOPIC], max_age=86_400, fetch=SNS.fetch), json.dumps(document).encode(), [])
    )
    assert status in (400, 403)


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


headers = st.lists(
    st.tuples(st.sampled_from(HEADERS), odd_text.map(lambda text: text.encode("utf-8", "replace")) | st.binary()),
    max_size=4,
)


@fuzz(mutated([b'{"n": 1}', b"text"]), headers, short=60)
def test_an_odd_request_is_stored_as_it_came_or_refused(body, given):
    kept = Kept()
    status = answered(status_of(Webhook(kept, authenticate=None, store=MemoryStore()), body, given))
    assert status in (202, 400, 413)
    assert [each.encode() for each in kept.sent] == ([body] if status == 202 else [])


@fuzz(mutated([b'{"n": 1}']), headers, short=60)
def test_an_odd_signature_lets_nobody_in(body, given):
    kept = Kept()
    app = Webhook(kept, authenticate=SIGNATURE)
    assert answered(status_of(app, body, given)) in (401, 413)
    assert kept.sent == []
