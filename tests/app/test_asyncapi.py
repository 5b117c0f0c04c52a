"""The AsyncAPI document of an application: valid by the official schema, and true to what the application declares."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest
from jsonschema import Draft7Validator
from pydantic import BaseModel, Field, RootModel

from eip import (
    App,
    BusSpec,
    Handlers,
    Message,
    QueueSpec,
    ReturnAddresses,
    StreamSpec,
    SubscriptionSpec,
    TopicSpec,
    Topology,
)
from eip.app.asyncapi import asyncapi_document
from eip.patterns import Inbox
from eip.runtime.handlers import Handler, middleware
from eip.schemas import compare
from eip.stores.inbox import SqliteInbox
from eip.stores.outbox import SqliteOutbox
from eip.transports.activemq import ActiveMQTransport
from eip.transports.aws import AwsTransport
from eip.transports.memory import MemoryTransport
from examples.shop.app import ShopSettings, make_app

OFFICIAL = Path(__file__).parents[1] / "schemas" / "asyncapi" / "3.0.0.json"


@pytest.fixture(scope="module")
def validator() -> Draft7Validator:
    return Draft7Validator(json.loads(OFFICIAL.read_text()))


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(found := value.get("$ref"), str):
            yield found
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


@pytest.fixture
def made(validator) -> Callable[..., dict[str, Any]]:
    """Makes a document, as it is read from its JSON, and holds it to the specification."""

    def make(app: App, **options: Any) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(json.dumps(asyncapi_document(app, **options)))
        assert [(list(each.absolute_path), each.message[:300]) for each in validator.iter_errors(document)] == []
        for reference in references(document):
            found: Any = document
            for part in reference.removeprefix("#/").split("/"):
                found = found[part]
        for name, operation in document["operations"].items():
            within = operation["channel"]["$ref"] + "/messages/"
            assert all(each["$ref"].startswith(within) for each in operation["messages"]), name
        assert compare(document, document) == []
        return document

    return make


class Money(BaseModel):
    amount: Decimal
    currency: Literal["EUR", "USD"] = "EUR"


class Order(BaseModel):
    id: str
    price: Money
    placed: datetime
    lines: list[tuple[str, Annotated[int, Field(ge=1)]]] = []
    parent: Order | None = None


class Bill(BaseModel):
    order: str


def test_the_shop_s_document(made, tmp_path):
    document = made(make_app(ShopSettings(transport="memory", database=str(tmp_path / "shop.sqlite"))), version="2.1.0")
    assert document["info"] == {"title": "shop", "version": "2.1.0"}
    assert document["servers"] == {"embedded": {"host": "localhost", "protocol": "memory"}}
    assert set(document["channels"]) >= {"orders.fifo", "stock", "freight"}
    assert {(each["action"], each["channel"]["$ref"]) for each in document["operations"].values()} >= {
        ("send", "#/channels/orders.fifo"),
        ("receive", "#/channels/orders.fifo"),
        ("receive", "#/channels/stock"),
    }
    assert document["operations"]["orders.fifo.billing.receive"]["x-eip-subscription"] == "billing"
    reply = document["operations"]["stock.receive"]["reply"]
    assert reply["address"] == {"location": "$message.header#/eip/reply"}
    assert document["channels"]["stock.replies"]["address"] is None
    assert document["components"]["messages"]["OrderPlaced"]["payload"] == {"$ref": "#/components/schemas/OrderPlaced"}
    assert document["components"]["correlationIds"]["eip"]["location"] == "$message.header#/eip/cid"


def test_every_kind_of_channel_and_message(made):
    app = App(
        MemoryTransport(),
        topology=Topology(
            QueueSpec("orders"),
            TopicSpec("orders"),
            SubscriptionSpec("orders", "all"),
            BusSpec("events"),
            StreamSpec("clicks"),
        ),
    )
    handlers = Handlers()

    @handlers.add
    async def order(order: Order) -> list[Message[Bill]]:
        return []

    @handlers.on("Cancelled")
    async def cancelled(message: Message) -> Message[str] | None: ...

    app.consumer(QueueSpec("orders"), output="bills")(handlers)
    app.consumer(TopicSpec("orders"), subscription="all")(_takes(Message[Order]))
    app.consumer("events", subscription="r")(_takes(dict[str, int]))
    app.consumer("clicks", subscription="g")(_takes(bytes))
    app.consumer("texts", reply_to="replies-")(_takes(str))
    app.sender("clicks", Bill, Order)
    document = made(app)
    channels = {(each["x-eip-kind"], each["address"]) for each in document["channels"].values() if each["address"]}
    assert channels == {
        ("queue", "orders"),
        ("topic", "orders"),
        ("bus", "events"),
        ("stream", "clicks"),
        ("queue", "texts"),
        ("queue", "bills"),
    }
    messages = document["components"]["messages"]
    assert messages["Cancelled"]["payload"] == {}
    assert {each["contentType"] for each in messages.values()} == {
        "application/json",
        "text/plain",
        "application/octet-stream",
    }
    sent = document["operations"]["bills.send"]["messages"]
    assert [each["$ref"].rpartition("/")[2] for each in sent] == ["Bill", "any-message-3"]
    assert document["components"]["schemas"]["Money-Input"]["properties"]["currency"]["enum"] == ["EUR", "USD"]


@middleware
def observed(handle: Handler) -> Handler:
    async def observe(message: Message) -> Any:
        return await handle(message)

    return observe


def test_handlers_inside_of_middleware_keep_their_types_and_names(made):
    handlers = Handlers()

    @handlers.add
    async def placed(order: Order) -> Message[Bill]:
        return Message(Bill(order=order.id))

    @handlers.on("Cancelled")
    async def cancelled(message: Message) -> None: ...

    app = App(MemoryTransport())
    app.consumer("orders", output="bills")(observed(handlers))
    (handler,) = app.handlers
    assert [each.rpartition(".")[2] for each in handler.name.split(", ")] == ["placed", "cancelled"]
    assert set(handler.message_types) == {"Order", "Cancelled"}
    assert [dict(each.message_types) for each in app.publications] == [{"Bill": Bill}]
    sent = made(app)["operations"]["bills.send"]["messages"]
    assert [each["$ref"].rpartition("/")[2] for each in sent] == ["Bill"]


def _takes(annotation: Any) -> Any:
    async def handle(message: Any) -> None: ...

    handle.__annotations__ = {"message": annotation, "return": None}
    return handle


def test_what_is_received_is_validated_and_what_is_sent_serialized(made):
    """A Decimal is read from a number or a text, and written as a text."""
    app = App(MemoryTransport())
    app.consumer("in")(_takes(Money))
    app.sender("out", Money)
    schemas = made(app)["components"]["schemas"]
    assert len(schemas["Money-Input"]["properties"]["amount"]["anyOf"]) == 2
    assert schemas["Money-Output"]["properties"]["amount"]["type"] == "string"


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


class Pet(RootModel[Annotated[Cat | Dog, Field(discriminator="kind")]]):
    pass


class Callback(BaseModel):
    call: Callable[[], None]


class Hostile(BaseModel):
    """</script><script>alert(1)</script>"""

    message_type: ClassVar[str] = 'a/b~c #?%"<script> Übergabe'

    a: int = Field(alias="a/b~<img src=x>", description="</td><script>")


def same_name() -> type[BaseModel]:
    class Order(BaseModel):
        other: int

    return Order


@pytest.mark.parametrize("model", [Pet, Callback, Hostile, Order, dict[str, Any], list[Order], int, Any])
def test_any_type_has_a_valid_document(made, model):
    app = App(MemoryTransport())
    app.consumer("q")(_takes(model))
    made(app)


def test_odd_names_and_names_that_are_there_twice(made):
    app = App(MemoryTransport(), topology=Topology(QueueSpec("a/b"), TopicSpec("a/b"), SubscriptionSpec("a/b", "x/y")))
    app.consumer(QueueSpec("a/b"))(_takes(Order))
    app.consumer(TopicSpec("a/b"), subscription="x/y")(_takes(same_name()))
    app.sender("東京 ~1 %2F <b>", Hostile)
    app.sender("a-b", Order)
    document = made(app, title="<script>", description="é")
    assert len({each["address"] for each in document["channels"].values()}) == 3
    assert len(document["channels"]) == 4
    assert Hostile.message_type in {each["name"] for each in document["components"]["messages"].values()}
    orders = [
        each["payload"]["$ref"] for each in document["components"]["messages"].values() if each["name"] == "Order"
    ]
    assert len(set(orders)) == 3, "two models share a name, and one of them has two forms: three schemas"


@pytest.mark.parametrize(
    ("transport", "servers"),
    [
        (
            lambda: AwsTransport(region="eu-central-1"),
            {
                "sqs": {"host": "sqs.eu-central-1.amazonaws.com", "protocol": "sqs"},
                "sns": {"host": "sns.eu-central-1.amazonaws.com", "protocol": "sns"},
            },
        ),
        (
            lambda: AwsTransport(region="eu-central-1", endpoint_url="http://user:secret@127.0.0.1:5000"),
            {
                "sqs": {"host": "127.0.0.1:5000", "protocol": "sqs"},
                "sns": {"host": "127.0.0.1:5000", "protocol": "sns"},
            },
        ),
        (
            lambda: AwsTransport(region="cn-north-1"),
            {
                "sqs": {"host": "sqs.cn-north-1.amazonaws.com.cn", "protocol": "sqs"},
                "sns": {"host": "sns.cn-north-1.amazonaws.com.cn", "protocol": "sns"},
            },
        ),
        (
            lambda: ActiveMQTransport("stomp+ssl://user:secret@a:61614,stomp://b:61613"),
            {
                "broker-1": {"host": "a:61614", "protocol": "stomps"},
                "broker-2": {"host": "b:61613", "protocol": "stomp"},
            },
        ),
    ],
)
async def test_servers_are_named_without_credentials(made, transport, servers):
    app = App(transport(), topology=Topology(TopicSpec("t"), SubscriptionSpec("t", "s")))
    app.consumer("q", reply_to=ReturnAddresses(app.transport, prefix="r"))(_takes(Order))
    app.consumer("t", subscription="s")(_takes(Order))
    document = made(app)
    assert document["servers"] == servers
    assert "secret" not in json.dumps(document)


def test_wrong_arguments(tmp_path):
    app = App(MemoryTransport())
    for wrong in (None, "app", MemoryTransport()):
        with pytest.raises(TypeError, match="app must be an App"):
            asyncapi_document(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="version must be a str"):
        asyncapi_document(app, version=1.0)  # type: ignore[arg-type]
    assert asyncapi_document(app)["channels"] == {}


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_handler_of_an_inbox_that_replies_has_a_reply(made, tmp_path, wrapped):
    """Its results go through the outbox, so that the consumer itself returns nothing."""
    path = tmp_path / "shop.sqlite"
    table = SqliteInbox(path)
    inbox = Inbox(table, table.connect, outbox=SqliteOutbox(path))

    def bill(message: Message[Order], db: sqlite3.Connection) -> Message[Bill]:
        return message.reply(Bill(order=message.body.id))

    def cancel(message: Message[Money], db: sqlite3.Connection) -> Message[str]:
        return message.reply("cancelled")

    handlers = Handlers()
    billing = inbox.handler("billing", replies=True)(bill)
    handlers.add(observed(billing) if wrapped else billing)
    handlers.add(inbox.handler("cancelling", output="notes")(cancel))
    app = App(MemoryTransport())
    app.consumer("orders")(handlers)
    document = made(app)
    reply = document["operations"]["orders.receive"]["reply"]
    assert reply["address"] == {"location": "$message.header#/eip/reply"}
    assert [each["$ref"].rpartition("/")[2] for each in reply["messages"]] == ["Bill"], "the other one does not reply"
    alone = App(MemoryTransport())
    alone.consumer("notes")(inbox.handler("notes", output="notes")(cancel))
    assert "reply" not in made(alone)["operations"]["notes.receive"]
