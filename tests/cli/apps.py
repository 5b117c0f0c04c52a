"""Applications that the tests of the command run."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from eip import App, AppSettings, Message, QueueSpec, ReturnAddresses, SubscriptionSpec, TopicSpec, Topology
from eip.errors import ConfigurationError
from eip.topology.archives import ReplayState, ReplayStatus
from eip.transports.memory import MemoryTransport


class Order(BaseModel):
    id: int


TOPOLOGY = Topology(QueueSpec("cli-orders"), TopicSpec("cli-events"), SubscriptionSpec("cli-events", "billing"))


def make_app() -> App:
    app = App(AppSettings().make_transport(), topology=TOPOLOGY, name="cli")

    @app.consumer("cli-orders", concurrency=2)
    async def bill(order: Order) -> None:
        del order

    app.sender("cli-events", Order)
    return app


def pricing() -> App:
    app = App(AppSettings().make_transport(), topology=Topology(QueueSpec("cli-prices")))

    @app.consumer("cli-prices", reply_to=ReturnAddresses(app.transport, allow="activemq:temp-queue/*"))
    async def price(message: Message) -> Message[Any]:
        return message.reply({"price": message.body["id"] * 2})

    return app


def broken() -> App:
    raise ConfigurationError("it cannot be")


module_level = App(MemoryTransport())
not_an_app = 7


def replaying() -> App:
    """A bus whose replays start, run and end between two looks each."""

    async def started(name: str, **_: Any) -> None:
        del name

    async def in_steps(name: str) -> ReplayStatus:
        return ReplayStatus(name=name, archive="orders", state=next(states), start=0.0, end=60.0)

    states = iter((ReplayState.STARTING, ReplayState.STARTING, ReplayState.RUNNING, ReplayState.COMPLETED))
    transport = MemoryTransport()
    archives: Any = transport.bus("shop").archives
    archives.start_replay, archives.describe_replay = started, in_steps
    return App(transport)
