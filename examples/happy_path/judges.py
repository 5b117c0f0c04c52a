"""Who looks at photos: an interface as Amazon Rekognition has it, and a stand-in that judges pixels, always alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from examples.happy_path.images import Pictures, shares
from examples.happy_path.model import Label

__all__ = ["Judge", "PixelJudge"]


class Judge(Protocol):
    """Looks at a photo in the object store."""

    async def moderate(self, bucket: str, key: str) -> list[Label]:
        """The labels of unsafe content (DetectModerationLabels); empty: the photo is safe."""
        ...

    async def labels(self, bucket: str, key: str) -> list[Label]:
        """What is in the photo (DetectLabels)."""
        ...


def _skin(red: int, green: int, blue: int) -> bool:
    """The rule of Peer and Kovac for skin in daylight (Human Skin Colour Clustering for Face Detection, 2003)."""
    bright = red > 95 and green > 40 and blue > 20 and max(red, green, blue) - min(red, green, blue) > 15
    return bright and abs(red - green) > 15 and red > green and red > blue


_UNSAFE: Final[dict[str, Callable[[int, int, int], bool]]] = {
    "Violence": lambda red, green, blue: red > 180 and green < 60 and blue < 60,
}
_THINGS: Final[dict[str, Callable[[int, int, int], bool]]] = {
    "Person": _skin,
    "Plant": lambda red, green, blue: green > 1.15 * red and green > 1.15 * blue,
    "Sky": lambda red, green, blue: blue > 1.15 * red and blue > 1.05 * green,
}
_LEAST: Final = 0.25
"""Of the pixels, to make a label."""


class PixelJudge:
    """Takes what colours a photo has for what is in it: blood-red for violence, skin for people, green for plants."""

    def __init__(self, pictures: Pictures) -> None:
        self._pictures = pictures

    async def moderate(self, bucket: str, key: str) -> list[Label]:
        return await self._look(bucket, key, _UNSAFE)

    async def labels(self, bucket: str, key: str) -> list[Label]:
        return await self._look(bucket, key, _THINGS)

    async def _look(self, bucket: str, key: str, kinds: dict[str, Callable[[int, int, int], bool]]) -> list[Label]:
        found = await self._pictures.use(bucket, key, lambda data: shares(data, kinds))
        return [Label(name=name, confidence=round(100 * share, 1)) for name, share in found.items() if share >= _LEAST]
