"""Each member that the SDK's service models let an operation have is one that we set, or left out with a reason.

So a new SDK cannot bring a member that nobody looked at. `members.toml` lists what we set and what not; the source
says which operations we use, and the calls of all tests against the emulators say which members (tests/support/aws.py).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import botocore
import botocore.session
import pytest
from botocore.exceptions import UnknownServiceError

from eip._aws.sigv4 import HOT
from tests.support.members import FILE, Table, load, members_of

ROOT = Path(__file__).parents[3]
NEWEST, TABLES = load()
MODELS = {service: botocore.session.get_session().get_service_model(service) for service in TABLES}
ROOMS = {"eventbridge": "events", "lambda_functions": "lambda", "stores": "dynamodb"}
"""Folders whose calls are of a service with another name."""
SOURCES = sorted([*(ROOT / "transports" / "aws").rglob("*.py"), *(ROOT / "eip" / "stores").glob("*dynamodb*.py")])
NOT_CALLS = ("_client", "lambda_host", "cloudformation.py")


def known(service: str, operation: str) -> bool:
    """Whether the SDK in reach has the operation: an older one lacks the newest."""
    return operation in MODELS[service].operation_names


OPERATIONS = [
    (service, name) for service, table in TABLES.items() for name in sorted(table.names) if known(service, name)
]


@pytest.mark.parametrize(("service", "operation"), OPERATIONS)
def test_each_member_of_an_operation_is_set_or_left_out_with_a_reason(service, operation):
    found = sorted(TABLES[service].unlisted(MODELS[service].operation_model(operation)))
    assert not found, f"new in {service}: set them, or list them in {FILE.name} as left out, with the reason: {found}"


def version(text: str) -> tuple[int, ...]:
    return tuple(int(each) for each in text.split("."))


@pytest.mark.skipif(version(botocore.__version__) < version(NEWEST), reason=f"the lists are of botocore {NEWEST}")
@pytest.mark.parametrize("service", TABLES)
def test_nothing_is_listed_that_the_service_does_not_have(service):
    table, model = TABLES[service], MODELS[service]
    operations = [model.operation_model(name) for name in table.names & set(model.operation_names)]
    rows = {table.row(each, shape): members_of(shape) for each in operations for shape in table.reached(each)}
    rows |= {each.name: frozenset() for each in operations if table.row(each, each.input_shape) not in rows}
    assert table.names == rows.keys()
    assert [f"{row}.{name}" for row in rows for name in table.set[row] - rows[row]] == []
    gone = table.left_out.keys() and set().union(*table.left_out.values()) - set().union(*rows.values())
    assert not gone


# What the source uses.


def service_of(path: Path) -> str | None:
    """The service that a file's calls are of, by its folder; None for those above them all."""
    room = ROOMS.get(path.parent.name, path.parent.name)
    return room if room in TABLES else None


def literals(path: Path) -> Iterator[tuple[str | None, str]]:
    """The texts of a file, as patterns, with the service they are of where it is known: the argument before them."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            given = [each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
            yield from ((given[0], re.escape(each)) for each in given[1:] if given[0] in TABLES)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield service_of(path), re.escape(node.value)
        elif isinstance(node, ast.JoinedStr):
            parts = [re.escape(str(each.value)) if isinstance(each, ast.Constant) else ".+" for each in node.values]
            if any(part != ".+" and len(part) > 5 for part in parts):
                yield service_of(path), "".join(parts)


def operations_of(service: str, pattern: str) -> set[str]:
    """The operations that a text names."""
    return {each for each in NAMES[service] if re.fullmatch(pattern, each)}


NAMES = {service: frozenset(model.operation_names) for service, model in MODELS.items()}


def used() -> set[tuple[str, str]]:
    """Service and operation of each call that the source names."""
    found = set()
    for path in SOURCES:
        if path.name in NOT_CALLS or path.parent.name in NOT_CALLS:
            continue
        for service, pattern in literals(path):
            if service is not None:
                found |= {(service, each) for each in operations_of(service, pattern)}
    return found


def test_the_operations_that_the_source_names_are_those_of_the_table():
    assert used() == set(OPERATIONS)


def test_hot_calls_are_in_the_table():
    assert set(OPERATIONS) >= HOT


def test_what_the_table_says_is_set_is_named_in_the_source():
    """A member that no file names is not set by anyone."""
    words = set(re.findall(r"\w+", "\n".join(path.read_text() for path in SOURCES)))
    assert [
        f"{service} {row}.{name}"
        for service, table in TABLES.items()
        for row, names in table.set.items()
        for name in sorted(names - words)
    ] == []


# The test of the tests.


def test_an_unlisted_member_is_noticed():
    model = MODELS["sqs"].operation_model("SendMessageBatch")
    entry = {"set": "Id MessageBody"}
    table = Table({"SendMessageBatch": {"set": "Entries"}, "SendMessageBatchRequestEntry": entry})
    assert "SendMessageBatch.QueueUrl" in list(table.unlisted(model))
    assert "SendMessageBatchRequestEntry.MessageGroupId" in list(table.unlisted(model))
    call = {"QueueUrl": "https://q", "Entries": [{"Id": "0", "MessageGroupId": "g"}]}
    assert table.unexpected(model, call) == [
        "SendMessageBatch.QueueUrl",
        "SendMessageBatchRequestEntry.MessageGroupId",
    ]


def test_a_model_that_the_sdk_lacks_is_an_error():
    with pytest.raises(UnknownServiceError):
        botocore.session.get_session().get_service_model("no-such-service")
