"""Packing and batching: many small messages in one billed unit, and many messages in one call of a handler.

Services bill payload in units of 64 KB, so sixty-four messages of 1 KB cost sixty-four units alone and one together.
`Packer` fills units; every `eip.Consumer` unpacks. `batched` turns a handler of many messages into one that consumers
can call, e.g. to write ten rows at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from typing_extensions import override

from eip.channels import Sender
from eip.clock import Duration, seconds
from eip.codec import dump_json
from eip.errors import ConfigurationError, FailedEntry, InvalidMessage, MessageTooLarge, PartialSendError, SendError
from eip.limits import KIB, MIB
from eip.message import Message
from eip.packs import Bounds, Encoding, Format, check_encoding, entry_of, is_pack, pack, shared_fields
from eip.runtime.handlers import Handler, element_reader_of

__all__ = ["BatchFailure", "BatchHandler", "Packer", "batched"]

_BODY_FRAME: Final = 76
"""Bytes of a pack's body beside its entries."""
_FRAME: Final = _BODY_FRAME + 118
"""That, and the pack's own envelope: id, time and header, with the name and the type of the attribute it is in."""
_MOST_UNPACKED: Final = Bounds().size - _FRAME
"""Bytes that go into one pack, however well they compress: consumers unpack no more."""


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
            raise error if isinstance(error, (SendError, InvalidMessage)) else SendError(str(error)) from error
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
        limit: bytes of one pack, its attributes included; default: the unit that the channel's service bills, 64 KiB on
            SQS, SNS and EventBridge. What is compressed into it is at most what consumers unpack, 4 MiB.
        count: messages of one pack at most.
        linger: seconds (or timedelta) that a pack waits for more; default 0.
        encoding: ``"identity"``, ``"gzip"`` or ``"zstd"`` (the extra ``zstd``); compressed packs are base64 text.
        format: ``"eip"``, or ``"cloudevents"`` for a CloudEvents 1.0 JSON batch that others read too.
        pending: bytes that may wait to be sent; beyond, `send` waits.
    """

    def __init__(
        self,
        sender: Sender,
        *,
        limit: int | None = None,
        count: int = 1000,
        linger: Duration = 0.0,
        encoding: Encoding = "identity",
        format: Format = "eip",  # noqa: A002 - the field's term
        pending: int = 16 * MIB,
    ) -> None:
        check_encoding(encoding)
        if format == "cloudevents" and encoding != "identity":
            raise ConfigurationError("a CloudEvents batch is not compressed")
        limit = limit if limit is not None else sender.limits.unit_bytes or 64 * KIB
        if limit < KIB or count < 1:
            raise ConfigurationError("a pack holds at least one message and 1 KiB")
        if sender.limits.message_bytes is not None and limit > sender.limits.message_bytes:
            raise ConfigurationError(f"{sender.name} carries at most {sender.limits.message_bytes:,} bytes")
        self.name, self.address, self.limits = sender.name, sender.address, sender.limits
        self._sender, self._limit, self._count, self._linger = sender, limit, count, seconds(linger)
        self._frame = _FRAME + sender.limits.beside_bytes
        self._encoding: Encoding = encoding
        self._format: Format = format
        self._ratio = 1.0 if encoding == "identity" else 3.0
        self._open: dict[object, list[_Item]] = {}
        self._size = 0
        self._most = pending
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
        entries = [self._entry(message) for message in messages]
        call = _Call(len(entries))
        while self._size > self._most:
            self._room.clear()
            await self._room.wait()
        for message, entry in zip(messages, entries, strict=True):
            self._open.setdefault(_key(message), []).append(_Item(message, entry, call))
            self._size += len(entry)
        self._work.set()
        if self._size >= self._limit:
            self._full.set()
        await call.future
        call.outcome()

    def _entry(self, message: Message[Any]) -> bytes:
        if is_pack(message):
            raise InvalidMessage("a pack cannot be packed")
        entry = entry_of(message, format=self._format, shared=True)
        largest = self.limits.message_bytes
        if largest is not None and len(entry) > self._limit and len(entry) + _size_beside(message) > largest:
            raise MessageTooLarge(len(entry) + _size_beside(message), largest, channel=self.name)
        return entry

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
        """Send the items of each group in packs; whatever happens, each caller is told."""
        try:
            await self._send_packs([made for group in groups for made in self._packs(group)])
        except asyncio.CancelledError:
            _fail(items, SendError("the packer was cancelled while sending"))
            raise
        except Exception as error:  # noqa: BLE001 - each caller gets it
            _fail(items, error)

    async def _gather(self) -> None:
        """Wait until a pack's worth is there, or the linger has passed."""
        self._full.clear()
        if self._size < self._limit:
            try:
                await asyncio.wait_for(self._full.wait(), self._linger)
            except TimeoutError:
                return

    def _packs(self, items: Sequence[_Item]) -> list[tuple[Message[Any], Sequence[_Item]]]:
        """The items as packs within the limit, in order."""
        first = items[0].message
        room = self._limit - self._frame - _size_beside(first) - self._said_once(first)
        made: list[tuple[Message[Any], Sequence[_Item]]] = []
        start = 0
        while start < len(items):
            end = self._take(items, start, min(int(room * self._ratio), _MOST_UNPACKED))
            made.extend(self._pressed(items[start:end], room + self._said_once(first)))
            start = end
        return made

    def _said_once(self, message: Message[Any]) -> int:
        """Bytes that the pack's body takes to say what its messages share."""
        said = shared_fields(message) if self._format == "eip" else {}
        return len(dump_json(said)) + len(',"all":') if said else 0

    def _take(self, items: Sequence[_Item], start: int, room: int) -> int:
        """The end of the run from ``start`` that fits, at least one item."""
        size, end = len(items[start].entry), start + 1
        while end < len(items) and end - start < self._count and (size := size + len(items[end].entry) + 1) <= room:
            end += 1
        return end

    def _pressed(self, items: Sequence[_Item], room: int) -> list[tuple[Message[Any], Sequence[_Item]]]:
        """The items as one pack, or as several where they compress less than those before."""
        first = items[0].message
        if len(items) == 1:
            return [(first, items)]
        made = pack([each.entry for each in items], first, encoding=self._encoding, format=self._format, shared=True)
        size = len(made.encode())
        if self._encoding != "identity":
            ratio = sum(len(each.entry) for each in items) / size
            self._ratio = max(1.0, 0.5 * self._ratio + 0.48 * ratio)  # a little less than seen, so few are packed twice
        if size <= room + _BODY_FRAME:
            return [(made, items)]
        half = len(items) // 2
        return self._pressed(items[:half], room) + self._pressed(items[half:], room)

    async def _send_packs(self, packs: Sequence[tuple[Message[Any], Sequence[_Item]]]) -> None:
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


