"""The steps that the versions of the workflow are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from eip import Message, Sender
from eip.codec import dump_json
from eip.errors import Reject
from eip.patterns.process_manager import Context
from eip.stores.base import Store
from eip.stores.objects import ObjectStore
from examples.happy_path.images import Pictures, render, shape_of
from examples.happy_path.judges import Judge
from examples.happy_path.model import Photo, PhotoPublished, PhotoRejected, Place, Size

__all__ = ["SOURCE", "PhotoSteps", "Tables"]

SOURCE: Final = "happy-path.workflow"
_SIDES: Final = {"large": 1280, "thumbnail": 320}
"""Pixels of the longest side, by the name of the size."""


@dataclass(frozen=True, slots=True)
class Tables:
    """What the workflow keeps."""

    places: Store
    photos: Store
    """What became of each photo."""
    instances: Store
    """Of the process manager."""


class PhotoSteps:
    """What a workflow does to a photo; each step may be repeated, and leaves the same then.

    Args:
        objects: where photos come from, and sizes go to.
        pictures: the same, for work on pictures.
        judge: who looks at photos.
        tables: of places, and of what became of photos.
        bus: where the outcome is published.
    """

    def __init__(self, objects: ObjectStore, pictures: Pictures, judge: Judge, tables: Tables, bus: Sender) -> None:
        self._objects, self._pictures, self._judge = objects, pictures, judge
        self._tables, self._bus = tables, bus

    async def check_dimensions(self, photo: Photo) -> None:
        photo.format, photo.width, photo.height = await self._pictures.use(photo.bucket, photo.key, shape_of)

    async def look_up_place(self, photo: Photo) -> None:
        found = await self._tables.places.get(photo.place)
        if found is None:
            raise Reject(f"there is no place {photo.place}")
        photo.place_type = Place.model_validate_json(found.value).type

    async def moderate(self, photo: Photo) -> None:
        photo.unsafe = await self._judge.moderate(photo.bucket, photo.key)

    async def find_labels(self, photo: Photo) -> None:
        photo.labels = await self._judge.labels(photo.bucket, photo.key)

    async def resize(self, photo: Photo) -> None:
        made = await self._pictures.use(photo.bucket, photo.key, lambda data: render(data, _SIDES))
        photo.sizes = []
        for name, (data, width, height) in made.items():
            size = Size(name=name, key=self._key(photo, name), width=width, height=height, bytes=len(data))
            await self._objects.put(size.key, data)
            photo.sizes.append(size)

    async def remove_sizes(self, photo: Photo) -> None:
        for name in _SIDES:
            await self._objects.delete(self._objects.bucket, self._key(photo, name))
        photo.sizes = []

    async def publish(self, photo: Photo, context: Context) -> None:
        body = PhotoPublished(photo=photo.photo, version=context.version, sizes=photo.sizes, labels=photo.labels)
        await self._record(photo.photo, body, "published")
        await self.tell(body)

    async def record_fail_state(self, photo: Photo, context: Context) -> None:
        reason = (context.error or "").removeprefix("Reject: ")
        labels = [*photo.unsafe, *photo.labels]
        body = PhotoRejected(photo=photo.photo, version=context.version, reason=reason, labels=labels)
        await self._record(photo.photo, body, "rejected")
        await self.tell(body)

    async def tell(self, body: PhotoPublished | PhotoRejected) -> None:
        """Publish an outcome; under the same id however often that is done."""
        name = type(body).__name__
        await self._bus.send(Message(body, id=f"{body.photo}/{name}", type=name, source=SOURCE))

    async def _record(self, photo: str, body: PhotoPublished | PhotoRejected, status: str) -> None:
        item: dict[str, Any] = {"status": status, **body.model_dump()}
        await self._tables.photos.put(photo, dump_json(item))

    def _key(self, photo: Photo, size: str) -> str:
        return f"distribution/{photo.photo}/{size}.jpg"
