"""Which members of the services' inputs we set (tests/transports/aws/members.toml), and whether calls keep to it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from botocore.model import OperationModel, Shape
from botocore.session import get_session

FILE = Path(__file__).parent.parent / "transports" / "aws" / "members.toml"
ALL = "*"


class Table:
    """What members.toml lists of one service.

    Args:
        structures: per operation or structure, the texts ``set`` and ``left_out`` of the file.
    """

    def __init__(self, structures: dict[str, dict[str, Any]]) -> None:
        everywhere = _members(structures.pop(ALL, {}).get("left_out", {}).values())
        self.names = frozenset(structures)
        self.set = {name: _members([each.get("set", "")]) for name, each in structures.items()}
        self.left_out = {
            name: _members(each.get("left_out", {}).values()) | everywhere for name, each in structures.items()
        }

    def row(self, operation: OperationModel, shape: Shape) -> str:
        """The row of a structure: an operation's own input has the operation's name."""
        return str(operation.name if shape is operation.input_shape else shape.name)

    def unlisted(self, operation: OperationModel) -> Iterator[str]:
        """What the model has and the table neither sets nor leaves out, in the input and what we set inside of it."""
        for shape in self.reached(operation):
            row = self.row(operation, shape)
            if row not in self.names:
                yield f"[{row}] is missing"
                continue
            yield from (f"{row}.{each}" for each in members_of(shape) - self.set[row] - self.left_out[row])

    def reached(self, operation: OperationModel) -> list[Shape]:
        """The input, and the structures and listed keys of maps that are reached through members that we set."""
        found: list[Shape] = []
        waiting = [operation.input_shape]
        while waiting:
            shape = waiting.pop()
            if shape is None or shape in found:
                continue
            if shape.type_name == "list":
                waiting.append(shape.member)
            elif shape.type_name == "map":
                waiting.append(shape.value)
                found += [shape.key] if members_of(shape.key) and shape.key not in found else []
            elif shape.type_name == "structure":
                found.append(shape)
                chosen = self.set.get(self.row(operation, shape), frozenset())
                waiting += [each for name, each in shape.members.items() if name in chosen]
        return found

    def unexpected(self, operation: OperationModel, parameters: dict[str, Any]) -> list[str]:
        """What a call sets without being listed."""
        if operation.name not in self.names:
            return [f"[{operation.name}] is missing"]
        return list(self._unexpected(operation, operation.input_shape, parameters))

    def _unexpected(self, operation: OperationModel, shape: Shape | None, value: Any) -> Iterator[str]:
        if shape is None:
            return
        if shape.type_name == "list":
            for each in value:
                yield from self._unexpected(operation, shape.member, each)
        elif shape.type_name == "map":
            if members_of(shape.key):
                yield from self._not_set(operation, shape.key, value)
            for each in value.values():
                yield from self._unexpected(operation, shape.value, each)
        elif shape.type_name == "structure":
            yield from self._not_set(operation, shape, value)
            for name, each in value.items():
                yield from self._unexpected(operation, shape.members.get(name), each)

    def _not_set(self, operation: OperationModel, shape: Shape, names: Iterable[str]) -> Iterator[str]:
        row = self.row(operation, shape)
        yield from (f"{row}.{each}" for each in names if each not in self.set.get(row, ()))


def members_of(shape: Shape) -> frozenset[str]:
    """The members of a structure, or the texts that a map's keys are chosen from; none of any other shape."""
    if shape.type_name == "structure":
        return frozenset(shape.members)
    return frozenset(getattr(shape, "enum", ()) or ())


def load() -> tuple[str, dict[str, Table]]:
    """The version of botocore that the file was compared with, and its tables by service."""
    found = tomllib.loads(FILE.read_text())
    newest = found.pop("newest")
    return newest, {service: Table(structures) for service, structures in found.items()}


def _members(texts: Iterable[str]) -> frozenset[str]:
    return frozenset(name for text in texts for name in text.split())


class RecordedCalls:
    """Compares every call that the drivers and the store make in this process with the table."""

    def __init__(self) -> None:
        self._tables = load()[1]
        self._models = {name: get_session().get_service_model(name) for name in self._tables}
        self._seen: set[str] = set()
        self._watching = False

    def take(self) -> list[str]:
        """What calls set without being listed, since the last look."""
        seen, self._seen = self._seen, set()
        return sorted(seen)

    def watch(self) -> None:
        """Look at all calls from now on; idempotent."""
        if self._watching:
            return
        self._watching = True
        from eip._aws.client_calls import ClientCalls
        from eip.transports.aws._client.service_client import ServiceClient

        record, answer, store_call = self._record, ServiceClient._answer, ClientCalls.call

        async def watched_answer(
            client: ServiceClient, service: str, operation: str, parameters: dict[str, Any]
        ) -> dict[str, Any]:
            record(service, operation, parameters)
            return await answer(client, service, operation, parameters)

        async def watched_call(calls: ClientCalls, operation: str, parameters: dict[str, Any]) -> Any:
            record("dynamodb", operation, parameters)
            return await store_call(calls, operation, parameters)

        setattr(ServiceClient, "_answer", watched_answer)  # noqa: B010 - mypy types methods of this name as its own
        setattr(ClientCalls, "call", watched_call)  # noqa: B010 - as above

    def _record(self, service: str, operation: str, parameters: dict[str, Any]) -> None:
        if service in self._tables:
            found = self._tables[service].unexpected(self._models[service].operation_model(operation), parameters)
            self._seen.update(f"{service} {operation} sets {each}" for each in found)


CALLS = RecordedCalls()