def _key(message: Message[Any]) -> object:
    """What messages of one pack have in common: all that a filter, a rule or the order goes by."""
    if not message.attributes:
        return (message.group_id, message.type, message.source)
    attributes = tuple(sorted((name, repr(value)) for name, value in message.attributes.items()))
    return (message.group_id, message.type, message.source, attributes)


def _size_beside(message: Message[Any]) -> int:
    """Bytes that a pack's attributes, type, source and group take beside its body, at most.

    A name may be there twice, as drivers note the type of a number or a boolean in the envelope.
    """
    named = sum(2 * len(name.encode()) + _length(value) + 32 for name, value in message.attributes.items())
    texts = (message.type, message.source, message.group_id)
    return named + sum(len(dump_json(text)) for text in texts if text is not None)


def _length(value: object) -> int:
    return len(value) if isinstance(value, bytes) else len(str(value).encode())


class BatchFailure(Exception):
    """Raised by a batch handler: the messages with these ids failed, the others are done."""

    def __init__(self, errors: dict[str, Exception]) -> None:
        self.errors = dict(errors)
        super().__init__(f"{len(errors)} messages of the batch failed")


BatchHandler = Callable[[Any], Awaitable[None]]
"""Takes a list: of `Message`, ``Message[T]`` or ``T``, as its annotation asks (``list[Order]``)."""


def batched(size: int, window: Duration) -> Callable[[BatchHandler], Handler]:
    """Turn a handler of many messages into one that a consumer can call; each is acknowledged after its batch.

    The handler gets up to ``size`` messages, as soon as so many are there or ``window`` seconds (or timedelta) after
    the first. It needs a consumer whose concurrency is at least ``size``; messages of one group come one to a batch,
    as they are handled one at a time. An error fails the whole batch, `BatchFailure` some of it; a body that is not
    what the handler's annotation asks for fails before, alone.

    Raises:
        ConfigurationError: ``size`` is less than 1.
    """
    if size < 1:
        raise ConfigurationError(f"size must be >= 1, got {size}")

    def wrap(handler: BatchHandler) -> Handler:
        batches = _Batches(handler, size, seconds(window))
        read = element_reader_of(handler)

        async def handle(message: Message[Any]) -> None:
            await batches.handle(message.id, message if read is None else read(message))

        return handle

    return wrap


class _Waiting(NamedTuple):
    id: str
    item: Any
    """What the handler gets: the message, or what its annotation makes of it."""
    done: asyncio.Future[None]


class _Batches:
    def __init__(self, handler: BatchHandler, size: int, window: float) -> None:
        self._handler, self._size, self._window = handler, size, window
        self._batch: list[_Waiting] = []
        self._timer: asyncio.TimerHandle | None = None
        self._running: set[asyncio.Task[None]] = set()

    async def handle(self, identity: str, item: Any) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._batch.append(_Waiting(identity, item, done))
        if len(self._batch) >= self._size:
            self._start()
        elif self._timer is None:
            self._timer = loop.call_later(self._window, self._start)
        await done

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch = [each for each in self._batch if not each.done.done()]
        self._batch = []
        if batch:
            task = asyncio.get_running_loop().create_task(self._run(batch))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _run(self, batch: Sequence[_Waiting]) -> None:
        failed: dict[str, Exception] = {}
        try:
            await self._handler([each.item for each in batch])
        except BatchFailure as error:
            failed = error.errors
        except Exception as error:  # noqa: BLE001 - each message's own consumer judges it
            failed = {each.id: error for each in batch}
        for each in batch:
            if each.done.done():
                continue
            if each.id in failed:
                each.done.set_exception(failed[each.id])
            else:
                each.done.set_result(None)
