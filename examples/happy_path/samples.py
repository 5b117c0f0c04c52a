"""Photos to try it with: drawn, under the noise of a camera, so that they are as large as photos are."""

from __future__ import annotations

import random
import struct
import zlib
from io import BytesIO
from typing import Final

from PIL import Image, ImageChops, ImageDraw

__all__ = ["KINDS", "animated_gif", "jpeg", "photo", "png_bomb"]

KINDS: Final = ("park", "sky", "person", "violence")


def photo(kind: str = "park", *, width: int = 3000, height: int = 2000, seed: int = 7) -> Image.Image:
    """A picture of one of `KINDS`; each seed makes another."""
    chance = random.Random(seed)
    picture = _scene(kind, chance).resize((width, height), Image.Resampling.BICUBIC)
    noise = Image.frombytes("L", (width, height), chance.randbytes(width * height)).point(lambda level: level // 8)
    return ImageChops.add(picture, Image.merge("RGB", (noise, noise, noise)), offset=-16)


def jpeg(picture: Image.Image, *, quality: int = 92) -> bytes:
    """A picture as a camera keeps it."""
    file = BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()


def animated_gif(frames: int) -> bytes:
    """Some frames of a GIF, each of another colour."""
    file = BytesIO()
    first, *others = (Image.new("P", (64, 64), number) for number in range(frames))
    first.save(file, "GIF", save_all=True, append_images=others)
    return file.getvalue()


def png_bomb(width: int, height: int) -> bytes:
    """A PNG of a few kilobytes that says it is huge; only its first 2,000 rows are there."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + width // 8)) for _ in range(min(height, 2000))) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _scene(kind: str, chance: random.Random) -> Image.Image:
    picture = Image.new("RGB", (300, 200), (120, 165, 225))
    draw = ImageDraw.Draw(picture)
    sun = chance.randint(30, 270)
    draw.ellipse((sun - 14, 18, sun + 14, 46), fill=(250, 235, 170))
    horizon = 170 if kind == "sky" else 95
    for shade in range(5):
        top, hills = horizon + shade * 22, [(0, 200)]
        hills += [(x, top + chance.randint(-14, 14)) for x in range(0, 331, 30)]
        draw.polygon([*hills, (330, 200)], fill=(50 + 8 * shade, 120 + 12 * shade, 55 + 4 * shade))
    for _ in range(0 if kind == "sky" else 9):
        x, y = chance.randint(0, 300), chance.randint(horizon, 170)
        draw.rectangle((x - 2, y, x + 2, y + 16), fill=(95, 70, 50))
        draw.ellipse((x - 12, y - 22, x + 12, y + 4), fill=(35, 105, 45))
    if kind == "person":
        draw.ellipse((60, 10, 240, 215), fill=(222, 170, 140))
        for x in (115, 185):
            draw.ellipse((x - 9, 80, x + 9, 98), fill=(40, 50, 70))
        draw.arc((110, 105, 190, 160), 20, 160, fill=(150, 60, 60), width=5)
    if kind == "violence":
        for _ in range(12):
            x, y, size = chance.randint(40, 260), chance.randint(30, 170), chance.randint(35, 60)
            draw.ellipse((x - size, y - size, x + size, y + size), fill=(222, 22, 22))
    return picture
