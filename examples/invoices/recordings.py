"""Recorded analyses: of each layout the scan, and what GetDocumentAnalysis returns of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any, Final

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from eip.errors import Reject
from examples.invoices.layouts import LAYOUTS, Field, Part

__all__ = ["layout_of", "recorded_blocks", "scan"]

_PAGE: Final = (620, 480)
"""Pixels."""
_MARGIN: Final = 50
_LINE: Final = 44
_TAG: Final = "layout"
"""The text chunk of the PNG that names the layout."""
_SEALED: Final = {"Confidence": 99.5, "Page": 1}


def scan(name: str) -> bytes:
    """A layout as a PNG, its pages under each other, and its name in it."""
    pages = LAYOUTS[name].pages or ((),)
    picture = Image.new("L", (_PAGE[0], _PAGE[1] * len(pages)), 250)
    draw = ImageDraw.Draw(picture)
    for number, parts in enumerate(pages):
        for row, part in enumerate(parts):
            font = ImageFont.load_default(28 if row == 0 else 18)
            draw.text((_MARGIN, number * _PAGE[1] + _top(row)), _printed(part), fill=40, font=font)
    file, info = BytesIO(), PngInfo()
    info.add_text(_TAG, name)
    picture.save(file, "PNG", pnginfo=info)
    return file.getvalue()


def layout_of(data: bytes) -> str:
    """Return the name of a scan's layout, or an empty text for another document; raises `Reject` for other files."""
    if data.startswith(b"%PDF-"):
        return ""
    try:
        with Image.open(BytesIO(data), formats=("PNG", "JPEG", "TIFF")) as image:
            name = str(image.info.get(_TAG))
    except MemoryError:
        raise  # ours, and not the document's fault
    except Exception:  # noqa: BLE001 - a damaged file may make Pillow raise nearly anything
        raise Reject("the document is neither PDF, PNG, JPEG nor TIFF") from None
    return name if name in LAYOUTS else ""


def recorded_blocks(name: str) -> list[dict[str, Any]]:
    """The blocks of a layout's response: pages, lines, words, and pairs of labels and values."""
    return [block for page, parts in enumerate(LAYOUTS[name].pages, 1) for block in _page(page, parts)]


def _page(page: int, parts: Sequence[Part]) -> Iterator[dict[str, Any]]:
    rows = [_row(f"p{page}r{row}", row, part) for row, part in enumerate(parts)]
    lines = [blocks[0]["Id"] for blocks in rows]
    for block in (_block(f"p{page}", "PAGE", 0, children=lines), *(each for blocks in rows for each in blocks)):
        yield {**block, "Page": page}


def _row(name: str, row: int, part: Part) -> list[dict[str, Any]]:
    """The blocks of a line: itself, its words, and where it is a field, the label and the value."""
    label, value = (part.label, part.value or "") if isinstance(part, Field) else (part, "")
    keys, values = _words(f"{name}k", row, label), _words(f"{name}v", row, value)
    if isinstance(part, Field) and part.ticked is not None:
        status = "SELECTED" if part.ticked else "NOT_SELECTED"
        values = [_block(f"{name}box", "SELECTION_ELEMENT", row, SelectionStatus=status)]
    words = [block for block in (*keys, *values) if block["BlockType"] == "WORD"]
    text = " ".join(block["Text"] for block in words)
    line = _block(f"{name}", "LINE", row, children=_ids(words), Text=text)
    pair = _pair(name, row, part, _ids(keys), _ids(values)) if isinstance(part, Field) else []
    return [line, *keys, *values, *pair]


def _pair(name: str, row: int, field: Field, keys: list[str], values: list[str]) -> list[dict[str, Any]]:
    key, value = f"{name}key", f"{name}value"
    if field.circular:
        keys, values = [*keys, value, key], [*values, key, value]
    made = _block(key, "KEY_VALUE_SET", row, children=keys, EntityTypes=["KEY"], Confidence=field.confidence)
    made["Relationships"].insert(0, {"Type": "VALUE", "Ids": [value]})
    if field.value is None:
        return [made]
    return [
        made,
        _block(value, "KEY_VALUE_SET", row, children=values, EntityTypes=["VALUE"], Confidence=field.confidence),
    ]


def _words(name: str, row: int, text: str) -> list[dict[str, Any]]:
    words = enumerate(text.split())
    return [_block(f"{name}{number}", "WORD", row, Text=word, TextType="PRINTED") for number, word in words]


def _block(
    id: str,  # noqa: A002 - Textract's term
    kind: str,
    row: int,
    *,
    children: Sequence[str] = (),
    **more: Any,
) -> dict[str, Any]:
    top = _top(row) / _PAGE[1]
    box = {"Left": _MARGIN / _PAGE[0], "Top": top, "Width": 0.8, "Height": _LINE / _PAGE[1]}
    made = {**_SEALED, "Id": id, "BlockType": kind, "Geometry": {"BoundingBox": box}, **more}
    if children:
        made["Relationships"] = [{"Type": "CHILD", "Ids": list(children)}]
    elif kind == "KEY_VALUE_SET":
        made["Relationships"] = []
    return made


def _ids(blocks: Sequence[dict[str, Any]]) -> list[str]:
    return [block["Id"] for block in blocks]


def _top(row: int) -> int:
    return _MARGIN + row * _LINE + (20 if row else 0)


def _printed(part: Part) -> str:
    return part.text if isinstance(part, Field) else part
