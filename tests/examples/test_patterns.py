"""The short examples: each runs as it is, prints what its docstring says, and there is one for each pattern."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

import eip.patterns

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples" / "patterns").glob("[0-9]*.py"))
LOG_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ")


def documented_output(example: Path) -> str:
    docstring = ast.get_docstring(ast.parse(example.read_text()))
    assert docstring is not None
    _, marker, output = docstring.partition("Prints:\n\n")
    assert marker, f"{example.name} does not say what it prints"
    return dedent(output).rstrip()


def check_output(example: Path, *arguments: str, **variables: str) -> None:
    """Run it, and compare what it prints with what its docstring says."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", **variables}
    command = [sys.executable, str(example), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    printed = "\n".join(line for line in done.stdout.splitlines() if not LOG_LINE.match(line))
    assert printed == documented_output(example)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_prints_what_it_says(example):
    check_output(example)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short(example):
    assert 25 <= len(example.read_text().splitlines()) <= 75


NO_EXAMPLE = {"diagram", "process", "process_diagram", "topic_replay"}
"""Modules that are part of another pattern; the last is of SNS alone, while examples run embedded."""


def shown_patterns() -> set[str]:
    """The modules whose names the examples import, from the module itself or from `eip.patterns`."""
    nodes = (node for each in EXAMPLES for node in ast.walk(ast.parse(each.read_text())))
    imports = [each for each in nodes if isinstance(each, ast.ImportFrom)]
    direct = {str(each.module) for each in imports}
    lazily = {name.name for each in imports if each.module == "eip.patterns" for name in each.names}
    found = direct | {getattr(eip.patterns, name).__module__ for name in lazily}
    return {each.removeprefix("eip.patterns.") for each in found}


def test_every_pattern_has_an_example():
    modules = {each.stem for each in (ROOT / "patterns").glob("[a-z]*.py")} - NO_EXAMPLE
    assert sorted(modules - shown_patterns()) == []


def test_examples_are_numbered_from_1_without_gaps_and_each_number_is_one_example():
    assert [each.name[:3] for each in EXAMPLES] == [f"{number:02}_" for number in range(1, len(EXAMPLES) + 1)]


def test_every_example_is_in_the_docs_by_its_number():
    index = "\n".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    links = {f"[{each.name[:2]}](../examples/patterns/{each.name})" for each in EXAMPLES}
    assert sorted(each for each in links if each not in index) == []
