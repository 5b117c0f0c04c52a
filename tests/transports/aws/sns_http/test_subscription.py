"""SNS over HTTP: only what SNS signed, fresh and of an expected topic, reaches a handler; SNS learns the outcome."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from starlette.applications import Starlette
from starlette.routing import Route

from eip import Consumer, Message, clock, running
from eip.errors import ConfigurationError, ConnectionLost, Reject
from eip.transports.aws import SnsHttpSubscription
from eip.transports.aws.sns_http._certificates import fetch_url
from eip.transports.aws.sns_http._documents import service_host, signed_text
from tests.support.lambda_events import Recorder

TOPIC = "arn:aws:sns:eu-central-1:123456789012:offers"
CERTIFICATE = "https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-0123abcd.pem"
FIRST, SECOND = hashes.SHA1(), hashes.SHA256()


class Sns:
    """Signs as SNS does, with a certificate made here, and answers requests for it."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.pem = self.certificate(self.key)
        self.asked: list[str] = []
        self.fails: Exception | None = None

    @staticmethod
    def certificate(key: Any, *, ends: timedelta = timedelta(days=1)) -> bytes:
        name, at = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")]), datetime.now(UTC)
        made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        made = made.serial_number(1).not_valid_before(at - timedelta(days=2)).not_valid_after(at + ends)
        return made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)

    async def fetch(self, url: str) -> bytes:
        self.asked.append(url)
        if self.fails is not None:
            raise self.fails
        return self.pem

    def sign(self, document: dict[str, Any]) -> dict[str, Any]:
        digest = FIRST if document["SignatureVersion"] == "1" else SECOND
        signature = self.key.sign(signed_text(document), padding.PKCS1v15(), digest)
        return {**document, "Signature": b64encode(signature).decode()}

    def notification(self, body: str = '{"n": 1}', *, version: str = "2", **changed: Any) -> dict[str, Any]:
        document = {
            "Type": "Notification",
            "MessageId": "m1",
            "TopicArn": TOPIC,
            "Subject": "an offer",
            "Message": body,
            "Timestamp": datetime.fromtimestamp(clock.now(), UTC).isoformat(timespec="milliseconds"),
            "SignatureVersion": version,
            "SigningCertURL": CERTIFICATE,
            "UnsubscribeURL": "https://sns.eu-central-1.amazonaws.com/?Action=Unsubscribe",
            **changed,
        }
        return self.sign({name: value for name, value in document.items() if value is not ...})

    def confirmation(self, **changed: Any) -> dict[str, Any]:
        query = urlencode({"Action": "ConfirmSubscription", "TopicArn": TOPIC, "Token": "t"})
        given = {
            "Type": "SubscriptionConfirmation",
            "Token": "t",
            "SubscribeURL": f"https://sns.eu-central-1.amazonaws.com/?{query}",
            "Subject": ...,
        }
        return self.notification("You have chosen to subscribe", **{**given, **changed})


@pytest.fixture(scope="module")
def keys():
    """An RSA key takes a while to make."""
    return Sns()


@pytest.fixture
def sns(keys):
    keys.asked, keys.fails, keys.pem = [], None, keys.certificate(keys.key)
    return keys


async def post(app: Any, document: Any, **headers: str) -> httpx.Response:
    mounted = Starlette(routes=[Route("/sns", app)])
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(mounted), base_url="http://endpoint") as http:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await http.post("/sns", content=content, headers={"content-type": "text/plain; charset=UTF-8", **named})


def endpoint(sns: Sns, **options: Any) -> SnsHttpSubscription:
    return SnsHttpSubscription([TOPIC], **{"fetch": sns.fetch, **options})


class Seen:
    def __init__(self, error: Exception | None = None) -> None:
        self.messages: list[Message] = []
        self._error = error

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)
        if self._error is not None:
            raise self._error


@pytest.mark.parametrize("version", ["1", "2"])
async def test_a_signed_notification_is_handled_like_any_message(sns, version):
    app, seen = endpoint(sns), Seen()
    attributes = {"kind": {"Type": "String", "Value": "ride"}, "price": {"Type": "Number", "Value": "7"}}
    async with running(Consumer(app, seen)):
        answer = await post(app, sns.notification(version=version, MessageAttributes=attributes))
    assert answer.status_code == 200
    (message,) = seen.messages
    assert (message.body, message.id, message.attributes) == ({"n": 1}, "m1", {"kind": "ride", "price": 7})
    assert message.headers["subject"] == "an offer"


