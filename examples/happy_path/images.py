"""Work on pictures, in threads, with Pillow: what strangers send is looked at before it is decoded, and within limits.

A few pictures are worked on at a time, whatever number waits, so that memory is bounded: each is at most `MAX_BYTES`
as a file, and decodes to at most `MAX_PIXELS`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Final, NamedTuple, TypeVar

from PIL import Image, ImageOps

from eip.errors import MessageTooLarge, Reject
from eip.stores.objects import ObjectStore
from examples.happy_path.model import MAX_BYTES

__all__ = ["MAX_PIXELS", "Pictures", "Rendition", "Shape", "render", "shape_of", "shares"]

MAX_PIXELS: Final = 40_000_000
"""Of a picture that is decoded: what cameras of phones make, less what a bomb does."""
_FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF")
"""Decoders that strangers reach."""
_QUALITY: Final = 80
_T = TypeVar("_T")


class Shape(NamedTuple):
    """What the header of a picture says."""

    format: str
    width: int
    height: int


class Rendition(NamedTuple):
    """A picture made smaller, as JPEG."""

    data: bytes
    width: int
    height: int


class Pictures:
    """Pictures of an object store.

    Args:
        objects: where they are.
        at_once: how many are in memory at a time.
    """

    def __init__(self, objects: ObjectStore, *, at_once: int = 2) -> None:
        self._objects, self._slots = objects, asyncio.Semaphore(at_once)

    async def use(self, bucket: str, key: str, work: Callable[[bytes], _T]) -> _T:
        """Do some work on a picture, in a thread; raises `Reject` where it is gone, too large, or no picture."""
        async with self._slots:
            try:
                data = await self._objects.get(bucket, key, limit=MAX_BYTES)
            except MessageTooLarge as error:
                raise Reject(f"larger than {MAX_BYTES // 2**20} MB: {error.size / 2**20:.0f} MB") from None
            if data is None:
                raise Reject("the photo is gone")
            return await asyncio.to_thread(work, data)


def shape_of(data: bytes) -> Shape:
    """The format, by content, and the size of a picture, of which nothing is decoded; raises `Reject`."""
    with _opened(data) as image:
        return Shape(image.format or "", *image.size)


def render(data: bytes, sides: dict[str, int]) -> dict[str, Rendition]:
    """Make a picture smaller.

    Args:
        data: the file.
        sides: the longest side of each rendition in pixels, by name.

    Raises:
        Reject: it cannot be decoded.
    """
    with _opened(data) as image, _read_from_strangers("the picture is damaged"):
        picture = _decoded(image, max(sides.values()))
        return {name: _smaller(picture, side) for name, side in sorted(sides.items(), key=lambda each: -each[1])}


def shares(data: bytes, kinds: dict[str, Callable[[int, int, int], bool]]) -> dict[str, float]:
    """How much of a picture is of each kind, from 0 to 1, by functions of red, green and blue; raises `Reject`."""
    with _opened(data) as image, _read_from_strangers("the picture is damaged"):
        small = _decoded(image, 64).resize((64, 64), Image.Resampling.BOX)
    pixels = memoryview(small.tobytes())
    colours = list(zip(pixels[0::3], pixels[1::3], pixels[2::3], strict=True))
    return {name: sum(kind(*each) for each in colours) / len(colours) for name, kind in kinds.items()}


def _opened(data: bytes) -> Image.Image:
    with _read_from_strangers("not a picture"):
        image = Image.open(BytesIO(data), formats=_FORMATS)
    if image.width * image.height > MAX_PIXELS:
        raise Reject(f"too many pixels: {image.width} x {image.height}, at most {MAX_PIXELS // 10**6} million")
    return image


@contextmanager
def _read_from_strangers(reason: str) -> Iterator[None]:
    """Reject what Pillow cannot read; a damaged file may make it raise nearly anything."""
    try:
        yield
    except MemoryError:
        raise  # ours, and not the picture's fault
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Reject(f"too many pixels: at most {MAX_PIXELS // 10**6} million") from None
    except Exception:  # noqa: BLE001 - see above
        raise Reject(reason) from None


def _decoded(image: Image.Image, side: int) -> Image.Image:
    """The first frame, upright, in three colours; a JPEG is decoded no larger than needed."""
    image.draft("RGB", (side, side))
    return ImageOps.exif_transpose(image).convert("RGB")


def _smaller(picture: Image.Image, side: int) -> Rendition:
    """Shrinks the picture in place: renditions are made from the largest to the smallest."""
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = BytesIO()
    picture.save(file, "JPEG", quality=_QUALITY, optimize=True)
    return Rendition(file.getvalue(), *picture.size)
