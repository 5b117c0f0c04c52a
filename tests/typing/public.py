"""The types that users get, for mypy and pyright."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any, assert_type

import psycopg
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session

from eip import Consumer, Delivery, Message, Queue, Receiver, Sender, Source, Topic, Transport, run
from eip.patterns.idempotent_receiver import idempotent
from eip.patterns.inbox import Inbox
from eip.patterns.pipeline import pipeline
from eip.patterns.process_manager import Context, Process, Steps
from eip.patterns.scatter_gather import Gathered, ScatterGather
from eip.patterns.splitter import splitter
from eip.stores import MemoryStore, SqliteStore
from eip.stores.base import Store
from eip.stores.inbox import InboxTable
from eip.stores.outbox import SqlOutbox
from eip.transports.memory import MemoryQueue, MemoryTransport


class Order(BaseModel):
    lines: list[str]


async def takes_a_body(order: Order) -> None: ...


async def takes_an_envelope(message: Message[Order]) -> Message[int]:
    assert_type(message.body, Order)
    assert_type(message.replay_name, str | None)
    return message.reply(len(message.body.lines))


async def returns_several(message: Message) -> list[Message[str]]:
    return [message.derive("one"), message.derive("two")]


def messages() -> None:
    order = Message(Order(lines=[]), type="Order", attributes={"kind": "x", "prices": [1, 2.5]})
    assert_type(order, Message[Order])
    assert_type(order.body, Order)
    assert_type(order.with_body(1), Message[int])
    assert_type(order.replace(type="Other"), Message[Order])
    assert_type(order.derive(b"x"), Message[bytes])


async def channels(transport: Transport, memory: MemoryTransport) -> None:
    assert_type(transport.queue("q"), Queue)
    assert_type(memory.queue("q"), MemoryQueue)
    assert_type(transport.topic("t"), Topic)
    assert_type(transport.topic("t").subscription("s"), Source)
    sender: Sender = transport.resolve("memory:queue/q")
    await sender.send(Message(1), Message("two"))
    async with transport.queue("q").receiver() as receiver:
        assert_type(receiver, Receiver)
        assert_type(await receiver.receive(10), Sequence[Delivery])
        async for delivery in receiver:
            assert_type(delivery.message, Message[Any])


async def consumers(transport: Transport) -> None:
    queue = transport.queue("q")
    await run(
        Consumer(queue, takes_a_body),
        Consumer(queue, takes_an_envelope, output=transport.topic("t"), max_processing=timedelta(minutes=1)),
        Consumer(queue, returns_several, output=queue),
        Consumer(queue, idempotent(MemoryStore())(takes_a_body)),
        Consumer(queue, pipeline(splitter(lambda order: order.body), takes_a_body)),
    )


async def scatter(transport: Transport) -> None:
    async with ScatterGather(transport.topic("t"), transport.queue("r")) as gather:
        assert_type(await gather.request(1, deadline=5, expected=3), Gathered)
        replies: AsyncIterator[Message[Any]] = aiter(gather.request(1, deadline=5, until=lambda found: len(found) > 2))
        async for reply in replies:
            assert_type(reply, Message[Any])


def stores() -> list[Store]:
    return [MemoryStore(), SqliteStore("file.sqlite")]


async def ship(order: Order) -> None: ...


async def bill(order: Order, context: Context) -> Order:
    return order


async def label(line: str) -> str:
    return line.upper()


def processes() -> None:
    assert_type(Process("any"), Process[dict[str, Any]])
    lines = Process("line", state=str).step(label)
    assert_type(lines, Process[str])
    order = (
        Process("order", version=2, state=Order)
        .choice([(lambda order: len(order.lines) > 1, Steps[Order]().step(ship))], otherwise=Steps[Order]().step(bill))
        .map(lines, items=lambda order: order.lines, join=lambda _, labels: Order(lines=labels))
        .wait(lambda order: timedelta(days=len(order.lines)))
    )
    assert_type(order, Process[Order])
    Process("order", state=Order).step(label)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def outboxes(
    outbox: SqlOutbox, session: Session, asynchronous: AsyncSession, connection: psycopg.AsyncConnection
) -> None:
    outbox.add(session, "orders", Message(1))
    assert_type(await outbox.add(asynchronous, "orders", Message(1)), None)
    outbox.add(connection, "orders", Message(1))  # type: ignore[unused-coroutine]  # not awaited: an error
    outbox.add("connection", "orders")  # type: ignore[call-overload]  # no connection


def inboxes(table: InboxTable, sessions: async_sessionmaker[AsyncSession]) -> Consumer:
    inbox = Inbox(table, sessions.begin)
    assert_type(inbox, Inbox[AsyncSession])

    @inbox.handler("billing")
    async def bill(order: Order, session: AsyncSession) -> None: ...

    @inbox.handler("billing")  # type: ignore[arg-type]  # another kind of session
    def synchronous(order: Order, session: Session) -> None: ...

    return Consumer(MemoryTransport().queue("orders"), bill)
