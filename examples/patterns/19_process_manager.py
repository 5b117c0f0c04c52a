"""Process Manager: work goes through its steps; where one fails for good, those before it are undone in reverse.

Prints:

    hotel booked
    train booked
    train cancelled: no payment
    hotel cancelled: no payment
    trip-1 compensated (TimeoutError: no message came for paid)
    hotel booked
    train booked
    trip-2 completed, paid with 90
"""

from pydantic import BaseModel

from eip import Message
from eip.patterns.process_manager import Process, ProcessManager
from eip.stores import MemoryStore
from eip.testing import run  # in virtual time, so that the hour passes at once


class Trip(BaseModel):
    paid: int = 0


async def book_hotel(trip: Trip) -> None:
    print("hotel booked")


async def cancel_hotel(trip: Trip) -> None:
    print("hotel cancelled: no payment")


async def book_train(trip: Trip) -> None:
    print("train booked")


async def cancel_train(trip: Trip) -> None:
    print("train cancelled: no payment")


async def paid(trip: Trip, message: Message) -> None:
    trip.paid = message.body


async def main() -> None:
    trips = (
        Process("trip", version=1, state=Trip)
        .step(book_hotel, compensate=cancel_hotel)
        .step(book_train, compensate=cancel_train)
        .receive(paid, within=3600)
    )
    manager = ProcessManager(MemoryStore(), [trips])  # or SqliteStore("trips.sqlite"): goes on after a crash
    async with manager:
        ended = await manager.ended(await manager.start("trip", Trip(), id="trip-1"))
        print(f"{ended.id} {ended.status} ({ended.error})")

        await manager.start("trip", Trip(), id="trip-2")
        await manager.receive(Message(90, correlation_id="trip-2"))  # as a handler of the queue of payments does
        ended = await manager.ended("trip-2")
        print(f"{ended.id} {ended.status}, paid with {(await manager.state('trip-2')).paid}")


run(main())
