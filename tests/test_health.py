"""Health and repeated log lines: the two small helpers that the runtime and the drivers share."""

from __future__ import annotations

from typing import Any

from eip import clock
from eip._repeated import RepeatedLines
from eip.health import Health, HealthTracker


def test_health_keeps_since_when_and_why_calls_fail():
    """Fault 46: a consumer whose queue is gone can be asked."""
    tracker = HealthTracker()
    assert tracker.health() == Health(ok=True)
    with clock.use_clock(lambda: 10.0):
        tracker.polled()
        tracker.settled()
    with clock.use_clock(lambda: 20.0):
        tracker.failed(ValueError("gone"))
    with clock.use_clock(lambda: 30.0):
        tracker.failed(ValueError("still gone"))
    assert tracker.health() == Health(
        ok=False, last_poll=10.0, last_settle=10.0, failing_since=20.0, reason="ValueError: still gone"
    )
    with clock.use_clock(lambda: 40.0):
        tracker.polled()
    assert tracker.health() == Health(ok=True, last_poll=40.0, last_settle=10.0)


class Lines:
    def __init__(self) -> None:
        self.written: list[dict[str, Any]] = []

    def warning(self, event: str, **fields: Any) -> None:
        self.written.append({"event": event, **fields})


def test_a_line_that_repeats_is_written_once_and_then_with_its_count(monkeypatch):
    """Fault 42: dozens of the same line a second."""
    now = 0.0
    monkeypatch.setattr("eip._repeated.monotonic", lambda: now)
    lines = Lines()
    repeated = RepeatedLines(lines, interval=60)
    for each in range(100):
        repeated.warning("receive_failed", channel="orders", error="denied", varying={"retry_in": each})
    repeated.warning("receive_failed", channel="other", error="denied")
    assert [each["channel"] for each in lines.written] == ["orders", "other"]
    now = 61.0
    repeated.warning("receive_failed", channel="orders", error="denied", varying={"retry_in": 7})
    assert lines.written[-1]["repeated"] == 100
    assert lines.written[-1]["retry_in"] == 7


def test_lines_remembered_are_bounded():
    repeated = RepeatedLines(Lines())
    for each in range(1000):
        repeated.warning("failed", number=each)
    assert len(repeated._lines) <= 200
