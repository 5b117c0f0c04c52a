"""Claim checks on a bus, whose bodies are objects: the URL of an object in place of the body, ours and of partners."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from eip import Message
from eip.channels import SenderDecorator
from eip.codec import load_json
from eip.errors import InvalidMessage, Reject
from eip.patterns._claims import Claim, claim_of
from eip.patterns.claim_check import SIZE_ATTRIBUTE, ClaimCheckSender, claim_checked
from eip.stores.objects import MemoryObjects
from eip.topology import BusSpec, RuleSpec, Topology
from eip.transports.memory import MemoryTransport
from tests.patterns.test_claim_check import Recorder

LARGE = {"lines": ["x" * 1000] * 300}


def event(body: Any, **envelope: Any) -> Message[Any]:
    return Message(body, type="Order", source="shop", **envelope)


@pytest.mark.parametrize("wrap", [lambda bus: bus, SenderDecorator], ids=["bus", "decorated bus"])
async def test_a_bus_carries_claims_both_ways(wrap):
    objects, handler = MemoryObjects("claims"), Recorder()
    async with MemoryTransport() as memory:
        await Topology(BusSpec("b"), RuleSpec("b", "r")).apply(memory)
        sender = ClaimCheckSender(wrap(memory.bus("b")), objects, threshold=256 * 1024, prefix="orders/")
        small, large = event({"small": True}), event(LARGE, attributes={"kind": "order"})
        await sender.send(small, large)
        source = memory.bus("b").subscription("r")
        async with source.receiver() as receiver:
            received = [each.message for each in await receiver.receive(10)]
    (key,) = objects.objects
    size = len(objects.objects[key])
    assert key.startswith("orders/")
    assert load_json(objects.objects[key]) == LARGE
    assert received[0].body == {"small": True}
    assert received[1].body == {"payload_url": f"s3://claims/{key}", "payload_size_bytes": size}
    assert received[1].attributes == {"kind": "order", SIZE_ATTRIBUTE: size}
    handle = claim_checked(objects, prefix="orders/")(handler)
    for message in received:
        await handle(message)
    assert [each.body for each in handler.messages] == [small.body, LARGE]
    assert [each.id for each in handler.messages] == [small.id, large.id]
    assert handler.messages[1].attributes == {"kind": "order"}


async def test_the_default_threshold_of_a_bus_is_its_limit_and_what_it_refuses_leaves_no_object():
    objects = MemoryObjects()
    async with MemoryTransport() as memory:
        sender = ClaimCheckSender(memory.bus("b"), objects)
        await sender.send(event(LARGE))
        assert not objects.objects
        await sender.send(event({"x": "x" * 2**20}))
        assert len(objects.objects) == 1
        with pytest.raises(InvalidMessage):
            await sender.send(Message({"x": "x" * 2**20}, type="no source"))
        assert len(objects.objects) == 1


URLS = {
    "s3://claims/a/b c%20+.json": "a/b c%20+.json",
    "https://claims.s3.amazonaws.com/a%20b/c": "a b/c",
    "https://claims.s3.eu-central-1.amazonaws.com/k?X-Amz-Signature=0&X-Amz-Expires=300": "k",
    "https://claims.s3-us-west-2.amazonaws.com/k#part": "k",
    "https://claims.s3.dualstack.ap-southeast-1.amazonaws.com/%C3%BC": "ü",
    "https://CLAIMS.S3.US-GOV-WEST-1.amazonaws.com/k": "k",
    "https://claims.s3.cn-north-1.amazonaws.com.cn/k": "k",
    "https://s3.eu-central-1.amazonaws.com/claims/a/b": "a/b",
    "https://s3.amazonaws.com/claims/k": "k",
    "http://127.0.0.1:4566/claims/k": "k",
    "https://storage.example/claims/k": "k",
}


def partners(url: Any) -> Message[Any]:
    return event({"payload_url": url, "payload_size_bytes": 2})


@pytest.mark.parametrize("url", URLS)
async def test_the_url_of_an_object_is_fetched_from_the_storage(url):
    objects, handler = MemoryObjects("claims"), Recorder()
    await objects.put(URLS[url], b'{"from": "partner"}')
    handle = claim_checked(objects, url_key="payload_url", hosts=["127.0.0.1:4566", "Storage.example"])(handler)
    await handle(partners(url))
    assert handler.messages[0].body == {"from": "partner"}


REFUSED = [
    "s3://other/k",
    "s3://claims",
    "s3://claims/",
    "s3:///k",
    "s3://claims/a/../k",
    "https://other.s3.amazonaws.com/k",
    "https://s3.amazonaws.com/other/k",
    "https://claims.s3.amazonaws.com/",
    "http://claims.s3.amazonaws.com/k",
    "https://claims.s3.amazonaws.com.evil.example/k",
    "https://evil.example/claims/k",
    "https://s3.amazonaws.com@evil.example/claims/k",
    "https://evil.example@s3.amazonaws.com/claims/k",
    "https://claims.s3.amazonaws.com:8443/k",
    "https://127.0.0.1:4567/claims/k",
    "http://169.254.169.254/latest/meta-data",
    "http://[::1]:4566/claims/k",
    "http://[broken/claims/k",
    "https://s3.amazonaws.com:x/claims/k",
    "https://s3.amazonaws.com/claims/%ff",
    "https://s3.amazonaws.com/claims/a%2F..%2Fk",
    "file:///etc/passwd",
    "ftp://127.0.0.1:4566/claims/k",
    "//s3.amazonaws.com/claims/k",
    "k",
    "",
]


@pytest.mark.parametrize("url", REFUSED)
async def test_a_url_of_anything_else_is_rejected_unread(url):
    class Untouched(MemoryObjects):
        async def get(self, bucket: str, key: str, *, limit: int) -> bytes | None:
            raise AssertionError((bucket, key))

    handler = Recorder()
    handle = claim_checked(Untouched("claims"), url_key="payload_url", hosts=["127.0.0.1:4566"])(handler)
    with pytest.raises(Reject, match="refused"):
        await handle(partners(url))
    assert not handler.messages


@pytest.mark.parametrize(
    "message",
    [
        partners(7),
        partners(None),
        event({}),
        event({"other_url": "s3://claims/k"}),
        Message([1]),
        Message.received(b"{"),
    ],
)
async def test_events_without_a_url_pass_as_they_are(message):
    handler = Recorder()
    await claim_checked(MemoryObjects("claims"), url_key="payload_url")(handler)(message)
    assert handler.messages == [message]


async def test_urls_of_others_are_no_claims_unless_asked_for():
    handler = Recorder()
    message = partners("s3://claims/k")
    await claim_checked(MemoryObjects("claims"))(handler)(message)
    assert handler.messages == [message]


async def test_an_object_that_is_gone_or_too_large_has_its_outcome():
    objects, handler = MemoryObjects("claims"), Recorder()
    await objects.put("large", bytes(100))
    handle = claim_checked(objects, url_key="payload_url", max_bytes=99)(handler)
    with pytest.raises(Reject, match="gone"):
        await handle(partners("s3://claims/gone"))
    with pytest.raises(Reject, match="more than 99 bytes"):
        await handle(partners("s3://claims/large"))
    await claim_checked(objects, url_key="payload_url", on_missing="drop")(handler)(partners("s3://claims/gone"))
    assert not handler.messages


@pytest.mark.parametrize(
    "url",
    [
        "https://ada:hunter2@evil.example/claims/k",
        "https://evil.example/claims/k?X-Amz-Signature=hunter2",
        "https://s3.amazonaws.com:99999/claims/k#hunter2",
        "s3://claims?hunter2",
    ],
)
def test_a_reason_shows_neither_passwords_nor_signatures(url):
    with pytest.raises(Reject) as caught:
        claim_of(event({"url": url}), url_key="url", hosts=())
    assert "hunter2" not in str(caught.value)


@given(some.text() | some.from_regex(r"(s3|https?)://[\w.@:\[\]%-]{0,20}(amazonaws\.com)?[/\w.%?#-]*", fullmatch=True))
def test_whatever_a_url_is_it_names_an_object_or_is_refused(url):
    try:
        found = claim_of(partners(url), url_key="payload_url", hosts=frozenset({"127.0.0.1:4566"}))
    except Reject:
        return
    assert isinstance(found, Claim)
    assert all(found)
