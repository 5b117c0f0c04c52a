"""What the library imports is what it declares, and the other way round."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
IMPORTED_AS = {"opentelemetry-api": "opentelemetry", "PyJWT": "jwt"}
COMES_WITH = {
    "aioboto3": {"aiobotocore", "aiohttp", "boto3", "botocore", "multidict", "yarl"},
    "typer": {"click"},
    "pydantic": {"pydantic_core"},
}
FOR_THE_EXAMPLES = {"uvicorn", "websockets", "jwt"}
"""Of the extras `http` and `jwt`: what the reference applications and the tutorial serve with."""

PLUGINS = {"pytest_asyncio"}
"""What pytest finds by itself: it runs the conformance suites, which are coroutines."""


def declared(requirements: list[str]) -> set[str]:
    """The names that the requirements are imported by."""
    names = {re.split(r"[<>=!~\[; ]", each)[0] for each in requirements}
    return {IMPORTED_AS.get(name, name.replace("-", "_")) for name in names}


def imported() -> set[str]:
    """The top-level names that any module of the library imports, at its top or inside a function."""
    found: set[str] = set()
    for folder in ("eip", "patterns", "transports"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    found.update(each.name.partition(".")[0] for each in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
                    found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"eip"}


CORE = declared(PROJECT["dependencies"])
EXTRAS = declared([each for group in PROJECT["optional-dependencies"].values() for each in group])


def test_every_import_is_declared():
    brought = set().union(*(names for owner, names in COMES_WITH.items() if owner in CORE | EXTRAS))
    assert imported() <= CORE | EXTRAS | brought


def test_every_declared_dependency_is_used():
    assert imported() >= (CORE | EXTRAS) - FOR_THE_EXAMPLES - PLUGINS


def test_a_fresh_clone_tests_every_extra():
    """Fault 45: `make test` set up without Prometheus, which the command line's tests need."""
    line = next(each for each in (ROOT / "Makefile").read_text().splitlines() if "--group dev" in each)
    installed = set(re.split(r"\$\(,\)", re.search(r"\.\[(.*?)\]", line)[1]))  # type: ignore[index]
    assert installed >= PROJECT["optional-dependencies"].keys() - {"testing"}  # which the group dev has
