"""Message Translator (Hohpe & Woolf, chapter 3): the same message, in another form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, get_origin

from pydantic import TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError

from eip.codec import Codec, validate_value
from eip.errors import ConfigurationError, Reject
from eip.message import Message
from eip.patterns._functions import Function, function_of
from eip.patterns.diagram import condition_text, with_diagram
from eip.runtime.handlers import Handler

__all__ = ["Translation", "translator"]

Translation: TypeAlias = Callable[[Any], Any] | type[Any]
"""A function of a message or of its body, or the type that the body becomes."""


def translator(
    translate: Translation,
    *,
    type: str | None = None,  # noqa: A002 - the envelope's own term
    codec: Codec | None = None,
    reject: tuple[type[Exception], ...] = (),
) -> Handler:
    """A handler that returns each message with its body translated; its id and envelope stay.

        pipeline(translator(from_legacy, reject=(KeyError,)), translator(Order), book)

    Args:
        translate: the new body of a message, or a whole new message; plain or async, of a message or of a validated
            body. Or a type (a pydantic model, a dataclass): the body becomes an instance of it. An invalid body is
            a `DecodeError`, which dead-letters the message.
        type: the type of the translated message; default: as it was.
        codec: what encodes the translated body; default: as it was.
        reject: errors of ``translate`` that another attempt would only repeat: they dead-letter the message at once.

    Raises:
        TypeError: from the handler, where ``translate`` returns None: usually a forgotten ``return``.
    """
    body_of = _of_type(translate) if _is_type(translate) else function_of(translate)

    async def translated(message: Message[Any]) -> Message[Any]:
        try:
            body = await body_of(message)
        except reject as error:
            raise Reject(f"cannot be translated: {error.__class__.__name__}") from None  # its text may contain the body
        if body is None:
            raise TypeError("a translator returns a body or a message; to drop messages, use a message_filter")
        made: Message[Any] = body if isinstance(body, Message) else message.with_body(body)
        if type is not None:
            made = made.replace(type=type)
        return made if codec is None else made.with_codec(codec)

    return with_diagram(translated, f"translator {condition_text(translate)}")


def _is_type(translate: object) -> bool:
    return isinstance(translate, type) or get_origin(translate) is not None


def _of_type(wanted: Any) -> Function:
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(wanted)
    except PydanticSchemaGenerationError as error:
        raise ConfigurationError(f"no validator for {wanted!r}: {error.message}") from error

    async def validated(message: Message[Any]) -> Any:
        return validate_value(adapter, message.body)

    return validated
