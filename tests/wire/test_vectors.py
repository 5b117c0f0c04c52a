"""Golden vectors: today's writer writes the current ones, byte for byte; today's reader reads those of all versions.

``vectors/v0.json`` was written by releases whose envelope had no ``v`` (commit a6510f7), ``v1.json`` by version 1;
``v2.json`` is what a later version may write: fields, and forms of attributes, that this one does not know.

    python -m tests.wire     writes v1.json: only for a place, or a message, that is new in it
"""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from eip import Message
from eip.attributes import to_native, to_wire
from eip.codec import dump_json
from eip.envelope import dump_message, load_message
from tests.wire.forms import FORMS, written
from tests.wire.messages import FIRST, MESSAGES

VECTORS = Path(__file__).parent / "vectors"


def vectors(version: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads((VECTORS / f"{version}.json").read_text())
    return found


def each(version: str) -> list[Any]:
    return [
        pytest.param(form, name, wire, id=f"{form}-{name}")
        for form, named in vectors(version).items()
        for name, wire in named.items()
    ]


def expected(form: str, message: Message[Any]) -> Message[Any]:
    """The message as that place can hold it."""
    if form == "sqs-fifo":
        dedup = message.deduplication_id or message.id
        return message.replace(group_id=message.group_id or "g", deduplication_id=dedup)
    if form.startswith("pack") and form != "pack-cloudevents":
        message = message.replace(attributes={})  # the message around it has them
    if "cloudevent" in form:
        message = message.replace(source=message.source or "/", type=message.type or "message")
    return message


@pytest.mark.parametrize(("form", "name", "wire"), each("v0"))
def test_what_releases_before_version_1_wrote_is_read(form, name, wire):
    wanted = expected(form, FIRST[name])
    if "cloudevent" in form:
        wanted = wanted.replace(attributes={})  # an event had none
    assert FORMS[form].read(wire) == wanted


@pytest.mark.parametrize(("form", "name", "wire"), each("v1"))
def test_the_current_version_is_written_and_read(form, name, wire):
    exact = FORMS[form].exact
    assert exact(FORMS[form].write(MESSAGES[name])) == exact(wire)
    read = FORMS[form].read(wire)
    assert read == expected(form, MESSAGES[name])
    assert {key: to_native(value)[:2] for key, value in read.attributes.items()} == {
        key: to_native(value)[:2] for key, value in expected(form, MESSAGES[name]).attributes.items()
    }


def test_every_place_and_every_message_has_its_vector():
    found = vectors("v1")
    assert found.keys() == FORMS.keys()
    assert {form: sorted(named) for form, named in found.items()} == {
        form: sorted(name for name in MESSAGES if written(form, MESSAGES[name]) is not None) for form in FORMS
    }


LATER: dict[str, Any] = {"v": 2, "prio": 5, "zone": {"a": [1.5, None]}}
LATER_ATTRIBUTES: dict[str, Any] = {"due": {"date": "2026-01-01"}, "none": None, "pairs": [["a", 1], {"b": True}]}


@pytest.mark.parametrize(("form", "name", "wire"), each("v2"))
def test_what_a_later_version_adds_is_read_kept_and_passed_on(form, name, wire):
    read = FORMS[form].read(wire)
    assert read.extensions == LATER
    assert read.replace(extensions=None, attributes=None) == expected(form, MESSAGES[name]).replace(attributes=None)
    stored = load_message(dump_message(read))
    again = FORMS[form].read(FORMS[form].write(stored))
    for passed in (read, stored, again):
        assert (passed.extensions, passed.encode()) == (LATER, read.encode())
        assert wire_attributes(passed) == wire_attributes(read)
    if form == "pack":
        return  # its attributes are those of the message around it
    assert wire_attributes(read).items() >= LATER_ATTRIBUTES.items()
    for other in sorted(FORMS):
        if other == "pack-cloudevents" or not other.startswith("pack"):
            assert wire_attributes(FORMS[other].read(FORMS[other].write(read))) == wire_attributes(read), other


@pytest.mark.parametrize("form", sorted(FORMS))
def test_numbers_of_unknown_fields_keep_their_digits(form):
    """Fault 12: 1.10 was passed on as 1.1."""
    digits = {"prio": Decimal("1.10"), "zone": [Decimal("0.50"), 1.5, Decimal("0.1234567890123456789"), 10**40]}
    for message in MESSAGES.values():
        if (wire := written(form, message.replace(extensions=digits))) is None:
            continue
        read = FORMS[form].read(wire)
        for passed in (read, load_message(dump_message(read)), FORMS[form].read(FORMS[form].write(read))):
            assert dump_json(dict(passed.extensions)) == dump_json(digits)


def wire_attributes(message: Message[Any]) -> dict[str, Any]:
    return {name: to_wire(value) for name, value in message.attributes.items()}
