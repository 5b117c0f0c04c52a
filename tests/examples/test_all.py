"""`make examples` runs every example, and the pages name every application."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from examples import __main__ as all_examples
from examples.__main__ import APPLICATIONS, Run, main, runs

ROOT = Path(__file__).parents[2]
PAGES = {"shop": "how-to/app.md", "click_stream": "kinesis.md", "mq_drain": "activemq.md"}
"""Of applications that have no page of their own name."""


def test_every_example_is_run():
    """A module that others import is shared, and no example."""
    here = ROOT / "examples"
    folders = {each.parent.name for each in here.glob("*/__init__.py")} - {"patterns", "combining"}
    everything = "".join(each.read_text() for each in here.rglob("*.py"))
    files = {each.stem for each in here.glob("[a-z]*.py") if f"from examples.{each.stem} import" not in everything}
    assert folders | files == set(APPLICATIONS)
    short = {f"{folder}/{each.stem}" for folder in ("patterns", "combining") for each in here.glob(f"{folder}/*.py")}
    assert {name for name in short if not name.endswith("__init__")} == set(runs()) - set(APPLICATIONS)


@pytest.mark.parametrize("name", APPLICATIONS)
def test_every_application_is_in_the_tables(name):
    page = PAGES.get(name, f"{name.replace('_', '-')}.md")
    assert (ROOT / "docs" / page).exists()
    assert f"docs/{page}" in (ROOT / "README.md").read_text()
    assert f"({page}" in (ROOT / "docs" / "index.md").read_text()


def test_every_application_has_a_command():
    makefile = (ROOT / "Makefile").read_text()
    commands = {name: f"\n{name.replace('_', '-')}: " in makefile for name in APPLICATIONS}
    assert [name for name, known in commands.items() if not known] == ["click_stream", "shop"]
    assert "python -m examples $(ARGS)" in makefile


def test_some_are_run_and_the_exit_code_tells(capsys):
    assert main(["combining/bus_to_topic", "--timeout", "60"]) == 0
    assert "1 of 1 examples ran" in capsys.readouterr().out


def test_a_service_is_used_and_ended(capsys):
    assert main(["shop", "--timeout", "60"]) == 0
    assert "shop" in capsys.readouterr().out


async def _nothing(_: object) -> None:
    return


@pytest.mark.parametrize(
    ("code", "work", "reason"),
    [
        ("print('half'); raise SystemExit(3)", None, "exit code 3"),
        ("import time; time.sleep(60)", None, "not done within 4 s"),
        ("raise SystemExit(0)", _nothing, "it ended by itself with exit code 0"),
    ],
    ids=["fails", "hangs", "ends early"],
)
def test_what_fails_does_not_stop_the_others(monkeypatch, capsys, code, work, reason):
    odd = {"odd": Run(("-c", code), work), "good": Run(("-c", "print('well')"))}
    monkeypatch.setattr(all_examples, "runs", lambda: odd)
    began = time.monotonic()
    assert main(["--timeout", "4"]) == 1
    assert time.monotonic() - began < 40
    printed = capsys.readouterr().out
    assert reason in printed
    assert "1 of 2 examples ran; failed: odd" in printed


def test_an_unknown_name_is_refused_and_names_are_listed(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["nowhere"])
    assert caught.value.code == 2
    assert main(["--list"]) == 0
    assert "happy_path" in capsys.readouterr().out
