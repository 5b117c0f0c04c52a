"""Exports: dead letters written to a file, whole, before they are taken off their queue."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson
from typing_extensions import override

from eip import clock
from eip._ids import new_id
from eip.channels import Sender
from eip.console._files import append
from eip.envelope import dump_message, load_message
from eip.errors import DecodeError, StoreError
from eip.message import Message

__all__ = ["Export", "read_export"]

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,200}\.jsonl")


class Export(Sender):
    """A file that takes messages, one a line; a `Sender`, so that a redrive to it exports before it takes off.

    A line is JSON: ``{"message": …}`` with what `eip.envelope.dump_message` makes of the message, as Latin-1 text, and
    its id, type and reason beside it for people.

    Args:
        folder: made where it is not there.
        queue: whose messages they are.
    """

    def __init__(self, folder: Path, queue: str) -> None:
        when = datetime.fromtimestamp(clock.now(), UTC).strftime("%Y%m%dT%H%M%SZ")
        safe = re.sub(r"[^A-Za-z0-9._-]", "_", queue)[:100]
        self.path = folder / f"{safe}-{when}-{new_id()[:6]}.jsonl"
        self.name, self.address = self.path.name, f"export:{self.path.name}"
        self.count = 0
        """Messages written."""

    @override
    async def send(self, *messages: Message[Any]) -> None:
        """Write the messages; return when they are on the disk. Raises `StoreError` where they cannot be written."""
        lines = b"".join(map(_line, messages))
        try:
            await asyncio.to_thread(_append, self.path, lines)
        except OSError as error:
            raise StoreError(f"the export {self.path} cannot be written: {error.strerror}") from error
        self.count += len(messages)


def read_export(folder: Path, name: str) -> Iterator[Message[Any]]:
    """The messages of an export, in the order that they were written.

    Args:
        folder: of the exports.
        name: of the file.

    Raises:
        LookupError: there is no such export.
        DecodeError: a line is not what `Export` writes.
    """
    path = folder / name
    if not _NAME.fullmatch(name) or not path.is_file():
        raise LookupError(name)
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield load_message(orjson.loads(line)["message"].encode("latin-1"))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise DecodeError(f"line {number} of {name} is not a message") from error


def _line(message: Message[Any]) -> bytes:
    found = {
        "id": message.id,
        "type": message.type,
        "reason": message.headers.get("dead-letter-reason"),
        "message": dump_message(message).decode("latin-1"),
    }
    return orjson.dumps(found) + b"\n"


def _append(path: Path, lines: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    append(path, lines)
