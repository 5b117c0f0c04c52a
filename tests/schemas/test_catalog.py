"""Schemas: exported from models, drafted from samples, and held to before anything is sent."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel, Field

from eip import Message
from eip.channels import Queue
from eip.errors import ConfigurationError, InvalidMessage
from eip.schemas import Catalog, infer_schema
from eip.transports.memory import MemoryTransport
from tests.runtime.scripted import Outbox


class Person(BaseModel):
    name: str


class JobCreated(BaseModel):
    number: int
    by: Person
    salary: Decimal | None = Field(default=None, alias="pay")

    model_config: ClassVar[Any] = {"populate_by_name": True}


CATALOG = Catalog({"JobCreated": JobCreated, "Counted": dict[str, int]})


def job(**body):
    return Message({"number": 1, "by": {"name": "Ada"}, **body}, type="JobCreated", source="jobs")


def test_a_body_has_a_schema():
    schema = CATALOG.json_schema("JobCreated")
    assert schema["$schema"].endswith("2020-12/schema")
    assert schema["properties"]["number"] == {"title": "Number", "type": "integer"}
    assert "pay" in schema["properties"], "as on the wire"
    assert CATALOG.json_schema("Counted")["additionalProperties"] == {"type": "integer"}
    assert list(CATALOG) == ["JobCreated", "Counted"]


def test_an_event_has_a_schema_whose_definitions_are_found():
    schema = CATALOG.event_schema("JobCreated", source="jobs")
    assert schema["properties"]["detail-type"] == {"const": "JobCreated"}
    assert schema["properties"]["source"] == {"const": "jobs"}
    assert schema["properties"]["detail"]["properties"]["by"] == {"$ref": "#/$defs/Person"}
    assert "Person" in schema["$defs"]
    assert "replay-name" not in schema["required"]
    assert "$defs" not in CATALOG.event_schema("Counted")


async def test_only_what_is_valid_is_sent():
    out = Outbox()
    sender = CATALOG.checked(out)
    await sender.send(job(), Message(JobCreated(number=2, by=Person(name="Bob"), salary=Decimal(3)), type="JobCreated"))
    assert len(out.sent) == 2
    for wrong, complaint in (
        (job(number="many"), "JobCreated: .*number"),
        (Message({}, type="JobDeleted"), "'JobDeleted' is not in the catalog"),
        (Message({}), "None is not in the catalog"),
    ):
        with pytest.raises(InvalidMessage, match=complaint) as refused:
            await sender.send(job(), wrong)
        assert "many" not in str(refused.value), "bodies are in no error"
    assert len(out.sent) == 2


def test_what_is_in_no_catalog_is_told():
    with pytest.raises(ConfigurationError, match="it has: JobCreated, Counted"):
        CATALOG.json_schema("Other")
    with pytest.raises(ConfigurationError, match="no schema"):
        Catalog({"T": Outbox})


def test_a_draft_fits_its_samples():
    samples: list[dict[str, Any]] = [
        {"id": n, "kind": ("a", "b")[n % 2], "price": n if n % 2 else n / 2, "tags": ["x"], "who": {"name": f"p{n}"}}
        for n in range(20)
    ]
    samples[3]["note"] = None
    samples[4]["note"] = "text"
    schema = infer_schema(samples)
    assert schema["required"] == ["id", "kind", "price", "tags", "who"]
    assert schema["properties"] == {
        "id": {"type": "integer"},
        "kind": {"type": "string", "enum": ["a", "b"]},
        "price": {"type": "number"},
        "tags": {"type": "array", "items": {"type": "string", "enum": ["x"]}},
        "who": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
        "note": {"type": ["null", "string"]},
    }


def test_few_samples_make_no_enumeration_and_none_no_schema():
    assert infer_schema(["a", "b"])["type"] == "string"
    assert "enum" not in infer_schema(["a", "b"])
    assert infer_schema([[], [True]])["items"] == {"type": "boolean"}
    with pytest.raises(ConfigurationError):
        infer_schema([])


async def test_a_checked_queue_is_a_queue_and_passes_options_on():
    """Fault 40: a decorated sender takes what the inner one takes."""
    async with MemoryTransport() as transport:
        checked = Catalog({"T": dict[str, int]}).checked(transport.queue("q"))
        await checked.send(Message({"a": 1}, type="T"), delay=5)
        with pytest.raises(InvalidMessage):
            await checked.send(Message({"a": "x"}, type="T"), delay=5)
        assert isinstance(checked, Queue)
