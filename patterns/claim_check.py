"""Claim Check (Hohpe & Woolf, chapter 8): a body too large for the channel waits elsewhere, its claim travels.

    orders = ClaimCheckSender(aws.queue("orders"), objects)                  # large bodies go to the objects
    consumer = Consumer(aws.queue("orders"), claim_checked(objects)(handle))  # and come back from there

The wire format is that of AWS's extended client libraries for SQS and SNS, both ways: the message's body is
``["software.amazon.payloadoffloading.PayloadS3Pointer", {"s3BucketName": …, "s3Key": …}]``, and its attribute
``ExtendedPayloadSize`` the bytes that wait; older senders' names are understood. An event bus carries objects only, so
there the body is ``{"payload_url": "s3://bucket/key", "payload_size_bytes": …}``. Envelope and attributes stay with the
message, so filters on attributes work and filters on bodies do not. Partners send such
URLs, too: ``claim_checked(objects, url_key="payload_url")`` fetches the object from the storage, never from the URL.

The object is written before its message is sent. Nothing is removed unless asked for, and then only once the message
was acknowledged, so a claim that can be received can be fetched. What nobody removes is left to an expiry of the
storage (`eip.stores.s3.lifecycle_rule`, `FileObjects.expire`), longer than the channel and its dead-letter channel
keep a message: a message in a dead-letter channel still needs its object.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from typing import Any, Final, Literal

from typing_extensions import override

from eip._checks import check_one_of
from eip._ids import new_id
from eip._logging import get_logger
from eip.channels import Sender, SenderDecorator
from eip.errors import (
    ConfigurationError,
    FailedEntry,
    InvalidMessage,
    MessageTooLarge,
    PartialSendError,
    Reject,
    SendError,
    StoreError,
)
from eip.limits import MIB
from eip.message import Message
from eip.packs import is_pack
from eip.patterns._claims import (
    SIZE_ATTRIBUTE,
    SIZE_ATTRIBUTES,
    Claim,
    check_key,
    check_size,
    claim_body,
    claim_of,
    is_claim,
    size_beside,
)
from eip.patterns.diagram import with_diagram
from eip.runtime.consumer import current_delivery
from eip.runtime.handlers import AnyHandler, Handler, Middleware, Result, middleware
from eip.stores.objects import ObjectStore

__all__ = ["SIZE_ATTRIBUTE", "ClaimCheckSender", "claim_checked"]

_log = get_logger("eip.claim_check")

_MAX_WRITES: Final = 10
"""Objects of one `send` that are written at once."""


class ClaimCheckSender(SenderDecorator):
    """Sends messages whose bodies are too large as claims, and all others as they are; a `Sender` itself.

    Args:
        sender: the destination: a queue, a topic, a bus or a stream.
        objects: where large bodies wait.
        threshold: bytes of body, envelope and attributes above which a body is checked in; default: the
            destination's limit. 0: every body.
        prefix: what the objects' keys begin with, e.g. ``"claims/"``; default: nothing.

    Raises:
        ConfigurationError: no threshold, for a destination without a limit; or one above the limit.
    """

    def __init__(self, sender: Sender, objects: ObjectStore, *, threshold: int | None = None, prefix: str = "") -> None:
        limit = sender.limits.message_bytes
        if threshold is None and limit is None:
            raise ConfigurationError(f"threshold must be given for {sender.name}, which has no limit of its own")
        if threshold is not None and (threshold < 0 or (limit is not None and threshold > limit)):
            raise ConfigurationError(
                f"threshold must be 0 to the limit of {sender.name}, {limit} bytes, got {threshold}"
            )
        super().__init__(sender)
        self.limits = dataclasses.replace(sender.limits, message_bytes=None)
        self._objects, self._prefix = objects, prefix
        self._threshold: int = threshold if threshold is not None else limit or 0

    @override
    async def send(self, *messages: Message[Any], **options: Any) -> None:
        """Write what is too large, then send; see `Sender.send`. ``options`` (a queue's ``delay``) are passed on.

        Raises `SendError` where an object cannot be written: nothing of this call was sent then.
        """
        checked: dict[str, bytes] = {}
        ready = [self._check_in(message, checked) for message in messages]
        if checked:
            await self._write(checked)
        try:
            await self._sender.send(*ready, **options)
        except InvalidMessage:
            await self._withdraw(checked)
            raise
        except PartialSendError as error:
            given = {made.id: message for made, message in zip(ready, messages, strict=True)}
            failed = [FailedEntry(given.get(each.message.id, each.message), each.error) for each in error.failed]
            raise PartialSendError(failed, sent=error.sent) from error

    def _check_in(self, message: Message[Any], checked: dict[str, bytes]) -> Message[Any]:
        """The message as it is to be sent; what must be written for it goes into ``checked``."""
        sealed = message.sealed()
        body = sealed.encode()
        if is_pack(message) or len(body) + size_beside(message) <= self._threshold or is_claim(message):
            return sealed
        if not message.attributes.keys().isdisjoint(SIZE_ATTRIBUTES):
            raise InvalidMessage(f"the attribute {SIZE_ATTRIBUTE} is reserved for claim checks")
        key = f"{self._prefix}{new_id()}"
        checked[key] = body
        claim = Claim(self._objects.bucket, key)
        standing = claim_body(claim, len(body), as_object=self.limits.object_bodies)
        return sealed.with_encoded(standing).replace(attributes={**message.attributes, SIZE_ATTRIBUTE: len(body)})

    async def _write(self, checked: dict[str, bytes]) -> None:
        turn = asyncio.Semaphore(_MAX_WRITES)

        async def write(key: str, body: bytes) -> None:
            async with turn:
                await self._objects.put(key, body)

        written = await asyncio.gather(*(write(*each) for each in checked.items()), return_exceptions=True)
        for error in written:
            if error is not None:
                await self._withdraw(checked)
                reason = f"{self.name}: a large body could not be checked in: {error}"
                raise SendError(reason, transient=isinstance(error, StoreError) and error.transient) from error

    async def _withdraw(self, keys: Collection[str]) -> None:
        """Remove objects of messages that were not sent; what fails is left to expire."""
        for key in keys:
            with suppress(StoreError):
                await self._objects.delete(self._objects.bucket, key)


def claim_checked(
    objects: ObjectStore,
    *,
    buckets: Collection[str] | None = None,
    prefix: str = "",
    hosts: Collection[str] = (),
    url_key: str | None = None,
    max_bytes: int = 64 * MIB,
    delete: bool = False,
    on_missing: Literal["drop", "dead_letter"] = "dead_letter",
) -> Middleware:
    """Fetch the body of a claim before the handler gets the message; other messages pass as they are.

    Claims may come from strangers: what they point to outside of ``buckets`` and ``prefix`` is rejected, unread.

    Args:
        objects: where bodies wait.
        buckets: those that claims may point to; default: only the one that ``objects`` writes to.
        prefix: what keys must begin with; default: nothing.
        hosts: of URLs whose paths are ``/bucket/key``, beside Amazon S3's own hosts: ``"127.0.0.1:4566"``.
        url_key: the member that has the object's URL in bodies of others, who do not send our attribute; default: the
            bodies of others are what they are.
        max_bytes: the largest body fetched; what is larger is never read, and goes to the dead-letter channel.
        delete: remove the object once the message was handled and acknowledged. Only for a queue that is its only
            receiver: with several subscriptions the first would take the object from the others. In AWS Lambda, which
            acknowledges after the invocation, and for a pack of which a message failed, objects are left to expire.
        on_missing: what becomes of a message whose object is not there (expired, or removed after an earlier
            delivery): ``"dead_letter"``, or ``"drop"``: it is acknowledged unhandled.
    """
    check_one_of("on_missing", on_missing, ("drop", "dead_letter"))
    return _Redeemer(
        objects,
        partial(claim_of, url_key=url_key, hosts=frozenset(map(str.lower, hosts))),
        buckets=frozenset((objects.bucket,) if buckets is None else buckets),
        prefix=prefix,
        max_bytes=max_bytes,
        delete=delete,
        drop=on_missing == "drop",
    )


class _Redeemer:
    def __init__(
        self,
        objects: ObjectStore,
        find: Callable[[Message[Any]], Claim | None],
        *,
        buckets: frozenset[str],
        prefix: str,
        max_bytes: int,
        delete: bool,
        drop: bool,
    ) -> None:
        self._objects, self._find, self._buckets, self._prefix = objects, find, buckets, prefix
        self._max_bytes, self._delete, self._drop = max_bytes, delete, drop
        self._removing: set[asyncio.Task[None]] = set()

    def __call__(self, handler: AnyHandler) -> Handler:
        return middleware(self._wrap)(handler)

    def _wrap(self, handle: Handler) -> Handler:

        async def redeemed(message: Message[Any]) -> Result:
            claim = self._find(message)
            if claim is None:
                return await handle(message)
            body = await self._fetch(claim)
            if body is None:
                _log.warning("claim_missing", message_id=message.id, bucket=claim.bucket, key=claim.key)
                if self._drop:
                    return None
                raise Reject(f"the body it claims is gone: {claim.key} in {claim.bucket}")
            check_size(message, body, claim)
            rest = {name: value for name, value in message.attributes.items() if name not in SIZE_ATTRIBUTES}
            result = await handle(message.with_encoded(body).replace(attributes=rest))
            if self._delete:
                self._when_acked(lambda: self._start_removal(claim))
            return result

        return with_diagram(redeemed, "claim_check", inside=handle)

    async def _fetch(self, claim: Claim) -> bytes | None:
        # "in/../x" begins with "in/", and a client or proxy on the way to the storage may take the path for "x".
        climbs = not {".", ".."}.isdisjoint(claim.key.split("/"))
        if climbs or claim.bucket not in self._buckets or not claim.key.startswith(self._prefix):
            raise Reject(f"claim refused: {claim.key[:200]!r} in {claim.bucket[:200]!r} is not in the allow-list")
        check_key(claim)
        try:
            return await self._objects.get(claim.bucket, claim.key, limit=self._max_bytes)
        except MessageTooLarge:
            raise Reject(
                f"the body it claims has more than {self._max_bytes:,} bytes: {claim.key} in {claim.bucket}"
            ) from None

    def _when_acked(self, callback: Callable[[], None]) -> None:
        try:
            delivery = current_delivery()
        except LookupError:  # another host acknowledges, and tells nobody: left to expire
            return
        delivery.on_acked = [*(delivery.on_acked or ()), callback]

    def _start_removal(self, claim: Claim) -> None:
        task = asyncio.get_running_loop().create_task(self._remove(claim), name=f"removal of {claim.key}")
        self._removing.add(task)
        task.add_done_callback(self._removing.discard)

    async def _remove(self, claim: Claim) -> None:
        try:
            await self._objects.delete(claim.bucket, claim.key)
        except StoreError as error:
            _log.warning("claim_not_removed", bucket=claim.bucket, key=claim.key, error=str(error))