async def test_the_same_certificate_is_fetched_once(sns):
    app = endpoint(sns)
    async with running(Consumer(app, Seen())):
        answers = await asyncio.gather(*(post(app, sns.notification(MessageId=f"m{n}", Subject=...)) for n in range(5)))
    assert {each.status_code for each in answers} == {200}
    assert sns.asked == [CERTIFICATE]


async def test_a_certificate_that_is_kept_does_not_wait_for_those_of_strangers(sns):
    """Anybody may name a certificate that SNS never answers for."""
    asked, stranger = asyncio.Event(), CERTIFICATE.replace("0123", "dead")

    async def fetch(url: str) -> bytes:
        if url == stranger:
            asked.set()
            await asyncio.Event().wait()
        return await sns.fetch(url)  # type: ignore[no-any-return]

    app = endpoint(sns, fetch=fetch)
    async with running(Consumer(app, Seen())):
        assert (await post(app, sns.notification())).status_code == 200
        forged = asyncio.create_task(post(app, sns.notification(SigningCertURL=stranger)))
        await asked.wait()
        async with asyncio.timeout(20):
            assert (await post(app, sns.notification(MessageId="m2"))).status_code == 200
        forged.cancel()


CHANGED: list[tuple[str, dict[str, Any], int]] = [
    ("another body", {"Message": '{"n": 2}'}, 403),
    ("another subject", {"Subject": "another"}, 403),
    ("no subject", {"Subject": None}, 403),
    ("another id", {"MessageId": "m2"}, 403),
    ("another topic", {"TopicArn": TOPIC + "2"}, 403),
    ("another time", {"Timestamp": "2020-01-01T00:00:00.000Z"}, 403),
    ("no time", {"Timestamp": "yesterday"}, 400),
    ("another version", {"SignatureVersion": "1"}, 403),
    ("an unknown version", {"SignatureVersion": "3"}, 403),
    ("no signature", {"Signature": None}, 400),
    ("an empty signature", {"Signature": ""}, 403),
    ("no base64", {"Signature": "ü!"}, 403),
    ("another type", {"Type": "SubscriptionConfirmation"}, 400),
    ("an unknown type", {"Type": "Order"}, 400),
    ("a body that is no text", {"Message": {"n": 1}}, 400),
    ("no certificate", {"SigningCertURL": None}, 400),
]
URLS = (
    "http://sns.eu-central-1.amazonaws.com/SimpleNotificationService-0.pem",
    "https://sns.eu-central-1.amazonaws.com.evil.example/SimpleNotificationService-0.pem",
    "https://evil.example/SimpleNotificationService-0.pem",
    "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0.pem",
    "https://sns.eu-central-1.amazonaws.com@evil.example/SimpleNotificationService-0.pem",
    "https://sns.eu-central-1.amazonaws.com:8443/SimpleNotificationService-0.pem",
    "https://evil.s3.amazonaws.com/SimpleNotificationService-0.pem",
    "https://sns.eu-central-1.amazonaws.com/bucket/mine.pem",
    "https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-0.pem?x=https://evil.example",
    "https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-0.pem\r\nHost: evil.example",
    "https://[::1/SimpleNotificationService-0.pem",
    "file:///etc/passwd",
    "",
)


@pytest.mark.parametrize(("change", "status"), [each[1:] for each in CHANGED], ids=[each[0] for each in CHANGED])
async def test_what_was_changed_under_way_reaches_nobody(sns, change, status):
    app, seen = endpoint(sns), Seen()
    async with running(Consumer(app, seen)):
        assert (await post(app, {**sns.notification(), **change})).status_code == status
    assert seen.messages == []


@pytest.mark.parametrize("url", URLS)
async def test_a_certificate_of_another_place_is_not_even_asked_for(sns, url):
    """Otherwise anybody signs with a certificate of their own, or makes this endpoint call what it should not."""
    app, seen = endpoint(sns), Seen()
    async with running(Consumer(app, seen)):
        assert (await post(app, sns.notification(SigningCertURL=url))).status_code == 403
    assert (seen.messages, sns.asked) == ([], [])


