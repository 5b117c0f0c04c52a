"""Reads the bodies of messages as the type that a handler asks for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, get_args, get_origin

from eip.codec import JSON, TEXT, Codec, is_json, validate_json, validate_value, writer_of
from eip.errors import ConfigurationError, DecodeError
from eip.message import Message

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["reader_of", "text_of"]


def reader_of(annotation: Any, *, name: str) -> Callable[[Message[Any]], Any] | None:
    """What makes of a message what an annotation asks for; None where that is the message as it is.

    Args:
        annotation: `Message`, ``Message[T]`` or ``T``. A ``str`` is the body's text, as it came or, of a JSON string,
            its content; ``bytes`` are the body's bytes.
        name: of the handler, for errors.

    Raises:
        ConfigurationError: an annotation that no validator can be made of.
    """
    if annotation is Any or annotation is Message:
        return None
    if get_origin(annotation) is not Message:
        return _Bodies(annotation, name).value
    (body,) = get_args(annotation)
    return None if body is Any else _Bodies(body, name).message


class _Bodies:
    """Reads the bodies of messages as one type."""

    def __init__(self, annotation: Any, name: str) -> None:
        self._adapter = _adapter(annotation, name)
        self._plain = {str: text_of, bytes: _bytes_of}.get(annotation)

    def value(self, message: Message[Any]) -> Any:
        if self._plain is None:
            if message.decoded:
                return validate_value(self._adapter, message.body)
            if message.codec is JSON and (raw := message.raw) is not None:  # what nearly every message is
                return validate_json(self._adapter, raw)
        return self._read(writer_of(message.codec), message.encode())

    def message(self, message: Message[Any]) -> Message[Any]:
        if message.raw is None and self._plain is None:
            return message.with_body(validate_value(self._adapter, message.body))
        return message.read_as(functools.partial(self._read, writer_of(message.codec)))

    def _read(self, codec: Codec, raw: bytes) -> Any:
        if self._plain is not None:
            return self._plain(codec, raw)
        if is_json(codec):
            return validate_json(self._adapter, raw)  # one pass over the bytes
        return validate_value(self._adapter, codec.decode(raw))


def text_of(codec: Codec, raw: bytes) -> str:
    """The text that bytes are: the content of a JSON string, or anything else as it came; raises `DecodeError`."""
    if not is_json(codec) or raw.lstrip()[:1] == b'"':
        try:
            value = codec.decode(raw)
        except DecodeError:
            value = None
        if isinstance(value, str):
            return value
    return str(TEXT.decode(raw))


def _bytes_of(_: Codec, raw: bytes) -> bytes:
    return raw


def _adapter(annotation: Any, name: str) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter  # noqa: PLC0415 - a third of the time to import this library
    from pydantic.errors import PydanticSchemaGenerationError  # noqa: PLC0415

    try:
        return TypeAdapter(annotation)
    except PydanticSchemaGenerationError as error:
        raise ConfigurationError(f"{name}: no validator for {annotation!r}: {error.message}") from error
