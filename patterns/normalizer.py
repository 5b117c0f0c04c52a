"""Normalizer (Hohpe & Woolf, chapter 8): messages of several formats, each translated to the common one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

from eip.channels import Filter
from eip.errors import Reject
from eip.matching import as_predicate
from eip.message import Message
from eip.patterns.diagram import Diagram, condition_text
from eip.patterns.translator import Translation, translator
from eip.runtime.handlers import Handler, Result

__all__ = ["Normalizer"]


class Normalizer:
    """A handler that returns each message translated by the translator of the first format that matches.

        orders = Normalizer().when(EventPattern({"detail": {"v": [1]}}), from_v1).when(is_csv, from_csv)
        Consumer(received, pipeline(orders, translator(Order), book))

    Args:
        formats: what recognises a format (a `FilterPolicy`, an `EventPattern`, or a predicate on the message) and what
            translates its messages: anything that `translator` takes, or a handler that it made.
        otherwise: translates what has no known format; without it such a message is rejected, that is, dead-lettered.
        type: the type of the translated messages; default: as they were.
    """

    def __init__(
        self,
        formats: Sequence[tuple[Filter, Translation]] = (),
        *,
        otherwise: Translation | None = None,
        type: str | None = None,  # noqa: A002 - the envelope's own term
    ) -> None:
        self._type = type
        self._formats: list[tuple[Callable[[Message[Any]], bool], Handler]] = []
        self._diagram: list[str] = []
        self._otherwise = None if otherwise is None else translator(otherwise, type=type)
        for condition, translate in formats:
            self.when(condition, translate)

    def when(self, condition: Filter, translate: Translation) -> Self:
        """Add a format, behind those that are there."""
        self._formats.append((as_predicate(condition), translator(translate, type=self._type)))
        self._diagram.append(condition_text(condition))
        return self

    async def __call__(self, message: Message[Any]) -> Result:
        """The message in the common format; raises `Reject` where its own is not known."""
        translate = next((each for has, each in self._formats if has(message)), self._otherwise)
        if translate is None:
            raise Reject("the message has none of the known formats")
        return await translate(message)

    def diagram(self) -> Diagram:
        """The formats, in the order in which they are tried."""
        return Diagram(name=f"normalizer {', '.join([*self._diagram, *(['otherwise'] if self._otherwise else [])])}")