async def test_a_signature_of_another_key_and_a_certificate_that_is_none_are_refused(sns):
    seen = Seen()
    for pem in (
        Sns.certificate(rsa.generate_private_key(public_exponent=65537, key_size=2048)),
        Sns.certificate(sns.key, ends=timedelta(days=-1)),
        Sns.certificate(ec.generate_private_key(ec.SECP256R1())),
        b"no certificate",
        b"",
    ):
        sns.pem = pem
        app = endpoint(sns)
        async with running(Consumer(app, seen)):
            assert (await post(app, sns.notification())).status_code == 403
    assert seen.messages == []


async def test_while_the_certificate_cannot_be_fetched_sns_is_asked_to_come_again(sns):
    app, seen = endpoint(sns), Seen()
    async with running(Consumer(app, seen)):
        sns.fails = ConnectionLost("away")
        assert (await post(app, sns.notification())).status_code == 503
        sns.fails = None
        assert (await post(app, sns.notification())).status_code == 200
    assert len(seen.messages) == 1


async def test_an_old_notification_is_refused_and_one_that_is_done_is_not_handled_a_second_time(sns):
    app, seen = endpoint(sns, max_age=600), Seen()
    at = datetime.now(UTC)
    async with running(Consumer(app, seen)):
        fresh = sns.notification(Timestamp=(at - timedelta(minutes=9)).isoformat())
        assert [(await post(app, fresh)).status_code for _ in range(2)] == [200, 200]
        for wrong in (at - timedelta(minutes=11), at + timedelta(minutes=6)):
            assert (await post(app, sns.notification(MessageId="m2", Timestamp=wrong.isoformat()))).status_code == 403
    assert len(seen.messages) == 1


async def test_only_the_newer_signatures_are_taken_where_that_is_wanted(sns):
    app = endpoint(sns, signature_versions=[2])
    async with running(Consumer(app, Seen())):
        assert (await post(app, sns.notification(version="1"))).status_code == 403
        assert (await post(app, sns.notification(version="2"))).status_code == 200


# What becomes of a message.


async def test_what_failed_comes_again_and_what_can_never_be_handled_is_put_aside(sns):
    app = endpoint(sns)
    async with running(Consumer(app, Seen(ValueError("no")), local_retries=0)):
        answer = await post(app, sns.notification())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    dead = Recorder()
    async with running(Consumer(app, Seen(Reject("never")), dead_letters=dead)):
        assert (await post(app, sns.notification())).status_code == 200
    assert dead.sent[0].headers["dead-letter-reason"] == "Reject: never"


async def test_a_message_that_cannot_be_read_is_put_aside_with_its_bytes(sns):
    async def take(number: int) -> None: ...

    dead = Recorder()
    app = endpoint(sns)
    async with running(Consumer(app, take, dead_letters=dead)):
        assert (await post(app, sns.notification("no number"))).status_code == 200
    assert dead.sent[0].encode() == b"no number"


async def test_a_handler_that_takes_too_long_is_cancelled_and_its_message_comes_again(sns):
    cancelled = asyncio.Event()

    async def slow(message: Message) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    app = endpoint(sns, timeout=0.2)
    async with running(Consumer(app, slow, local_retries=0)):
        while not cancelled.is_set():  # on a busy machine the time may be over before the handler has begun
            assert (await post(app, sns.notification())).status_code == 503
            await asyncio.sleep(0)


async def test_with_no_consumer_or_no_room_sns_is_asked_to_come_again(sns):
    app, gate = endpoint(sns, max_waiting=2), asyncio.Event()
    assert (await post(app, sns.notification())).status_code == 503

    async def wait(message: Message) -> None:
        await gate.wait()

    async with running(Consumer(app, wait, concurrency=1)):
        waiting = [asyncio.create_task(post(app, sns.notification(MessageId=f"w{n}"))) for n in range(2)]
        async with asyncio.timeout(5):
            while app.depth < 2:
                await asyncio.sleep(0)
        assert (await post(app, sns.notification(MessageId="w3"))).status_code == 503
        gate.set()
        assert [each.status_code for each in await asyncio.gather(*waiting)] == [200, 200]
    assert (await post(app, sns.notification())).status_code == 503, "the consumer has stopped"


async def test_what_waits_when_the_consumer_stops_comes_again(sns):
    app = endpoint(sns)

    async def wait(message: Message) -> None:
        await asyncio.Event().wait()

    consumer = Consumer(app, wait, concurrency=1, grace=0)
    async with running(consumer):
        waiting = [asyncio.create_task(post(app, sns.notification(MessageId=f"w{n}"))) for n in range(3)]
        async with asyncio.timeout(5):
            while app.depth < 3:
                await asyncio.sleep(0)
    assert [each.status_code for each in await asyncio.gather(*waiting)] == [503, 503, 503]


