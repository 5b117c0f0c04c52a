"""The programs of the documentation run as written, and print what the page says; the site builds without a warning."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted(ROOT.glob("docs/**/*.md"))
PROGRAM = re.compile(r"```python\n(?P<code>(?:(?!```).)*?)```\s+```text\n(?P<output>.*?)```", re.DOTALL)
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


def programs():
    for page in PAGES:
        if page.name != "guide.md":  # has a test of its own, which types it into a folder
            for number, found in enumerate(PROGRAM.finditer(page.read_text())):
                yield pytest.param(found["code"], found["output"], id=f"{page.stem}-{number}")


@pytest.mark.parametrize(("code", "output"), list(programs()))
def test_a_program_prints_what_the_page_says(code, output):
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.stdout == output, ran.stderr
    assert ran.returncode == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_of_python_compiles(page):
    flags = __import__("ast").PyCF_ALLOW_TOP_LEVEL_AWAIT
    for block in BLOCK.findall(page.read_text()):
        compile(block, str(page), "exec", flags=flags)


def test_every_name_that_a_page_imports_is_there():
    wanted = {
        line
        for page in PAGES
        for block in BLOCK.findall(page.read_text())
        for line in block.splitlines()
        if line.startswith("from eip")
    }
    code = "\n".join(sorted(line.partition("  #")[0] for line in wanted if not line.rstrip().endswith("(")))
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_the_fastapi_application_starts_its_consumer_and_drains_it(capsys):
    fastapi = pytest.importorskip("fastapi.testclient")
    scope = {"__name__": "app"}
    exec(BLOCK.findall((ROOT / "docs/how-to/fastapi.md").read_text())[0], scope)
    with fastapi.TestClient(scope["app"]) as client:
        assert client.post("/orders", json={"id": 7, "amount": 9.5}).status_code == 202
    assert capsys.readouterr().out == "order 7: 9.50\n"
