"""What EventBridge makes of an event before a target gets it: Input, InputPath, InputTransformer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from eip.codec import dump_json
from eip.errors import InvalidPattern

__all__ = ["InputTransformer"]

_MAX_VARIABLES: Final = 100
_PLACEHOLDER: Final = re.compile(r"<([A-Za-z0-9_.\-]+)>")
_STEP: Final = re.compile(r"\.([^.\[\]]+)|\[(\d+|\*)\]|\['([^']*)'\]")
_PREDEFINED: Final = (
    "aws.events.rule-arn",
    "aws.events.rule-name",
    "aws.events.event.ingestion-time",
    "aws.events.event.json",
    "aws.events.event",
)
_MISSING: Final = object()


class InputTransformer:
    """One target's input: at most one of a constant, a path, or a template with paths; without, the event itself.

    Args:
        constant: JSON text that every event is replaced by (Input).
        path: a JSON path, e.g. ``"$.detail"`` (InputPath).
        paths: variable name to JSON path (InputPathsMap), at most 100.
        template: text with ``<variable>`` placeholders (InputTemplate): a JSON object, or JSON strings, one a line.
        target: the target's id, for errors.
        rule_name, rule_arn: what ``<aws.events.rule-name>`` and ``<aws.events.rule-arn>`` stand for.

    Raises:
        InvalidPattern: what PutTargets would refuse, with its text.
    """

    def __init__(
        self,
        *,
        constant: str | None = None,
        path: str | None = None,
        paths: Mapping[str, str] | None = None,
        template: str | None = None,
        target: str = "target",
        rule_name: str = "",
        rule_arn: str = "",
    ) -> None:
        if sum(each is not None for each in (constant, path, template)) > 1:
            raise InvalidPattern(
                f"Only one of Input, InputPath, or InputTransformer must be provided for target {target}."
            )
        self._constant, self._template = constant, template
        self._path = None if path is None else _steps(path, target)
        names = dict(paths or {})
        if len(names) > _MAX_VARIABLES or any(name.startswith("aws.") for name in names):
            raise InvalidPattern(
                f"InputPathsMap for target {target} has more than {_MAX_VARIABLES} or predefined names."
            )
        self._paths = {name: _steps(each, target) for name, each in names.items()}
        self._rule = {"aws.events.rule-name": rule_name, "aws.events.rule-arn": rule_arn}
        for name in _PLACEHOLDER.findall(template or ""):
            if name not in self._paths and name not in _PREDEFINED:
                raise InvalidPattern(f"InputTemplate for target {target} contains invalid placeholder {name}.")

    def transform(self, event: Mapping[str, Any]) -> str | None:
        """The text that the target gets; None where the event is dropped, as its template gives no valid JSON."""
        if self._constant is not None:
            return self._constant
        if self._path is not None:
            value = _select(event, self._path)
            return None if value is _MISSING else _dump(value)
        if self._template is None:
            return _dump(dict(event))
        if self._template.lstrip().startswith("{"):
            return self._object(event, self._template)
        return "\n".join(self._line(event, line) for line in self._template.split("\n"))

    def _object(self, event: Mapping[str, Any], template: str) -> str | None:
        made, at, quoted = [], 0, False
        for found in _PLACEHOLDER.finditer(template):
            between = template[at : found.start()]
            quoted ^= _quotes(between) % 2 == 1
            made.append(between)
            value = self._value(event, found.group(1))
            made.append(_raw(value) if quoted else '""' if value is _MISSING else _dump(value))
            at = found.end()
        text = "".join([*made, template[at:]])
        try:
            json.loads(text)
        except ValueError:
            return None
        return text

    def _line(self, event: Mapping[str, Any], line: str) -> str:
        return _PLACEHOLDER.sub(lambda found: _raw(self._value(event, found.group(1))).replace('"', ""), line)

    def _value(self, event: Mapping[str, Any], name: str) -> Any:
        if name in self._paths:
            return _select(event, self._paths[name])
        if name in self._rule:
            return self._rule[name]
        if name == "aws.events.event.ingestion-time":
            return event.get("time", _MISSING)
        if name == "aws.events.event.json":
            return dict(event)
        order = ("id", "account", "detailType", "time", "source", "region", "resources", "version")
        known = {**event, "detailType": event.get("detail-type")}
        return {key: known[key] for key in order if key in known}


def _steps(path: str, target: str) -> list[str | int]:
    """The keys and indices of a JSON path; ``*`` is an index of all."""
    steps: list[str | int] = []
    at = 1
    if not path.startswith("$"):
        raise InvalidPattern(f"Invalid InputPath for target {target} : {path}.")
    while at < len(path):
        found = _STEP.match(path, at)
        if found is None:
            raise InvalidPattern(f"Invalid InputPath for target {target} : {path}.")
        key, index, quoted = found.groups()
        steps.append(
            int(index) if index is not None and index != "*" else index or (key if key is not None else quoted)
        )
        at = found.end()
    return steps


def _select(value: Any, steps: list[str | int]) -> Any:
    for number, step in enumerate(steps):
        if step == "*" and isinstance(value, list):
            found = [_select(each, steps[number + 1 :]) for each in value]
            return [each for each in found if each is not _MISSING]
        if isinstance(step, int):
            if not isinstance(value, list) or step >= len(value):
                return _MISSING
            value = value[step]
        elif isinstance(value, Mapping) and step in value:
            value = value[step]
        else:
            return _MISSING
    return value


def _quotes(text: str) -> int:
    """How many quotes open or close a string."""
    return len(re.findall(r'(?<!\\)(?:\\\\)*"', text))


def _dump(value: Any) -> str:
    return dump_json(value).decode()


def _raw(value: Any) -> str:
    """The value inside a quoted string: text as it is, nothing for a missing one."""
    if value is _MISSING:
        return ""
    return value if isinstance(value, str) else _dump(value)