# Subscriptions.


async def test_a_subscription_of_an_expected_topic_is_confirmed(sns):
    confirmation = sns.confirmation()
    assert (await post(endpoint(sns), confirmation)).status_code == 200
    assert sns.asked == [CERTIFICATE, confirmation["SubscribeURL"]]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"TopicArn": TOPIC + "2"}, 403),
        ({"SubscribeURL": "https://evil.example/?Action=ConfirmSubscription"}, 403),
        ({"SubscribeURL": "https://sns.eu-central-1.amazonaws.com/?Action=Unsubscribe"}, 403),
        ({"SubscribeURL": "https://sns.eu-central-1.amazonaws.com/?Action=ConfirmSubscription&Token=other"}, 403),
        ({"Token": None}, 400),
    ],
)
async def test_a_confirmation_of_another_topic_or_place_is_refused(sns, change, status):
    """Signed by SNS as well: anybody may have a topic and subscribe this endpoint to it."""
    document = sns.confirmation(**{name: value for name, value in change.items() if value is not None})
    assert (await post(endpoint(sns), {**document, **change})).status_code == status
    assert [url for url in sns.asked if url != CERTIFICATE] == []


async def test_a_confirmation_that_sns_does_not_take_comes_again(sns):
    calls = 0

    async def fetch(url: str) -> Any:
        nonlocal calls
        calls += 1
        if url != CERTIFICATE and calls < 3:
            raise ConnectionLost("away")
        return await sns.fetch(url)

    app = endpoint(sns, fetch=fetch)
    assert [(await post(app, sns.confirmation())).status_code for _ in range(2)] == [503, 200]


async def test_the_end_of_a_subscription_is_only_noted(sns):
    assert (await post(endpoint(sns), sns.confirmation(Type="UnsubscribeConfirmation"))).status_code == 200
    assert sns.asked == [CERTIFICATE]


# Requests.


async def test_raw_deliveries_cannot_be_verified_and_are_refused(sns):
    answer = await post(endpoint(sns), b"{}", x_amz_sns_rawdelivery="true")
    assert answer.status_code == 403
    assert "raw" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"no json", 400),
        (b"[]", 400),
        (b"\xff", 400),
        (b"7", 400),
        (b"[" * 100_000, 400),
        (b"x" * 3_000_000, 413),
    ],
    ids=["empty", "text", "list", "bytes", "number", "deep", "large"],
)
async def test_what_is_no_document_of_sns_is_refused(sns, body, status):
    assert (await post(endpoint(sns), body)).status_code == status


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"topics": []}, "topics must be"),
        ({"topics": ["offers"]}, "topics must be"),
        ({"topics": [TOPIC + ".fifo"]}, "topics must be"),
        ({"timeout": 16}, "timeout must be"),
        ({"max_age": 0}, "max_age must be"),
        ({"max_waiting": 0}, "max_waiting must be"),
        ({"signature_versions": [3]}, "signature_versions must be"),
        ({"signature_versions": []}, "signature_versions must be"),
    ],
)
def test_options_that_cannot_be_are_refused(options, text):
    with pytest.raises(ConfigurationError, match=text):
        SnsHttpSubscription(**{"topics": [TOPIC], **options})


def test_china_has_hosts_of_its_own():
    assert service_host("arn:aws-cn:sns:cn-north-1:123456789012:t") == "sns.cn-north-1.amazonaws.com.cn"


@pytest.mark.parametrize("path", ["/redirect", "/missing", "/large"])
async def test_a_certificate_comes_directly_and_is_small(path, plain_server):
    """Over plain HTTP here; the URL's scheme is checked before."""
    assert await fetch_url(f"{plain_server}/certificate") == b"pem"
    with pytest.raises(ConnectionLost):
        await fetch_url(plain_server + path)
    with pytest.raises(ConnectionLost):
        await fetch_url("http://127.0.0.1:9/")


@pytest.fixture
async def plain_server():
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readline()).split()[1].decode()
        while await reader.readline() not in (b"\r\n", b""):
            pass
        status, headers, body = {
            "/certificate": (200, "", b"pem"),
            "/redirect": (302, "Location: /certificate\r\n", b""),
            "/large": (200, "", b"x" * 70_000),
        }.get(path, (404, "", b""))
        head = f"HTTP/1.1 {status} X\r\n{headers}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
