"""The guard against slower hot paths reports what stays slower, and nothing that was slow for a moment."""

from __future__ import annotations

import json
from contextlib import nullcontext

import pytest

from benchmarks import check, sqs_stub
from benchmarks._hot_paths import Case, aggregates, frames, store


def case(*figures: float) -> tuple[Case, list[float]]:
    """One that takes so long, turn by turn; the last figure stays."""
    taken: list[float] = []

    async def measured() -> float:
        taken.append(figures[min(len(taken), len(figures) - 1)])
        return taken[-1]

    return measured, taken


@pytest.fixture
def floor() -> Case:
    return case(10.0)[0]


def test_what_was_slow_for_a_while_is_measured_again_alone(floor):
    (busy, busy_turns), (calm, calm_turns) = case(*[90.0] * 7, 20.0), case(30.0)
    ratios = check.in_turns({"busy": busy, "calm": calm}, floor, {"busy": 2.0, "calm": 3.0})
    assert ratios == {"busy": 2.0, "calm": 3.0}
    assert (len(busy_turns), len(calm_turns)) == (8, check.TURNS)


@pytest.mark.parametrize(("name", "took"), [("memory", 27.0), ("SQS: send", 33.0)])
def test_what_stays_slower_is_reported_and_ends(floor, name, took, monkeypatch, tmp_path, capsys):
    slow, turns = case(took)
    recorded = tmp_path / "recorded.json"
    recorded.write_text(json.dumps({"ratios": {name: 2.0}}))
    monkeypatch.setattr(check, "RECORD", recorded)
    monkeypatch.setattr(check, "measure", lambda record: check.in_turns({name: slow}, floor, record))
    monkeypatch.setattr("sys.argv", ["check"])
    assert check.main() == 1
    assert "SLOWER" in capsys.readouterr().out
    assert len(turns) == check.TURNS + check.MORE_TURNS


def test_a_record_holds_the_ratios_and_where_they_were_measured(floor, monkeypatch, tmp_path):
    recorded = tmp_path / "recorded.json"
    monkeypatch.setattr(check, "RECORD", recorded)
    monkeypatch.setattr(check, "measure", lambda record: check.in_turns({"memory": case(25.0)[0]}, floor, record))
    monkeypatch.setattr("sys.argv", ["check", "--record"])
    assert check.main() == 0
    found = json.loads(recorded.read_text())
    assert found["ratios"] == {"memory": 2.5}
    assert found["environment"]["cores"]


def test_each_hot_path_has_a_record(monkeypatch):
    monkeypatch.setattr(sqs_stub, "running", lambda: nullcontext("http://127.0.0.1:1"))
    monkeypatch.setattr(check, "in_turns", lambda cases, below, recorded: cases)
    assert check.measure({}).keys() == json.loads(check.RECORD.read_text())["ratios"].keys()


async def test_each_hot_path_that_needs_no_server_does_its_work():
    for path in (store, frames, aggregates):
        assert await path() > 0
