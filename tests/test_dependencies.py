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
    "uvicorn": {"h11"},
    "aiobotocore": {"aiohttp", "botocore"},
    "typer": {"click"},
    "pydantic": {"pydantic_core"},
}
FOR_THE_EXAMPLES = {"websockets", "jwt"}
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
    variables = dict(re.findall(r"^(OTHERS|EXTRAS) := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE))
    installed = {*variables["OTHERS"].split(","), *variables["EXTRAS"].split(",")}
    assert installed >= PROJECT["optional-dependencies"].keys() - {"testing"}  # which the group dev has


def test_pip_looks_at_aioboto3_before_boto3():
    """`pip install` of all extras with boto3 and moto: pip 23.2 tries every moto with every boto3 for over ten minutes.

    It prefers what is pinned, by ``==``, to what the user named; and aioboto3 says which boto3 there can be. `make
    test-resolve` measures it.
    """
    aws, newest = (PROJECT["optional-dependencies"][name][0] for name in ("aws", "aiobotocore"))
    assert "==" in aws.removeprefix("aioboto3")
    assert "==" not in newest
    assert "<" not in newest  # the SDK's newest is the point of it
