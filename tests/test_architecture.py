"""Layers, circles, names: what a machine can hold of how the library is laid out."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import grimp
import pytest

import eip

ROOT = Path(__file__).parent.parent

SDKS = {
    "aioboto3": "eip.transports.aws.transport",
    "aiobotocore": "eip._aws eip.transports.aws",
    "botocore": (
        "eip._aws eip.transports.aws eip.transports.activemq._credentials eip.stores._aws_errors eip.stores.dynamodb"
    ),
    "aiohttp": "eip.transports.aws",
    "boto3": "",
    "redis": "eip.stores.redis",
    "asyncpg": "eip.stores._postgres_pool eip.stores.postgres eip.stores.postgres_outbox",
    "psycopg": "eip.stores._connections",
    "pydantic_settings": "eip.app.settings",
    "sqlalchemy": "eip.stores._connections",
    "cryptography": "eip.transports.aws.sns_http",
    "starlette": "eip.console eip._http eip.patterns.webhook eip.transports.aws.sns_http",
    "uvicorn": "eip.console eip._connections",
    "typer": "eip.cli",
    "watchfiles": "eip.cli._workers",
    "rich": "eip.cli",
    "matplotlib": "eip.cli",
    "opentelemetry": "eip.telemetry eip.streams.metrics eip.app",
    "prometheus_client": "eip.telemetry.prometheus",
    "structlog": "eip.cli eip._logging",
    "pytest": "eip.testing",
}
"""Who may import what is not a dependency of the core."""


# Imports.


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("eip", include_external_packages=True, exclude_type_checking_imports=False, cache_dir=None)


def test_no_modules_import_each_other_in_a_circle(graph):
    """Not even for types, and not through the links ``eip/patterns`` and ``eip/transports``."""
    ours = [name for name in graph.modules if name.partition(".")[0] == "eip"]
    found = {
        frozenset({name, *circle})
        for name in ours
        if (circle := graph.find_upstream_modules(name) & graph.find_downstream_modules(name) - {name})
    }
    assert [sorted(each) for each in found] == []


@pytest.mark.parametrize("sdk", SDKS)
def test_a_foreign_client_is_imported_by_its_driver_or_store_only(graph, sdk):
    importers = graph.find_modules_that_directly_import(sdk) if sdk in graph.modules else set()
    allowed = tuple(SDKS[sdk].split())
    assert sorted(name for name in importers if not name.startswith(allowed)) == []


CHANNELS = [
    *(f"eip.transports.aws.sqs.{each}" for each in ("queue", "receiver", "subscription", "temporary")),
    "eip.transports.aws.sns.topic",
    "eip.transports.aws.eventbridge.bus",
    "eip.transports.aws.kinesis.stream",
    "eip.transports.aws.scheduler.messages",
]
PROVISIONING = re.compile(r"provision|_roles|_policies|_subscribing|_template|cloudformation|\.transport$")


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_running_channel_needs_no_provisioning_code_and_not_the_transport(graph, channel):
    """It is handed a client and an ARN; what declares and makes channels is loaded by those who do."""
    needed = graph.find_upstream_modules(channel)
    assert sorted(each for each in needed if each.startswith("eip.transports.aws") and PROVISIONING.search(each)) == []


VIOLATIONS = {
    "the core imports a pattern": ("eip/schemas.py", "from eip.patterns import splitter"),
    "the core imports a driver, for types": (
        "eip/retry.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from eip.transports.memory import MemoryTransport",
    ),
    "a pattern imports a driver": ("eip/patterns/splitter.py", "import eip.transports.memory"),
    "a driver imports a pattern": ("eip/transports/memory/queue.py", "import eip.patterns.splitter"),
    "a lower layer imports a higher one": ("eip/message.py", "import eip.envelope"),
    "a module that no layer names": ("eip/novel.py", ""),
    "nothing": ("eip/message.py", ""),
}


@pytest.mark.parametrize("violation", VIOLATIONS)
def test_the_layers_hold(tmp_path, violation):
    """The contract of import-linter, and that it sees what it is for."""
    shutil.copytree(ROOT / "eip", tmp_path / "eip", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    place, line = VIOLATIONS[violation]
    with (tmp_path / place).open("a") as module:
        module.write(f"\n{line}\n")
    lint = Path(sys.executable).with_name("lint-imports")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ended = subprocess.run(
        [lint, "--no-cache"], check=False, cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (ended.returncode == 0) == (violation == "nothing"), ended.stdout


# Names.


def public_modules() -> list[str]:
    names = [each.name for each in pkgutil.walk_packages(eip.__path__, "eip.")]
    return ["eip", *(name for name in names if not any(part.startswith("_") for part in name.split(".")))]


MODULES = public_modules()


def defined(module: ModuleType) -> Iterator[str]:
    """The public names that a module makes itself; imported ones are offered by intent only."""
    assert module.__file__ is not None
    for node in ast.parse(Path(module.__file__).read_text()).body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
                if type(getattr(module, name, None)).__name__ not in {"TypeVar", "ParamSpec"}:
                    yield name


@pytest.mark.parametrize("name", MODULES)
def test_all_is_what_a_module_offers(name):
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", None)
    assert exported is not None, f"{name} has no __all__"
    assert [each for each in exported if not hasattr(module, each)] == []
    assert len(set(exported)) == len(exported)
    assert sorted(each for each in defined(module) if not each.startswith("_") and each not in exported) == []


def test_every_public_module_has_a_page_in_the_reference():
    """Its page is generated of its ``__all__``, see scripts/docs_reference.py."""
    pytest.importorskip("mkdocs")
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        reference = importlib.import_module("docs_reference")
    finally:
        sys.path.remove(str(ROOT / "scripts"))
    pages = {module: set(names) for module, names, _ in reference.public_modules()}
    for name in MODULES:
        exported = set(importlib.import_module(name).__all__)
        assert pages.get(name, set()) == exported, name


# Overrides.


def classes(module: ModuleType) -> Iterator[type]:
    """Those that a module makes itself."""
    return (each for each in vars(module).values() if isinstance(each, type) and each.__module__ == module.__name__)


def overriding(made: type) -> Iterator[tuple[str, Any]]:
    """Methods and properties that a class defines and a base of it defines as well; magic ones left out."""
    for name, member in vars(made).items():
        function = getattr(member, "fget", None) or getattr(member, "__func__", member)
        ours = inspect.isfunction(function) and function.__module__ == made.__module__ and not name.startswith("__")
        if ours and any(name in vars(base) for base in made.__mro__[1:-1]):
            yield f"{made.__module__}.{made.__qualname__}.{name}", function


def test_whatever_overrides_says_so():
    """By ``@override``: a renamed base method is then found by the type checker."""
    names = ["eip", *(each.name for each in pkgutil.walk_packages(eip.__path__, "eip."))]
    modules = [importlib.import_module(name) for name in names if name != "eip.__main__"]
    found = [pair for module in modules for made in classes(module) for pair in overriding(made)]
    assert len(found) > 200
    assert sorted(place for place, function in found if not hasattr(function, "__override__")) == []


# Words of parameters.

REFUSED = {
    *("most", "longest", "patience", "wanted", "remember", "every", "late", "missing", "unknown", "again", "enough"),
    *("dead_letter", "at_most", "how_long", "told", "said"),
}
"""Words of a private dialect. Ours are `max_…`, `timeout`, `filter`, `retention`, `interval`, `dead_letters`, `on_…`"""
ALIASES = {
    "eip.runtime.consumer.Consumer.__init__(dead_letter)",
    "eip.transports.activemq.transport.ActiveMQTransport.__init__(patience)",
}
"""Earlier names that work for one more release, as ``module.Class.method(name)``."""


def signatures(module: ModuleType) -> Iterator[tuple[str, inspect.Signature]]:
    """Those of the functions, constructors and methods that a module offers."""
    for name in module.__all__:
        found: Any = getattr(module, name)
        if getattr(found, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(found):
            yield f"{module.__name__}.{name}", inspect.signature(found)
        elif inspect.isclass(found):
            for method, function in vars(found).items():
                plain = getattr(function, "__func__", function)
                if inspect.isfunction(plain) and (not method.startswith("_") or method in ("__init__", "__new__")):
                    yield f"{module.__name__}.{name}.{method}", inspect.signature(plain)


def test_parameters_have_the_words_of_the_field():
    found = {
        f"{place}({parameter})"
        for name in MODULES
        for place, signature in signatures(importlib.import_module(name))
        for parameter in signature.parameters
        if parameter in REFUSED or REFUSED & {"most", "longest", "patience"} & set(parameter.split("_"))
    }
    assert sorted(found - ALIASES) == []
