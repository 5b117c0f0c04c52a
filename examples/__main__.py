"""Runs each example briefly: ``python -m examples [NAME ...]``; exit code 1 where one fails.

Names are those of folders and files here; a folder of short examples stands for all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

__all__ = ["APPLICATIONS", "Run", "main", "runs"]

_HERE: Final = Path(__file__).parent
_AT_ONCE: Final = 2
_END_S: Final = 15.0
"""Seconds that a service has to end after it is asked to."""
_LOOK_S: Final = 0.1
_TAIL: Final = 1500
"""Characters of what a failed example printed last."""

Work = Callable[[httpx.AsyncClient], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Run:
    """How an example is run: to its end, or until some work is done at its URL."""

    arguments: tuple[str, ...]
    """Of Python. ``PORT`` stands for a free one."""
    work: Work | None = None
    """What is done with a service, which is then interrupted; None: it ends by itself."""


async def _ask_for_quotes(http: httpx.AsyncClient) -> None:
    ride = {"from": "Downtown", "to": "Airport", "customer": "make-examples"}
    asked = (await http.post("/rfqs", json=ride)).raise_for_status().json()
    while True:
        if (await http.get(asked["links"]["self"])).status_code == httpx.codes.SEE_OTHER:
            return
        await asyncio.sleep(_LOOK_S)


async def _be_ready(http: httpx.AsyncClient) -> None:
    while True:
        with suppress(httpx.TransportError):
            if (await http.get("/readyz")).is_success:
                return
        await asyncio.sleep(_LOOK_S)


APPLICATIONS: Final[dict[str, Run]] = {
    "rfq": Run(("-m", "examples.rfq", "--port", "PORT", "--rfq-seconds", "2"), _ask_for_quotes),
    "job_events": Run(("-m", "examples.job_events", "run", "--seconds", "3", "--view", "lines")),
    "happy_path": Run(("-m", "examples.happy_path.load", "--photos", "2")),
    "invoices": Run(("-m", "examples.invoices.load", "--scans", "5")),
    "partner_events": Run(("-m", "examples.partner_events.load", "--orders", "10", "--large", "1")),
    "replay": Run(("-m", "examples.replay", "--orders", "200")),
    "mq_drain": Run(("-m", "examples.mq_drain", "--messages", "2000")),
    "click_stream": Run(("-m", "examples.click_stream")),
    "shop": Run(("-m", "eip", "run", "examples.shop.app:make_app", "--health-port", "PORT"), _be_ready),
}


def runs() -> dict[str, Run]:
    """All examples by name: the applications, and each of the short ones."""
    short = sorted(each for folder in ("patterns", "combining") for each in (_HERE / folder).glob("[a-z0-9]*.py"))
    names = {f"{each.parent.name}/{each.stem}": Run((str(each.relative_to(_HERE.parent)),)) for each in short}
    return {**names, **APPLICATIONS}


async def _run(run: Run, limit_s: float) -> str | None:
    """Run an example; returns why it failed, with what it printed last."""
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
        free.close()
        own = {"EIP_TRANSPORT": "memory", "EIP_DATABASE": f"{folder}/shop.sqlite", "PYTHONPATH": str(_HERE.parent)}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *(port if each == "PORT" else each for each in run.arguments),
            stdout=PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=os.environ | own,
            cwd=_HERE.parent,
        )
        printed = bytearray()
        reading = asyncio.create_task(_read(process, printed))
        try:
            async with asyncio.timeout(limit_s):
                failure = await _watched(process, run, f"http://127.0.0.1:{port}")
        except TimeoutError:
            failure = f"not done within {limit_s:g} s"
        finally:
            if process.returncode is None:
                process.kill()
            await reading
            await process.wait()
    return None if failure is None else f"{failure}\n{printed.decode(errors='replace')[-_TAIL:]}"


async def _read(process: Process, printed: bytearray) -> None:
    assert process.stdout is not None
    while more := await process.stdout.read(65_536):
        printed += more


async def _watched(process: Process, run: Run, url: str) -> str | None:
    """Wait for its end, or work with it and interrupt it; returns why it failed."""
    if run.work is not None:
        working = asyncio.create_task(_work(run.work, url))
        ending = asyncio.create_task(process.wait())
        try:
            await asyncio.wait((working, ending), return_when=asyncio.FIRST_COMPLETED)
            if ending.done():
                return f"it ended by itself with exit code {ending.result()}"
            working.result()
        except Exception as error:  # noqa: BLE001 - whatever its answers were, this example failed and others go on
            return f"{type(error).__name__}: {error}"
        finally:
            working.cancel()
            ending.cancel()
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(_END_S):
            await process.wait()
    code = await process.wait()
    return None if code == 0 else f"exit code {code}"


async def _work(work: Work, url: str) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=10, trust_env=False) as http:
        while True:
            with suppress(httpx.ConnectError):
                await http.get("/")
                break
            await asyncio.sleep(_LOOK_S)
        await work(http)


async def _run_all(chosen: dict[str, Run], limit_s: float) -> list[str]:
    """Run them, some at once; returns the names of those that failed."""
    gate, done = asyncio.Semaphore(_AT_ONCE), 0
    failed: list[str] = []

    async def one(name: str, run: Run) -> None:
        nonlocal done
        async with gate:
            began = time.monotonic()
            failure = await _run(run, limit_s)
        done += 1
        outcome = "ok" if failure is None else "FAILED"
        print(f"[{done:2}/{len(chosen)}] {name:40} {outcome:6} {time.monotonic() - began:5.1f} s", flush=True)
        if failure is not None:
            failed.append(name)
            print("\n".join(f"    {line}" for line in failure.splitlines()), flush=True)

    await asyncio.gather(*(one(name, run) for name, run in chosen.items()))
    return failed


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m examples", description="Run each example briefly.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds for each (default: 120)")
    parser.add_argument("--list", action="store_true", help="print the names, and end")
    options = parser.parse_args(arguments)
    known = runs()
    chosen = {
        name: run for name, run in known.items() if not options.names or {name, name.split("/")[0]} & {*options.names}
    }
    if unknown := {each for each in options.names if not any(each in (name, name.split("/")[0]) for name in known)}:
        parser.error(f"no such example: {', '.join(sorted(unknown))}; --list prints their names")
    if options.list:
        print("\n".join(known))
        return 0
    failed = asyncio.run(_run_all(chosen, options.timeout))
    print(
        f"{len(chosen) - len(failed)} of {len(chosen)} examples ran"
        + (f"; failed: {', '.join(failed)}" if failed else "")
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
