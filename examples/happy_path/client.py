"""What the page does, without a browser: ask for a place to upload to, put the photo there, watch it."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx

__all__ = ["Client", "Process"]

_ROOT: Final = Path(__file__).parents[2]
_OUTCOME_S: Final = 120.0


class Client:
    """A user.

    Args:
        http: with the front's URL.
    """

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def ask(self, size: int, place: str = "alder-park") -> dict[str, Any]:
        """Where a photo can be put."""
        answer = await self._http.post("/uploads", json={"placeId": place, "size": size})
        answer.raise_for_status()
        asked: dict[str, Any] = answer.json()
        return asked

    async def upload(self, data: bytes, place: str = "alder-park") -> dict[str, Any]:
        """Put a photo into the object store; what was asked for."""
        asked = await self.ask(len(data), place)
        (await self._http.put(asked["upload"]["url"], content=data)).raise_for_status()
        return asked

    async def outcome(self, asked: dict[str, Any]) -> dict[str, Any]:
        """What became of a photo, as the stream of its events tells."""
        async with asyncio.timeout(_OUTCOME_S):
            while True:
                async with self._http.stream("GET", asked["links"]["events"]) as answer:
                    async for line in answer.aiter_lines():
                        photo: dict[str, Any] = json.loads(line[6:]) if line.startswith("data: ") else {}
                        if photo.get("status") in {"published", "rejected"}:
                            return photo


class Process:
    """Happy Path, or another example with a page, in a process of its own, on a free port."""

    def __init__(self, *options: str, module: str = "examples.happy_path") -> None:
        command = [sys.executable, "-m", module, "--port", "0", *options]
        self.process = subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"http://[^/]+", line)
        assert found is not None, line
        self.url = found.group()

    def kill(self) -> None:
        """The hard way."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    @classmethod
    @contextmanager
    def running(cls, *options: str, module: str = "examples.happy_path") -> Iterator[Process]:
        """For the length of a block."""
        started = cls(*options, module=module)
        try:
            yield started
        finally:
            started.kill()

    def status(self, name: str) -> int:
        """A line of Linux's report on the process, e.g. ``VmHWM``, the most memory that it had in kilobytes."""
        found = re.search(rf"{name}:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())
        assert found is not None
        return int(found.group(1))
