"""Runs the matcher over a folder of vectors: ``python -m tests.matching.vectors DIR``.

Prints a table per suite, each mismatch, and the deliberate exceptions with their reasons; exits with 1 on a mismatch.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eip.errors import DecodeError, InvalidPattern
from eip.matching import EventPattern, FilterPolicy, InputTransformer

EXCEPTIONS: dict[tuple[str, str], str] = {}
"""(suite, name) of vectors that we deliberately do not follow, and why."""

_NO_TEXT = "Event pattern is not valid. Reason: ..."
_PREFIXES = (
    "Event pattern is not valid. Reason: ",
    "Invalid parameter: Attributes Reason: FilterPolicy: ",
    "Invalid parameter: FilterPolicy: ",
    "Invalid parameter: ",
)


def read(folder: Path) -> Iterator[dict[str, Any]]:
    """Every vector of the folder."""
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)


def verdict(vector: dict[str, Any]) -> Any:
    """What we say: a boolean, "accept", an error's text, or what a transformer made."""
    kind = vector["kind"]
    if kind == "input-transform":
        return _transformed(vector)
    try:
        if kind == "eventbridge":
            pattern = EventPattern(vector["pattern"])
            if "event" not in vector:
                return "accept"
            return pattern.test(vector["event"]) if vector.get("error_on") else pattern.matches(vector["event"])
        scope: Any = "MessageBody" if kind == "sns-body" else "MessageAttributes"
        policy = FilterPolicy(vector["pattern"], scope=scope)
        if "body" in vector:
            return policy.matches(body=vector["body"])
        return policy.matches(attributes=vector["attributes"]) if "attributes" in vector else "accept"
    except (InvalidPattern, DecodeError) as error:
        return f"error: {getattr(error, 'reason', error)}"


def _transformed(vector: dict[str, Any]) -> Any:
    event = {
        "version": "0",
        "id": "<uuid:2>",
        "detail-type": "core.update-account-command",
        "source": "core.update-account-command",
        "account": "111111111111",
        "time": "date",
        "region": "<region>",
        "resources": [],
        "detail": vector["detail"],
    }
    try:
        transformer = InputTransformer(
            path=vector.get("input_path"),
            paths=vector.get("input_paths_map"),
            template=vector.get("input_template"),
            target="<target-id>",
        )
    except InvalidPattern as error:
        return f"error: {error.reason}"
    made = transformer.transform(event)
    if made is None:
        return "dropped"
    return made if isinstance(vector["expect"], str) else json.loads(made)


def agrees(vector: dict[str, Any], said: Any) -> bool:
    """Whether that is what the vector expects."""
    expected = vector["expect"]
    if expected == "accept":
        return not (isinstance(said, str) and said.startswith("error: "))
    if expected != "error":
        return bool(_without_times(said) == _without_times(expected)) and type(said) is type(expected)
    if not isinstance(said, str) or not said.startswith("error: "):
        return False
    wanted = vector.get("error")
    if wanted is None or wanted == _NO_TEXT:
        return True
    return _bare(said.removeprefix("error: ")) == _bare(wanted)


def _bare(text: str) -> str:
    first = text.split("\n", maxsplit=1)[0]
    for prefix in _PREFIXES:
        first = first.removeprefix(prefix)
    return first


def _without_times(value: Any) -> Any:
    """The recorded times differ from one recording to the next."""
    if isinstance(value, dict):
        return {key: _without_times(each) for key, each in value.items() if key != "time"}
    return value


def main(folder: Path) -> int:
    """Run them all; the number of mismatches."""
    counts: dict[str, Counter[str]] = {}
    wrong = 0
    for vector in read(folder):
        count = counts.setdefault(vector["suite"], Counter())
        said = verdict(vector)
        if agrees(vector, said):
            count["passed"] += 1
        elif (vector["suite"], vector["name"]) in EXCEPTIONS:
            count["excepted"] += 1
        else:
            count["failed"] += 1
            wrong += 1
            if wrong <= 40:
                wanted = vector.get("error", vector["expect"])
                print(f"MISMATCH {vector['suite']} {vector['name']}: expected {wanted!r}, said {said!r}")
                print("   ", vector.get("pattern", "")[:300], str(vector.get("event", ""))[:300])
    print(f"{'suite':28} {'passed':>7} {'failed':>7} {'excepted':>9}")
    for suite, count in counts.items():
        print(f"{suite:28} {count['passed']:>7} {count['failed']:>7} {count['excepted']:>9}")
    for (suite, name), reason in EXCEPTIONS.items():
        print(f"exception {suite} {name}: {reason}")
    return wrong


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(1 if main(Path(sys.argv[1])) else 0)
