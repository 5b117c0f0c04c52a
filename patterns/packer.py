"""Packing: many small messages in one billed unit.

Services bill payload in units of 64 KB, so sixty-four messages of 1 KB cost sixty-four units alone and one together.
`Packer` fills units; every `eip.Consumer` unpacks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Self

from typing_extensions import override

from eip._checks import check_duration, check_integer
from eip._tracing import with_current_trace
from eip.channels import Sender
from eip.clock import Duration
from eip.errors import ConfigurationError, FailedEntry, InvalidMessage, PartialSendError, SendError
from eip.limits import KIB, MIB
from eip.message import Message
from eip.packs import Encoding, Format, check_encoding
from eip.patterns._pack_filling import Filled, PackFiller, pack_key

__all__ = ["Packer"]


class _Call:
    """One `send` that waits for its messages."""

    __slots__ = ("failed", "future", "total", "waiting")

    def __init__(self, total: int) -> None:
        self.total = self.waiting = total
        self.failed: list[FailedEntry] = []
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def done(self, message: Message[Any], error: Exception | None) -> None:
        self.waiting -= 1
        if error is not None:
            self.failed.append(FailedEntry(message, error))
        if self.waiting == 0 and not self.future.done():
            self.future.set_result(None)

    def outcome(self) -> None:
        if not self.failed:
            return
        if len(self.failed) == self.total:
            error = self.failed[0].error
            if isinstance(error, (SendError, InvalidMessage)):
                raise error
            raise SendError(str(error), transient=getattr(error, "transient", False)) from error
        raise PartialSendError(self.failed, sent=self.total - len(self.failed))


class _Item:
    """A message on its way into a pack."""

    __slots__ = ("call", "entry", "message")

    def __init__(self, message: Message[Any], entry: bytes, call: _Call) -> None:
        self.message, self.entry, self.call = message, entry, call


class Packer(Sender):
    """Sends messages in packs of up to 64 KB; a `Sender` itself, to be used with ``async with``.

    Messages share a pack only where type, source, message group and attributes are equal, so that filters on those
    stay exact; filters on the body see the pack. A message that is alone is sent as it is. Order within a group is
    kept. With no ``linger`` a pack holds what gathered while the previous call was in flight: none is delayed.

    Args:
        sender: where the packs go.
        max_bytes: maximum size of one pack in bytes, its attributes included; default: the unit that the channel's
            service bills, 64 KiB on SQS, SNS and EventBridge. What is compressed into it is at most what consumers
            unpack, 4 MiB.
        max_messages: maximum number of messages in one pack.
        linger: seconds (or timedelta) that a pack waits for more; default 0.
        encoding: ``"identity"``, ``"gzip"`` or ``"zstd"`` (the extra ``zstd``); compressed packs are base64 text.
        format: ``"eip"``, or ``"cloudevents"`` for a CloudEvents 1.0 JSON batch that others read too.
        max_pending_bytes: maximum size of what waits to be sent, in bytes; beyond that `send` waits.

    Raises:
        TypeError: an argument of the wrong type.
        ConfigurationError: a value out of range.
    """

    def __init__(
        self,
        sender: Sender,
        *,
        max_bytes: int | None = None,
        max_messages: int = 1000,
        linger: Duration = 0.0,
        encoding: Encoding = "identity",
        format: Format = "eip",  # noqa: A002 - the field's term
        max_pending_bytes: int = 16 * MIB,
    ) -> None:
        check_encoding(encoding)
        if format == "cloudevents" and encoding != "identity":
            raise ConfigurationError("a CloudEvents batch is not compressed")
        if max_bytes is None:
            max_bytes = sender.limits.unit_bytes or 64 * KIB
        check_integer("max_bytes", max_bytes, least=KIB)
        check_integer("max_messages", max_messages, least=1)
        check_integer("max_pending_bytes", max_pending_bytes, least=1)
        carried = sender.limits.message_bytes
        if carried is not None and max_bytes > carried:
            raise ConfigurationError(
                f"max_bytes must be at most what {sender.name} carries, {carried:,} bytes, got {max_bytes}"
            )
        self.name, self.address, self.limits = sender.name, sender.address, sender.limits
        self._sender, self._max_bytes, self._linger = sender, max_bytes, check_duration("linger", linger)
        self._filler = PackFiller[_Item](
            sender, max_bytes=max_bytes, max_messages=max_messages, encoding=encoding, format=format
        )
        self._open: dict[object, list[_Item]] = {}
        self._size = 0
        self._max_pending_bytes = max_pending_bytes
        self._room = asyncio.Event()
        self._work = asyncio.Event()
        self._full = asyncio.Event()
        self._closing = False
        self._pump: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._closing = False
        self._pump = asyncio.create_task(self._run(), name=f"{self.name} packer")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Send what waits, and end. Idempotent."""
        self._closing = True
        self._work.set()
        self._full.set()
        if self._pump is not None:
            await self._pump
            self._pump = None

    @override
    async def send(self, *messages: Message[Any]) -> None:
        """Send the messages in packs; return when the packs that hold them are accepted. See `Sender.send`."""
        if self._pump is None or self._closing:
            raise ConfigurationError("a packer sends only inside its `async with`")
        if not messages:
            return
        messages = tuple(map(with_current_trace, messages))
        entries = [self._filler.entry(message) for message in messages]
        call = _Call(len(entries))
        while self._size > self._max_pending_bytes:
            self._room.clear()
            await self._room.wait()
        for message, entry in zip(messages, entries, strict=True):
            self._open.setdefault(pack_key(message), []).append(_Item(message, entry, call))
            self._size += len(entry)
        self._work.set()
        if self._size >= self._max_bytes:
            self._full.set()
        await call.future
        call.outcome()

    async def _run(self) -> None:
        try:
            await self._send_until_closed()
        finally:
            for items in self._open.values():
                _fail(items, SendError("the packer was cancelled before sending"))
            self._open, self._closing = {}, True

    async def _send_until_closed(self) -> None:
        """Send what has gathered, again and again, until closed and empty."""
        while self._open or not self._closing:
            if not self._open:
                self._work.clear()
                await self._work.wait()
                continue
            if self._linger and not self._closing:
                await self._gather()
            gathered, self._open = self._open, {}
            self._size = 0
            self._room.set()
            await self._send_all([item for items in gathered.values() for item in items], gathered.values())

    async def _send_all(self, items: Sequence[_Item], groups: Iterable[Sequence[_Item]]) -> None:
        """Send the items of each group in packs; whatever happens, each caller gets an outcome."""
        try:
            await self._send_packs([made for group in groups for made in self._filler.packs(group)])
        except asyncio.CancelledError:
            _fail(items, SendError("the packer was cancelled while sending"))
            raise
        except Exception as error:  # noqa: BLE001 - each caller gets it
            _fail(items, error)

    async def _gather(self) -> None:
        """Wait until a pack's worth is there, or the linger has passed."""
        self._full.clear()
        if self._size < self._max_bytes:
            try:
                await asyncio.wait_for(self._full.wait(), self._linger)
            except TimeoutError:
                return

    async def _send_packs(self, packs: Sequence[Filled[_Item]]) -> None:
        errors: dict[str, Exception] = {}
        try:
            await self._sender.send(*(made for made, _ in packs))
        except PartialSendError as error:
            errors = {failed.message.id: failed.error for failed in error.failed}
        except InvalidMessage as error:  # nothing was sent: the others must not suffer for the one
            if len(packs) > 1:
                for each in packs:
                    await self._send_packs([each])
                return
            errors = {packs[0][0].id: error}
        except Exception as error:  # noqa: BLE001 - each caller gets it
            errors = {made.id: error for made, _ in packs}
        for made, items in packs:
            for item in items:
                item.call.done(item.message, errors.get(made.id))


def _fail(items: Iterable[_Item], error: Exception) -> None:
    for item in items:
        item.call.done(item.message, error)
