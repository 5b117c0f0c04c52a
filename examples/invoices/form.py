"""Textract's form as it is read here: lines, and the values that stand beside labels.

A response of GetDocumentAnalysis is a list of blocks that refer to each other by their ids. It comes from outside:
blocks may be missing, malformed, or refer to themselves; what cannot be understood is passed over. Source: Amazon
Textract Developer Guide, "Form data (key-value pairs)" and "Text detection and document analysis response objects".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final, NamedTuple

__all__ = ["Form", "Pair", "read_form"]

_CERTAIN: Final = 100.0
"""Percent; of a block that has no confidence."""
_SELECTED: Final = "X"
"""The text of a box that is ticked; one that is not has none."""

_MAX_CHARACTERS: Final = 1000
"""Of a text; with the two below it bounds what a response makes of few blocks that are referred to often."""
_MAX_WORDS: Final = 200
"""Of a label or a value."""
_MAX_VALUES: Final = 10
"""Of a label."""

Block = Mapping[str, Any]


class Pair(NamedTuple):
    """A label with the value that stands beside it."""

    label: str
    value: str
    """Empty where there is none."""
    confidence: float
    """In percent; the lesser of the label's and the value's."""


class Form(NamedTuple):
    """The text of a document."""

    lines: tuple[str, ...]
    pairs: tuple[Pair, ...]
    """In the order of their labels in the document; a label may be there more than once."""


def read_form(blocks: object) -> Form:
    """The lines and pairs of a response's ``Blocks``."""
    known = list(_blocks(blocks))
    by_id = {block["Id"]: block for block in known if isinstance(block.get("Id"), str)}
    lines = [_text_of(block) for block in known if block["BlockType"] == "LINE"]
    pairs = [_pair(block, by_id) for block in known if _is(block, "KEY")]
    return Form(tuple(line for line in lines if line), tuple(pair for pair in pairs if pair.label))


def _blocks(blocks: object) -> Iterator[Block]:
    for each in blocks if isinstance(blocks, list) else ():
        if isinstance(each, Mapping) and isinstance(each.get("BlockType"), str):
            yield each


def _is(block: Block, entity: str) -> bool:
    entities = block.get("EntityTypes")
    return block["BlockType"] == "KEY_VALUE_SET" and isinstance(entities, list) and entity in entities


def _pair(key: Block, by_id: Mapping[str, Block]) -> Pair:
    values = [block for block in islice(_related(key, "VALUE", by_id), _MAX_VALUES) if _is(block, "VALUE")]
    texts = [_words(block, by_id) for block in values]
    confidence = min(map(_confidence, (key, *values)))
    return Pair(_words(key, by_id), " ".join(filter(None, texts)), confidence)


def _words(block: Block, by_id: Mapping[str, Block]) -> str:
    """The words and ticked boxes that a block consists of; only its own, so that no circle is followed."""
    texts = []
    for child in islice(_related(block, "CHILD", by_id), _MAX_WORDS):
        if child["BlockType"] == "WORD":
            texts.append(_text_of(child))
        elif child["BlockType"] == "SELECTION_ELEMENT" and child.get("SelectionStatus") == "SELECTED":
            texts.append(_SELECTED)
    return " ".join(filter(None, texts))[:_MAX_CHARACTERS]


def _related(block: Block, kind: str, by_id: Mapping[str, Block]) -> Iterator[Block]:
    relationships = block.get("Relationships")
    for each in relationships if isinstance(relationships, list) else ():
        if isinstance(each, Mapping) and each.get("Type") == kind and isinstance(each.get("Ids"), list):
            yield from (by_id[one] for one in each["Ids"] if isinstance(one, str) and one in by_id)


def _text_of(block: Block) -> str:
    text = block.get("Text")
    return " ".join(text[:_MAX_CHARACTERS].split()) if isinstance(text, str) else ""


def _confidence(block: Block) -> float:
    confidence = block.get("Confidence", _CERTAIN)
    return float(confidence) if isinstance(confidence, (int, float)) else _CERTAIN
