"""What the library offers by name."""

from __future__ import annotations

import importlib
import subprocess
import sys

from eip import errors


def test_every_error_is_drawn_in_the_tree():
    tree = errors.__doc__ or ""
    kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.EipError)]
    assert [each.__name__ for each in kinds if each.__name__ not in tree] == []
    assert {each.__name__ for each in kinds} <= set(errors.__all__)


FOREIGN = """
import sys, eip
clients = {"pydantic", "pydantic_core", "structlog", "boto3", "botocore", "aioboto3", "aiobotocore", "stompman"}
clients |= {"redis", "asyncpg", "starlette", "typer"}
print(sorted(m for m in sys.modules if m.split(".")[0] in clients or m.startswith(("eip.transports", "eip.patterns"))))
"""


def test_importing_eip_imports_no_pydantic_no_sdk_no_client_and_no_driver():
    found = subprocess.run([sys.executable, "-c", FOREIGN], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


LAZY = """
import sys, eip, eip.patterns
print(sorted(m for m in sys.modules if m.startswith(("eip.patterns.", "eip.topology", "eip.runtime.dispatch"))))
import eip.patterns.splitter
from eip.patterns import splitter, ScatterGather
from eip import Handlers, Topology
print(splitter.__name__, ScatterGather.__name__, Handlers.__name__, Topology.__name__)
"""


def test_names_are_imported_when_they_are_first_used_and_win_over_modules_of_their_name():
    found = subprocess.run([sys.executable, "-c", LAZY], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines() == ["[]", "splitter ScatterGather Handlers Topology"]


def test_the_patterns_package_offers_what_each_pattern_is_for():
    package = importlib.import_module("eip.patterns")
    assert [
        name for name in package.__all__ if getattr(package, name).__module__.rpartition(".")[0] != "eip.patterns"
    ] == []
