"""Putting many messages as one record: aggregates that keep the order of each shard."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, cast

from typing_extensions import override

from eip.errors import ConnectionLost, TransportError
from eip.message import Message
from eip.streams import Shard
from eip.transports._capabilities import KINESIS
from eip.transports.aws._batch_dispatcher import FRUGAL, RETRY_BACKOFF, BatchDispatcher, Batching, Outcome
from eip.transports.aws._batch_results import outcome_of
from eip.transports.aws._client.errors import ServiceFailed, Unreachable
from eip.transports.aws.kinesis.aggregates import Aggregate, AggregatedSend, AggregateQueue
from eip.transports.aws.kinesis.records import RecordFields

__all__ = ["AggregateAccumulator", "PutRecords", "outcomes_of"]


class PutRecords(Protocol):
    """One call of PutRecords; returns its answer."""

    async def __call__(self, records: Sequence[dict[str, Any]], *, messages: int) -> Mapping[str, Any]:
        """Put records that hold so many messages."""
        ...


class _Misplaced(ConnectionLost):
    """The stream was resharded: the aggregate is in a shard that is not its record's, where its readers drop it."""


class AggregateAccumulator(BatchDispatcher[Aggregate]):
    """Sends messages as aggregates.

    Args:
        put_records: makes the call.
        list_shards: of the stream, closed ones included.
        batching: when calls begin that are not full.
        attempts: how often an aggregate is tried.
    """

    def __init__(
        self,
        put_records: PutRecords,
        list_shards: Callable[[], Awaitable[Sequence[Shard]]],
        *,
        attempts: int,
        batching: Batching = FRUGAL,
    ) -> None:
        self._put_records, self._list_shards = put_records, list_shards
        self._aggregates = AggregateQueue(KINESIS)
        super().__init__(self._put, self._aggregates, batching=batching, attempts=attempts)

    async def send(self, messages: Sequence[Message[Any]], records: Sequence[RecordFields]) -> None:
        """Return when each message was accepted; raises `PartialSendError`, or the error that all have.

        Cancelled, it does not say what became of them: they are sent nevertheless.

        Args:
            messages: in their order.
            records: theirs.
        """
        send, start = AggregatedSend(messages, records), 0
        while start < len(messages):
            room = self._room_left
            if room <= 0:
                await self._make_room()
                continue
            stop = min(len(messages), start + room)
            self._aggregates.add(send, range(start, stop))
            start = stop
        self._schedule()
        await send.done
        send.raise_failures()

    async def _put(self, aggregates: Sequence[Aggregate]) -> Sequence[Outcome]:
        """One call; the outcome of each."""
        answer = await self._put_records(
            [each.to_record() for each in aggregates], messages=sum(each.record.count for each in aggregates)
        )
        outcomes = outcomes_of(answer, len(aggregates))
        for place, (aggregate, put) in enumerate(zip(aggregates, answer["Records"], strict=True)):
            if outcomes[place] is None and put.get("ShardId") != aggregate.group:
                self._aggregates.stale = True
                if aggregate.record.count > 1:  # the service itself knew where a single one belongs
                    aggregate.landed = put.get("ShardId")
                    outcomes[place] = _Misplaced("the stream was resharded")
        return outcomes

    @override
    def _pump(self, *, due: bool = False) -> None:
        """Look at the shards first, once nothing is under way, where they are not known, or are others now."""
        if not self._aggregates.stale:
            super()._pump(due=due)
        elif self._aggregates.waiting and not self._calls and not self._aborting:
            self._calls.add(asyncio.create_task(self._divide(), name="list shards"))

    async def _divide(self) -> None:
        """Divide what waits among the shards; fail it where they cannot be found out."""
        try:
            self._aggregates.divide(await self._open_shards())
        except Exception as error:  # noqa: BLE001 - the outcome of all that waits
            for aggregate in self._aggregates.clear():
                aggregate.settle(error)
            self._room.set()
        finally:
            self._calls.discard(cast("asyncio.Task[None]", asyncio.current_task()))
            self._pump()

    async def _open_shards(self) -> Sequence[Shard]:
        failures = 0
        while True:
            try:
                if found := [each for each in await self._list_shards() if not each.closed]:
                    return found
                raise ServiceFailed("the stream has no open shard")
            except TransportError as error:
                failures += 1
                if not error.transient or isinstance(error, Unreachable) or failures >= self._attempts:
                    raise
                await asyncio.sleep(RETRY_BACKOFF.delay(failures))


def outcomes_of(answer: Mapping[str, Any], count: int) -> list[Outcome]:
    """The outcomes of so many records that were put; one without a sequence number is not known to be in the stream."""
    records = answer["Records"]
    if not isinstance(records, list) or len(records) != count:
        raise ServiceFailed(f"PutRecords: the answer is not about each of {count} records")
    return [outcome_of("kinesis", "PutRecords", each, proof="SequenceNumber") for each in records]
