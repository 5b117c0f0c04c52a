"""What is built is what is here: every subpackage in the wheel, no cloud SDK on import, commands that run."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
REAL = {"eip.patterns": ROOT / "patterns", "eip.transports": ROOT / "transports"}


def subpackages() -> set[str]:
    """Every folder with an __init__.py, under the name it is imported by."""
    found = set()
    for name, folder in {"eip": ROOT / "eip", **REAL}.items():
        for init in folder.rglob("__init__.py"):
            place = init.parent.relative_to(folder)
            found.add(".".join([name, *place.parts]))
    return found


def test_every_subpackage_is_declared():
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == subpackages()


def test_the_links_lead_to_the_real_folders():
    for name, folder in REAL.items():
        link = ROOT.joinpath(*name.split("."))
        assert link.is_symlink()
        assert link.resolve() == folder
        assert not link.readlink().is_absolute()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: setuptools keeps what it built before in the source's build/, and would ship it again."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("eip", "patterns", "transports"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_every_module_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    folders = {"eip": ROOT / "eip", **REAL}
    expected = {"eip/py.typed", "eip/cost/prices.json", "eip/cost/services.json"}
    expected |= {f"eip/console/static/{each.name}" for each in (ROOT / "eip/console/static").iterdir()}
    for name, folder in folders.items():
        for module in folder.rglob("*.py"):
            expected.add("/".join([*name.split("."), *module.relative_to(folder).parts]))
    assert held == expected


def test_the_installed_wheel_works_without_the_source(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import asyncio, eip, eip.matching, eip.testing\n"
        "from eip.patterns.scatter_gather import ScatterGather\n"
        "from eip.transports.memory import MemoryTransport\n"
        "assert eip.__file__.startswith(sys.path[0]), eip.__file__\n"
        "async def main():\n"
        "    async with MemoryTransport() as memory:\n"
        "        queue = memory.queue('q'); await queue.send(eip.Message('it works'))\n"
        "        async with queue.receiver() as receiver: print((await receiver.receive(1))[0].message.body)\n"
        "asyncio.run(main())"
    )
    ran = subprocess.run([sys.executable, "-I", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout == "it works\n"


def test_importing_eip_imports_no_sdk_and_no_server():
    script = (
        "import sys, eip, eip.matching, eip.stores, eip.transports.memory, eip.patterns.scatter_gather\n"
        "heavy = {'aioboto3', 'botocore', 'redis', 'asyncpg', 'starlette', 'typer'}\n"
        "print(heavy & set(sys.modules) or 'none')"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "none\n"


def test_the_example_of_the_readme_runs_as_written():
    text = (ROOT / "README.md").read_text()
    example = text.partition("```python\n")[2].partition("```")[0]
    assert len(example.splitlines()) <= 30
    ran = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, timeout=30, check=True)
    assert ran.stdout == text.partition("```text\n")[2].partition("```")[0]


REPOSITORY = "https://github.com/aioeip/aioeip/blob/main/"


def test_every_page_that_the_readme_names_is_there():
    """Its links are absolute, so that they work on the package index too."""
    found = (ROOT / "README.md").read_text().split(REPOSITORY)[1:]
    pages = {each.replace(")", "\n").partition("\n")[0] for each in found}
    assert len(pages) > 20
    assert [page for page in pages if not (ROOT / page).exists()] == []


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("docs/*.md")), ids=lambda page: page.name)
def test_every_file_that_is_linked_to_is_there(page):
    links = {each.partition(")")[0] for each in page.read_text().split("](")[1:]}
    for link in links:
        if "://" not in link:
            assert (page.parent / link.partition("#")[0]).exists(), link


def test_the_fault_plan_of_the_docs_runs_as_written():
    text = (ROOT / "docs" / "testing.md").read_text()
    example = next(each for each in text.split("```python\n") if "scenario" in each).partition("```")[0]
    ran = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, timeout=30, check=True)
    assert ran.stdout.endswith("True True\n")
