"""The front's application: where photos are uploaded to, the events to the workflow, and what became of each photo.

It knows nothing of the workflow but the events on the bus.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final, Literal

from pydantic import BaseModel

from eip import Consumer, Handlers, Message, Transport, clock
from eip._ids import new_id
from eip.codec import dump_json, load_json
from eip.errors import Reject
from eip.matching import EventPattern
from eip.runtime.service import Runnable
from eip.stores.base import ABSENT, Store
from eip.topology import BusSpec, RuleSpec, Topology
from examples.happy_path.model import PLACES, Label, PhotoPublished, PhotoRejected, PhotoUploaded, Size
from examples.happy_path.uploads import Urls
from examples.happy_path.workflow import BUS

__all__ = ["Front", "Upload", "front_topology"]

_SOURCE: Final = "happy-path.front"
_UPLOADS: Final = "happy-path-uploads"
_OUTCOMES: Final = "front"
_PREFIX: Final = "uploads/"
_SHOWN: Final = 60
"""Photos of a place that are shown: the latest."""
_LOOK_S: Final = 1.0
"""Between looks at a photo that another process of the front may have heard of."""

Status = Literal["requested", "uploaded", "published", "rejected"]


class Upload(BaseModel):
    """What the front knows of a photo."""

    photo: str
    place: str
    key: str
    status: Status = "requested"
    requested_at: float
    version: int | None = None
    """Of the workflow."""
    reason: str | None = None
    labels: list[Label] = []
    sizes: list[Size] = []

    @property
    def settled(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in ("published", "rejected")


def front_topology(bucket: str) -> Topology:
    """What the front takes from the buses: objects that were created, and outcomes."""
    created = EventPattern(
        {
            "source": ["aws.s3"],
            "detail-type": ["Object Created"],
            "detail": {"bucket": {"name": [bucket]}, "object": {"key": [{"prefix": _PREFIX}]}},
        }
    )
    outcomes = EventPattern({"detail-type": ["PhotoPublished", "PhotoRejected"]})
    return Topology(
        BusSpec("default"),  # S3 sends to this one only
        RuleSpec("default", _UPLOADS, created),
        BusSpec(BUS),
        RuleSpec(BUS, _OUTCOMES, outcomes),
    )


class Front:
    """The services of the front over a transport; run `services`.

    Args:
        transport: with the channels of `front_topology`.
        store: what the front knows: uploads, and the latest photos of each place.
        urls: signs the URLs that browsers put photos to, and get them from.
    """

    def __init__(self, transport: Transport, store: Store, urls: Urls) -> None:
        self._store, self._urls = store, urls
        self._bus = transport.bus(BUS)
        self._news = asyncio.Condition()
        outcomes = Handlers()
        outcomes.on(PhotoPublished)(self._published)
        outcomes.on(PhotoRejected)(self._rejected)
        self.services: list[Runnable] = [
            Consumer(transport.bus("default").subscription(_UPLOADS), self._created),
            Consumer(self._bus.subscription(_OUTCOMES), outcomes),
        ]

    async def request(self, place: str, length: int) -> tuple[Upload, str]:
        """Note that a photo is to come; with the URL that it can be put to."""
        photo = new_id()
        upload = Upload(photo=photo, place=place, key=f"{_PREFIX}{place}/{photo}", requested_at=clock.now())
        await self._store.put(photo, upload.model_dump_json().encode())
        return upload, await self._urls.put(upload.key, length)

    async def get(self, photo: str) -> Upload | None:
        """What is known of a photo, or None."""
        found = await self._store.get(photo)
        return None if found is None else Upload.model_validate_json(found.value)

    async def latest(self, place: str) -> list[Upload]:
        """The latest photos of a place."""
        found = await self._store.get(_gallery(place))
        uploads = [await self.get(photo) for photo in (load_json(found.value) if found else [])]
        return [each for each in uploads if each is not None]

    async def links(self, upload: Upload) -> dict[str, str]:
        """The URLs of a photo's sizes."""
        return {size.name: await self._urls.get(size.key) for size in upload.sizes}

    async def watch(self, photo: str, *, seconds: float) -> AsyncIterator[Upload]:
        """What is known of a photo, and what is then, until it is settled, or so many seconds have passed."""
        seen: Upload | None = None
        until = clock.now() + seconds
        while clock.now() < until:
            upload = await self.get(photo)
            if upload is None:
                return
            if upload != seen:
                yield upload
            if upload.settled:
                return
            seen = upload
            try:
                async with asyncio.timeout(_LOOK_S), self._news:
                    await self._news.wait()
            except TimeoutError:
                continue

    # What the buses bring.

    async def _created(self, message: Message[dict[str, Any]]) -> None:
        """An object was put: tell the workflow, in our own words. Comes again where somebody is not sure."""
        try:
            bucket, key = message.body["bucket"]["name"], message.body["object"]["key"]
            _, place, photo = key.split("/")
        except (LookupError, TypeError, ValueError, AttributeError):
            raise Reject("not the event of a photo") from None
        upload = await self.get(photo)
        if upload is None or upload.key != key:
            raise Reject("an object that nobody asked to upload")
        if upload.settled:
            return
        await self._change(photo, status="uploaded")
        body = PhotoUploaded(photo=photo, place=place, bucket=bucket, key=key)
        await self._bus.send(Message(body, id=photo, type="PhotoUploaded", source=_SOURCE))

    async def _published(self, message: Message[PhotoPublished]) -> None:
        event = message.body
        upload = await self._change(
            event.photo, status="published", version=event.version, labels=event.labels, sizes=event.sizes
        )
        if upload is not None:
            await self._show(upload)

    async def _rejected(self, message: Message[PhotoRejected]) -> None:
        event = message.body
        await self._change(
            event.photo, status="rejected", version=event.version, labels=event.labels, reason=event.reason
        )

    async def _change(self, photo: str, **changes: Any) -> Upload | None:
        """Note what is new of a photo, unless it is settled; None where it is not known."""
        while True:
            found = await self._store.get(photo)
            upload = None if found is None else Upload.model_validate_json(found.value)
            if found is None or upload is None or upload.settled:
                return upload
            upload = upload.model_copy(update=changes)
            if await self._store.put(photo, upload.model_dump_json().encode(), version=found.version) is not None:
                async with self._news:
                    self._news.notify_all()
                return upload

    async def _show(self, upload: Upload) -> None:
        key = _gallery(upload.place)
        while True:
            found = await self._store.get(key)
            shown = load_json(found.value) if found else []
            if upload.photo in shown:
                return
            value = dump_json([upload.photo, *shown][:_SHOWN])
            if await self._store.put(key, value, version=found.version if found else ABSENT) is not None:
                return


def _gallery(place: str) -> str:
    assert any(each.id == place for each in PLACES)
    return f"place:{place}"
