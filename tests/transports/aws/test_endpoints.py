"""Services that cannot be reached, answer too soon, or have another time."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import gc
import socket
import warnings
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from aiobotocore.credentials import AioRefreshableCredentials
from aiobotocore.session import get_session
from botocore.exceptions import ClientError

from eip import Message
from eip._aws.client_calls import ClientCalls
from eip._aws.protocols import ServiceError
from eip.errors import AccessDenied, ConnectionLost, TransportError
from eip.stores.s3 import S3Objects
from eip.topology import QueueSpec, Topology
from eip.transports.aws import AwsTransport
from eip.transports.aws._client.errors import CredentialsStale
from eip.transports.aws._client.service_client import _FIRST_TIMEOUT_S
from tests.support.aws_stub import AwsStub, Refusal
from tests.support.timing import within


@contextlib.contextmanager
def swallowing():
    """An address that never lets anyone in: its backlog is full, so that the kernel drops what comes."""
    with socket.socket() as server, contextlib.ExitStack() as stack:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(server.getsockname())
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@contextlib.contextmanager
def silent():
    """An address that accepts and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(64)
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@contextlib.contextmanager
def nobody():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    yield f"http://127.0.0.1:{port}"


ADDRESSES = {"swallows": swallowing, "silent": silent, "nobody": nobody}


@pytest.fixture
def hurried(monkeypatch):
    """The bounds of a first contact, at a fifth."""
    monkeypatch.setattr("eip.transports.aws._client.service_client._FIRST_TIMEOUT_S", 1.8)
    monkeypatch.setattr("eip.transports.aws._client.service_client._CONNECT_TIMEOUT_S", 1.0)
    monkeypatch.setattr("eip.transports.aws._batch_dispatcher._UNREACHABLE_S", 0.8)


def test_a_first_contact_has_less_than_10_seconds():
    """Fault 41e: what `hurried` shortens below."""
    assert _FIRST_TIMEOUT_S < 10


@pytest.mark.usefixtures("hurried")
async def test_starting_at_an_endpoint_that_cannot_be_reached_ends_with_its_bound():
    """Faults 32 and 41e: the error names endpoint and region, and no session leaks."""
    with swallowing() as url, warnings.catch_warnings():
        warnings.simplefilter("error")
        with within(8), pytest.raises(ConnectionLost, match="cannot reach") as caught:
            async with AwsTransport(region="eu-central-1", endpoint_url=url):
                pytest.fail("it was opened")
        for word in (url, "eu-central-1", "sts GetCallerIdentity", "check"):
            assert word in str(caught.value)
        del caught
        gc.collect()


@pytest.mark.parametrize("kind", ADDRESSES)
@pytest.mark.usefixtures("hurried")
async def test_starting_and_using_an_endpoint_that_cannot_be_reached_has_a_bound(kind):
    """Fault 32: the transport, senders and receivers, with the channel's name."""
    with ADDRESSES[kind]() as url:
        async with AwsTransport(region="eu-central-1", account="1" * 12, endpoint_url=url) as aws:
            message: Message[Any] = Message({}, type="t", source="s")

            async def fails(use: Any, name: str) -> None:
                with within(8), pytest.raises(TransportError, match=name):
                    await use

            await asyncio.gather(
                fails(aws.queue("orders").send(message), "orders"),
                fails(aws.topic("news").send(message), "news"),
                fails(aws.bus("jobs").send(message), "jobs"),
                fails(aws.queue("orders").receiver().open(), "orders"),
                fails(AwsTransport(region="eu-central-1", endpoint_url=url).open(), url),
            )
            assert not aws.health().ok


@pytest.mark.aws
async def test_long_polls_that_end_at_once_are_paced(aws, caplog):
    """Fault 9d: a floor that grows, and one warning."""
    name = f"p{uuid4().hex[:12]}"
    await Topology(QueueSpec(name)).apply(aws)
    answer, calls = aws._client._answer, 0

    async def hasty(service: str, operation: str, parameters: dict[str, Any]) -> Any:
        nonlocal calls
        if operation != "ReceiveMessage":
            return await answer(service, operation, parameters)
        calls += 1
        return {}

    async with aws.queue(name).receiver() as receiver:
        aws._client._answer = hasty
        assert await receiver.receive(10, wait=3.0) == []
        assert 2 <= calls <= 8
        assert await receiver.receive(10, wait=3.0) == []
        assert calls <= 12
        assert await receiver.receive(10, wait=0.0) == []  # a look, which may end at once
        assert caplog.text.count("long_polls_end_at_once") == 1
        aws._client._answer = answer
        await aws.queue(name).send(Message(1))
        (delivery,) = await receiver.receive(1)
        await delivery.ack()


