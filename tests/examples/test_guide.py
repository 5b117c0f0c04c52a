"""The guide, typed into an empty folder: every file, every command, and what the commands print."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.processes import free_port, unavailable

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
LOG_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d[:.]\d\d")
MARK = "=== block"


class Block(NamedTuple):
    """A fenced block of the guide."""

    kind: str
    text: str


BLOCKS = [Block(*found) for found in re.findall(r"^```(\w+)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)]


def script() -> str:
    """The guide as one: files are written where they stand, and a mark tells which commands printed what."""
    lines = ["set -euo pipefail"]
    for number, block in enumerate(BLOCKS):
        if block.kind == "python":
            name = block.text.partition("\n")[0].removeprefix("# ")
            assert re.fullmatch(r"\w+\.py", name), f"a file begins with its name, not with {name!r}"
            lines.append(f"cat > {name} <<'END OF FILE'\n{block.text}END OF FILE")
        elif block.kind == "sh":
            lines.append(f"echo '{MARK} {number}'\n{block.text}")
    # The pip of an environment takes seconds to install; the one of these tests does as well.
    text = "\n".join(lines).replace("-m venv .venv", "-m venv --without-pip .venv")
    for port in ("8000", "5000"):
        text = re.sub(rf"\b{port}\b", str(free_port()), text)
    return text


@pytest.mark.timeout(300)
def test_the_guide_works_as_it_is_written(tmp_path):
    if shutil.which("curl") is None:
        unavailable("curl")
    # What pip would fetch is here already: it finds the tests' own packages, and this checkout.
    packages = sysconfig.get_path("purelib")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTEST_"))},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{packages}:{ROOT}",
        "PIP_NO_INDEX": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    done = subprocess.run(
        ["bash", "-c", script()],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    printed: dict[int, str] = {}
    for part in done.stdout.split(f"{MARK} ")[1:]:
        block_number, _, text = part.partition("\n")
        printed[int(block_number)] = "".join(
            line for line in text.splitlines(keepends=True) if not LOG_LINE.match(line)
        )
    for number, block in enumerate(BLOCKS):
        if block.kind == "text":
            assert printed[number - 1] == block.text


def test_every_block_is_a_file_a_command_or_what_it_prints():
    assert {block.kind for block in BLOCKS} == {"sh", "python", "text"}
    for before, block in pairwise(BLOCKS):
        assert block.kind != "text" or before.kind == "sh"
