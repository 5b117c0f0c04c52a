"""Process Manager: a choice, a failure branch, parallel branches, a process for each item, and a timer.

Prints:

    pick apple
    pick plum
    insure
    order-1: sent
    pick durian
    back to the shelf: durian
    order-2: refused (0: Reject: no durians on board)
"""

from pydantic import BaseModel

from eip.errors import Reject
from eip.patterns.process_manager import Context, Process, ProcessManager, Steps
from eip.stores import MemoryStore
from eip.testing import run  # in virtual time, so that the hour passes at once


class Order(BaseModel):
    fruits: list[str]
    value: int = 0
    outcome: str = "open"


async def pick(fruit: str) -> None:
    print(f"pick {fruit}")


async def put_back(fruit: str) -> None:
    print(f"back to the shelf: {fruit}")


async def check_cargo(fruit: str) -> None:
    if fruit == "durian":
        raise Reject("no durians on board")


async def insure(order: Order) -> None:
    print("insure")


async def weigh(order: Order) -> None: ...


async def send(order: Order) -> None:
    order.outcome = "sent"


async def refuse(order: Order, context: Context) -> None:
    order.outcome = f"refused ({context.error})"


PICKING = Process("picking", state=str).step(pick, compensate=put_back).step(check_cargo)
PAPERS = Steps[Order]().choice([(lambda order: order.value > 100, Steps[Order]().step(insure))])
PACKING = (
    Steps[Order]()
    .map(PICKING, items=lambda order: order.fruits, max_concurrency=1)
    .parallel({"papers": PAPERS, "scales": Steps[Order]().step(weigh)})
    .wait(3600)
)
ORDER = Process("order", state=Order).catch(PACKING.step(send), failed=Steps[Order]().step(refuse))


async def main() -> None:
    async with ProcessManager(MemoryStore(), [ORDER]) as manager:
        for key, fruits in {"order-1": ["apple", "plum"], "order-2": ["durian"]}.items():
            await manager.start("order", Order(fruits=fruits, value=500), id=key)
            await manager.ended(key)
            print(f"{key}: {(await manager.state(key)).outcome}")


run(main())
