"""How fast is matching? One pattern, and many at once, beside what a user would pick instead.

    python -m benchmarks.matching [--quick]

Everything runs in one process, one after the other; compare ratios. moto's matcher is the one behind its EventBridge;
the `event-ruler` package of PyPI is measured where it is installed.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterable
from typing import Any

from benchmarks._report import progress, save, spread, table
from eip.matching import EventPattern, RuleSet

EVENT: dict[str, Any] = {
    "version": "0",
    "id": "7bf73129-1428-4cd3-a780-95db273d1602",
    "detail-type": "EC2 Instance State-change Notification",
    "source": "aws.ec2",
    "account": "123456789012",
    "time": "2026-11-11T21:29:54Z",
    "region": "us-east-1",
    "resources": ["arn:aws:ec2:us-east-1:123456789012:instance/i-abcd1111"],
    "detail": {"instance-id": "i-abcd1111", "state": "pending", "n": 7},
}
PATTERN = {
    "source": ["aws.ec2"],
    "detail-type": ["EC2 Instance State-change Notification"],
    "detail": {"state": ["pending", "running"]},
}


def spent(calls: dict[str, Callable[[], object]], seconds: float) -> dict[str, list[float]]:
    """CPU microseconds of a call, in five rounds that take turns; the first hundred calls of each warm up."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(5):
        for name, call in calls.items():
            for _ in range(100):
                call()
            count, start = 0, time.process_time()
            while (passed := time.process_time() - start) < seconds / 5:
                for _ in range(100):
                    call()
                count += 100
            found[name].append(passed / count * 1e6)
    return found


def single(seconds: float) -> dict[str, list[float]]:
    """One pattern of three keys against one event."""
    pattern, text = EventPattern(PATTERN), json.dumps(EVENT)
    assert pattern.matches(EVENT)
    assert pattern.matches(text)
    cases: dict[str, Callable[[], object]] = {
        "json.loads of the event": lambda: json.loads(text),
        "EventPattern, parsed event": lambda: pattern.matches(EVENT),
        "EventPattern, event as text": lambda: pattern.matches(text),
    }
    cases.update(_others(text))
    progress(f"one pattern: {', '.join(cases)}")
    return spent(cases, seconds)


def _others(text: str) -> dict[str, Callable[[], object]]:
    others: dict[str, Callable[[], object]] = {}
    try:
        from moto.events.models import EventPattern as MotoPattern  # noqa: PLC0415 - not there for everyone

        moto: Any = MotoPattern.load(json.dumps(PATTERN))
        assert moto.matches_event(EVENT)
        others["moto, parsed event"] = lambda: moto.matches_event(EVENT)
    except ImportError:
        progress("moto is not installed")
    try:
        from event_ruler import event_ruler  # noqa: PLC0415 - not there for everyone

        rule = json.dumps(PATTERN)
        assert event_ruler.test_event_pattern(text, rule)
        others["event-ruler (PyPI), event as text"] = lambda: event_ruler.test_event_pattern(text, rule)
    except ImportError:
        progress("event-ruler (PyPI) is not installed")
    return others


def one_key(number: int) -> dict[str, Any]:
    return {"detail": {"state": [f"state-{number}"]}}


def shares_two(number: int) -> dict[str, Any]:
    return {"source": ["aws.ec2"], "detail-type": PATTERN["detail-type"], "detail": {"state": [f"state-{number}"]}}


def prefixes(number: int) -> dict[str, Any]:
    return {"source": ["aws.ec2"], "detail": {"instance-id": [{"prefix": f"i-{number:05}"}]}}


def many(make: Callable[[int], dict[str, Any]], count: int, seconds: float) -> tuple[list[float], float, float]:
    """CPU microseconds of an event, seconds to add the rules, bytes per rule."""
    patterns = [json.dumps(make(number)) for number in range(count)]
    gc.collect()
    rules = RuleSet()
    start = time.perf_counter()
    for number, pattern in enumerate(patterns):
        rules.add(str(number), pattern)
    adding = time.perf_counter() - start
    event = {**EVENT, "detail": {"instance-id": "i-00001-x", "state": "state-1", "n": 7}}
    assert rules.match(event) == {"1"}
    size = _size(patterns) / count
    return spent({"": lambda: rules.match(event)}, seconds)[""], adding, size


def _size(patterns: Iterable[str]) -> int:
    gc.collect()
    tracemalloc.start()
    rules = RuleSet()
    for number, pattern in enumerate(patterns):
        rules.add(str(number), pattern)
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the time")
    seconds = 0.2 if parser.parse_args().quick else 2.0
    one = single(seconds)
    medians = {name: statistics.median(rounds) for name, rounds in one.items()}
    moto = medians.get("moto, parsed event")
    rows = [(name, each, spread(one[name]), moto / each if moto else "") for name, each in medians.items()]
    columns = ("case", "CPU µs each", "spread", "times less than moto")
    print(table("One pattern of three keys, an event of 330 bytes", columns, rows))
    results = {}
    measured: list[tuple[object, ...]] = []
    for make in (one_key, shares_two, prefixes):
        for count in (10, 1000, 10_000):
            progress(f"{make.__name__}, {count:,} rules")
            events, adding, size = many(make, count, seconds)
            results[f"{make.__name__}/{count}"] = {
                "cpu_microseconds": events,
                "add_seconds": adding,
                "bytes_per_rule": size,
            }
            measured.append((make.__name__, count, statistics.median(events), spread(events), adding, size))
    columns_of_many = ("rules", "count", "CPU µs an event", "spread", "seconds to add", "bytes per rule")
    print(table("Many rules, of which the event matches one", columns_of_many, measured))
    print("\nsaved", save("matching", {"single": one, "many": results}, "moto", "event-ruler"))


if __name__ == "__main__":
    main()
