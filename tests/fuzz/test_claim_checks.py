"""Claim checks: a pointer that a stranger made up costs its own message, and reads nothing that is not allowed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from eip import Backoff, Consumer, Message
from eip.errors import InvalidMessage, Reject, StoreError
from eip.patterns.claim_check import SIZE_ATTRIBUTE, claim_checked
from eip.stores.objects import FileObjects, MemoryObjects
from eip.testing import run
from eip.transports.memory import MemoryTransport
from tests.fuzz import fuzz, mutated, odd_json, odd_text

POINTER = "software.amazon.payloadoffloading.PayloadS3Pointer"
BODY = b'{"fetched": true}'
SECRET = b"not yours"


def pointer(bucket: Any, key: Any, kind: Any = POINTER) -> bytes:
    return json.dumps([kind, {"s3BucketName": bucket, "s3Key": key}]).encode()


SEEDS = [
    pointer("claims", "in/1"),
    pointer("claims", "in/../secret"),
    pointer("claims", "../secret"),
    pointer("claims", "in/./1"),
    pointer("claims", "/etc/passwd"),
    pointer("secrets", "in/1"),
    pointer("claims", "in/gone"),
    pointer("claims", "secret"),
    pointer("claims", "in/1", "com.amazon.sqs.javamessaging.MessageS3Pointer"),
    pointer("claims", "in/1")[:-9],
]
KEYS = st.lists(st.sampled_from(["in", "in/", "1", "..", ".", "secret", "", "\\", "%2e%2e", "\0", "/"]) | odd_text).map(
    "/".join
)
ODD = (
    mutated(SEEDS)
    | st.builds(pointer, st.sampled_from(["claims", "secrets", ""]) | odd_text, KEYS)
    | odd_json(POINTER, "s3BucketName", "s3Key").map(lambda value: json.dumps(value).encode())
)
SIZES: st.SearchStrategy[Any] = st.sampled_from([1, 0, -1, 10**30, "17", 1.5, True, ["17"], b"17"])


class Guarded(MemoryObjects):
    """Objects of every bucket; notes what was read."""

    def __init__(self) -> None:
        super().__init__("claims")
        self.read: list[tuple[str, str]] = []

    async def get(self, bucket: str, key: str, *, limit: int) -> bytes | None:
        self.read.append((bucket, key))
        allowed = bucket == "claims" and key.startswith("in/") and {".", ".."}.isdisjoint(key.split("/"))
        return SECRET if not allowed else None if key == "in/gone" else BODY


@fuzz(ODD, SIZES, short=60)
def test_an_odd_claim_harms_no_neighbour_and_reads_nothing_else(raw, size):
    """Neighbours are handled; the odd one is handled as what it is, or dead-lettered with its raw bytes."""
    handled: list[Any] = []
    objects = Guarded()

    async def handle(message: Message) -> None:
        handled.append(message.encode())

    async def scenario() -> list[Message]:
        async with MemoryTransport() as memory:
            dead = memory.queue("dead")
            queue = memory.queue("q", dead_letters=dead, max_receive_count=2)
            odd = Message.received(raw, attributes={SIZE_ATTRIBUTE: size, "mine": "x"})
            first, last = (Message.received(b'"%b"' % each) for each in (b"first", b"last"))
            await queue.send(first, odd, last)
            redeemed = claim_checked(objects, prefix="in/")(handle)
            async with Consumer(queue, redeemed, retry=Backoff(base=0.1, cap=0.1)):
                while len(queue):
                    await asyncio.sleep(0.1)
            return dead.messages()

    dead = run(scenario())
    assert {b'"first"', b'"last"'} <= set(handled)
    assert len(handled) + len(dead) == 3
    for each in dead:
        assert (each.encode(), each.attributes["mine"]) == (raw, "x")
    assert SECRET not in handled or raw == SECRET
    for bucket, key in objects.read:
        assert bucket == "claims"
        assert key.startswith("in/")
        assert not {".", ".."} & set(key.split("/"))


@fuzz(ODD, short=60)
def test_no_claim_leaves_its_folder(raw):
    """A file outside of the folder, or beside the prefix, is never handed to a handler."""
    handled: list[bytes] = []

    async def handle(message: Message) -> None:
        handled.append(message.encode())

    async def scenario(folder: Path) -> None:
        (folder / "claims" / "in").mkdir(parents=True)
        (folder / "claims" / "in" / "1").write_bytes(BODY)
        for outside in (folder / "secret", folder / "claims" / "secret"):
            outside.write_bytes(SECRET)
        objects = FileObjects(folder / "claims")
        redeem = claim_checked(objects, prefix="in/")(handle)
        with contextlib.suppress(Reject, InvalidMessage, StoreError):
            await redeem(Message.received(raw, attributes={SIZE_ATTRIBUTE: 1}))

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(scenario(Path(folder)))
    assert all(each in (raw, BODY) for each in handled)