async def test_the_fast_path_takes_the_services_time_where_the_clocks_differ(monkeypatch):
    """Fault 41c: the refusal has the time; the call is signed again with it, and later ones at once."""
    async with AwsTransport(region="eu-central-1", account="1" * 12) as aws:
        lean = await aws._client._fast_client("sqs")
        assert lean is not None
        ahead = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
        signed: list[str] = []

        async def post(operation: str, body: bytes) -> dict[str, Any]:
            headers = lean._signed(operation, body, await lean._credentials.get_frozen_credentials())
            signed.append(headers["x-amz-date"])
            at = dt.datetime.strptime(signed[-1], "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)
            if abs(at - ahead) > dt.timedelta(minutes=5):
                raw = b'{"__type":"x#InvalidSignatureException","message":"Signature expired: it is too late"}'
                return lean.read(operation, raw, 403, {"date": format_datetime(ahead, usegmt=True)})
            return {"Successful": []}

        monkeypatch.setattr(lean, "_post", post)
        for _ in range(2):
            assert await aws._client.call("sqs", "DeleteMessageBatch", retry=False) == {"Successful": []}
        assert len(signed) == 3
        with pytest.raises(ServiceError):
            lean.read("X", b'{"__type":"ExpiredToken"}', 403, {})


KNOWN: dict[str, Any] = {"region": "eu-central-1", "account": "1" * 12}


class Renewed:
    """Credentials that the SDK believes to be valid for long, and what renews them."""

    def __init__(self) -> None:
        self.count = 0
        expiry = dt.datetime.now(dt.UTC) + dt.timedelta(hours=6)
        self.credentials = AioRefreshableCredentials("key0", "secret", "token0", expiry, self._renew, "tests")

    async def _renew(self) -> dict[str, str]:
        self.count += 1
        await asyncio.sleep(0)
        expiry = dt.datetime.now(dt.UTC) + dt.timedelta(hours=6)
        return {
            "access_key": f"key{self.count}",
            "secret_key": "secret",
            "token": f"token{self.count}",
            "expiry_time": expiry.isoformat(),
        }


@pytest.mark.parametrize("code", ["ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"])
async def test_an_expired_token_is_renewed_once_for_all_calls(code, monkeypatch):
    """By its own clock the SDK would keep the token; the service knows better."""
    async with AwsTransport(region="eu-central-1", account="1" * 12) as aws:
        lean = await aws._client._fast_client("sqs")
        assert lean is not None
        renewed = Renewed()
        lean._credentials = renewed.credentials

        async def post(operation: str, body: bytes) -> dict[str, Any]:
            token = lean._signed(operation, body, lean._frozen)["x-amz-security-token"]
            await asyncio.sleep(0)
            if token == "token0":
                raise ServiceError(code, "The security token included in the request is expired", 403)
            return {"Successful": []}

        monkeypatch.setattr(lean, "_post", post)
        calls = (aws._client.call("sqs", "DeleteMessageBatch", retry=False) for _ in range(5))
        assert await asyncio.gather(*calls) == [{"Successful": []}] * 5
        assert renewed.count == 1


@pytest.mark.parametrize("code", ["ExpiredTokenException", "UnrecognizedClientException", "InvalidClientTokenId"])
async def test_a_refused_token_is_renewed_for_the_calls_of_the_sdk_too(code):
    """Only hot calls had it renewed: all others failed until the SDK's own clock came to it, as long as the role's."""

    def answer(_: dict[str, Any]) -> dict[str, Any]:
        if stub.token == "token0":
            raise Refusal(code, "The security token included in the request is invalid")
        return {"Attributes": {}, "Table": {}}

    stub = AwsStub({"GetQueueAttributes": answer, "DescribeTable": answer})
    async with stub.client("sqs"):
        for service, operation in (("sqs", "GetQueueAttributes"), ("dynamodb", "DescribeTable")):
            session, renewed = get_session(), Renewed()
            session._credentials = renewed.credentials
            async with AwsTransport(**KNOWN, session=session, endpoint_url=stub.url) as aws:
                if service == "sqs":
                    await asyncio.gather(*(aws._client.call(service, operation, retry=False) for _ in range(5)))
                else:
                    await ClientCalls(await aws.client(service)).call(operation, {"TableName": "t"})
            assert renewed.count == 1


async def test_objects_of_s3_are_asked_for_again_with_a_renewed_token():
    class Client:
        def __init__(self, credentials: AioRefreshableCredentials) -> None:
            self._request_signer = SimpleNamespace(_credentials=credentials)

        async def delete_object(self, **_: Any) -> None:
            if (await self._request_signer._credentials.get_frozen_credentials()).token == "token0":
                raise ClientError({"Error": {"Code": "InvalidToken", "Message": "no"}}, "DeleteObject")

    await S3Objects(Client(Renewed().credentials), "b").delete("b", "k")


async def test_credentials_are_not_renewed_at_every_call_of_a_service_that_refuses_all():
    def refuse(_: dict[str, Any]) -> None:
        raise Refusal("ExpiredTokenException", "expired")

    session, renewed = get_session(), Renewed()
    session._credentials = renewed.credentials
    stub = AwsStub({"GetQueueAttributes": refuse})
    async with stub.client("sqs"), AwsTransport(**KNOWN, session=session, endpoint_url=stub.url) as aws:
        for _ in range(3):
            with pytest.raises(CredentialsStale):
                await aws._client.call("sqs", "GetQueueAttributes", retry=False)
    assert renewed.count == 1


async def test_credentials_may_come_after_the_first_call(monkeypatch):
    """A client that was made without them failed for ever: the place they come from was not there yet."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    stub = AwsStub({"GetQueueAttributes": lambda _: {"Attributes": {}}})
    session = get_session()
    async with stub.client("sqs"), AwsTransport(**KNOWN, session=session, endpoint_url=stub.url) as aws:
        with pytest.raises(AccessDenied, match="no AWS credentials were found"):
            await aws._client.call("sqs", "GetQueueAttributes")
        session.set_credentials("key", "secret")
        assert (await aws._client.call("sqs", "GetQueueAttributes"))["Attributes"] == {}


async def test_a_token_that_stays_expired_is_an_error_after_one_renewal(monkeypatch):
    async with AwsTransport(region="eu-central-1", account="1" * 12) as aws:
        lean = await aws._client._fast_client("sqs")
        assert lean is not None
        renewed = Renewed()
        for credentials, renewals in ((renewed.credentials, 1), (lean._credentials, 1)):  # the second cannot be renewed
            lean._credentials = credentials

            async def post(*_: object) -> dict[str, Any]:
                raise ServiceError("ExpiredToken", "expired", 403)

            monkeypatch.setattr(lean, "_post", post)
            with pytest.raises(CredentialsStale):
                await aws._client.call("sqs", "DeleteMessageBatch", retry=False)
            assert renewed.count == renewals


@pytest.mark.aws
async def test_acks_are_tried_again_while_the_token_is_expired(aws):
    """Fault 41c: with an expired token for a moment, the message is acknowledged in the end."""
    name = f"t{uuid4().hex[:12]}"
    await Topology(QueueSpec(name, visibility=30)).apply(aws)
    queue = aws.queue(name)
    await queue.send(Message(1))
    answer, refusals = aws._client._answer, [("ExpiredToken", 403), ("429", 429), ("RequestTimeTooSkewed", 403)]

    async def expired(service: str, operation: str, parameters: dict[str, Any]) -> Any:
        if operation == "DeleteMessageBatch" and refusals:
            code, status = refusals.pop()
            raise ServiceError(code, "", status)
        return await answer(service, operation, parameters)

    async with queue.receiver() as receiver:
        (delivery,) = await receiver.receive(1)
        aws._client._answer = expired
        await delivery.ack()
    assert not refusals
    assert sum((await queue.depth()).values()) == 0
