"""``eip run`` as a process: drained by a signal, several workers, probes of all as one, reload."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from eip.app._probe_server import Answer, ProbeServer
from eip.cli._workers import Supervisor
from eip.cli.app import app
from tests.support.processes import free_port, state_of

ROOT = Path(__file__).parents[2]
APP = """
import os
from eip import App, Message
from eip.transports.memory import MemoryTransport

def make() -> App:
    app = App(MemoryTransport(), name="NAME")

    @app.consumer("orders")
    async def bill(message: Message) -> None: ...

    return app
"""

WAITING = """
import time
from pathlib import Path

for _ in range(2000):
    if Path("go").exists():
        break
    time.sleep(0.02)
"""
"""Before an application: its worker starts once the test lets it."""

FROZEN = """
import asyncio, gc, os, signal
from pathlib import Path
from eip import App
from eip.transports.memory import MemoryTransport

async def look() -> None:
    while not gc.get_freeze_count():
        await asyncio.sleep(0.01)
    Path("frozen").write_text(str(gc.get_freeze_count()))
    os.kill(os.getpid(), signal.SIGTERM)

class Looking(App):
    async def run(self) -> None:
        task = asyncio.create_task(look())
        await super().run()
        await task

def make() -> App:
    return Looking(MemoryTransport())
"""


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "eip", "run", *arguments],
        cwd=folder,
        env=environment,
        text=True,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(15)
        process.kill()
        process.communicate()


def get(port: int, path: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            text = answer.read().decode()
            return answer.status, json.loads(text) if text.startswith("{") else text
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, None


def wait_for(port: int, path: str, status: int, process: subprocess.Popen[str]) -> Any:
    deadline = time.monotonic() + 45
    while time.monotonic() < deadline:
        found, body = get(port, path)
        if found == status:
            return body
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    raise AssertionError(f"{path} is not {status}: {found} {body}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(APP)
    return tmp_path


def test_it_serves_its_health_and_drains_at_sigterm(folder):
    port = free_port()
    with running(folder, "shop:make", "--health-port", str(port), "--health-host", "127.0.0.1") as process:
        wait_for(port, "/readyz", 200, process)
        assert get(port, "/livez")[0] == 200
        assert 'eip_part_up{part="consumer orders"} 1.0' in get(port, "/metrics")[1]
        process.terminate()
        assert process.wait(60) == 0


@pytest.mark.parametrize(("module", "imports"), [("eip", "eip.cli.app"), ("examples.rfq", "anyio")])
def test_ctrl_c_while_it_is_imported_ends_it_without_a_trace(module, imports):
    """It takes up to two seconds; a trace of thirty lines came of it."""
    code = f"""if True:
        import os, runpy, signal, sys
        signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
        class Interrupting:
            def find_spec(self, name, *_):
                if name == {imports!r}:
                    os.kill(os.getpid(), signal.SIGINT)
        sys.meta_path.insert(0, Interrupting())
        sys.argv[0] = "-m"
        runpy.run_module({module!r}, run_name="__main__")
    """
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, "")


def test_it_leaves_what_exists_once_it_is_ready_out_of_garbage_collections(folder):
    """A collection of all modules and clients took 104 ms of all handlers, measured with the SDK of AWS."""
    (folder / "frozen.py").write_text(FROZEN)
    with running(folder, "frozen:make") as process:
        assert process.wait(60) == 0
    assert int((folder / "frozen").read_text()) > 10_000


@pytest.mark.parametrize(
    ("options", "environment", "where"),
    [
        (("--health-port", "8080"), {}, ("0.0.0.0", 8080)),
        (("--health-port", "8080", "--health-host", "127.0.0.1"), {}, ("127.0.0.1", 8080)),
        ((), {"EIP_HEALTH_PORT": "8081", "EIP_HEALTH_HOST": "::1"}, ("::1", 8081)),
        ((), {}, ("0.0.0.0", None)),
    ],
)
def test_the_address_of_its_health(monkeypatch, options, environment, where):
    """All addresses by default: a container's probes come from outside of it."""
    given: list[tuple[Any, ...]] = []

    async def note(*arguments: Any) -> None:
        given.append(arguments)

    monkeypatch.setattr("eip.cli.run._run", note)
    ended = CliRunner(env=environment).invoke(app, ["run", "shop:make", *options])
    assert (ended.exit_code, given) == (0, [("shop:make", *where, None)]), ended.output


def test_workers_are_probed_as_one_restarted_and_end_with_their_parent(folder):
    port = free_port()
    options = ("--workers", "2", "--health-port", str(port), "--health-host", "127.0.0.1")
    with running(folder, "shop:make", *options) as process:
        found = wait_for(port, "/readyz", 200, process)
        assert [each["ok"] for each in found.values()] == [True, True]
        metrics = get(port, "/metrics")[1]
        assert 'eip_part_up{part="consumer orders",worker="0"} 1.0' in metrics
        assert 'eip_part_up{part="consumer orders",worker="1"} 1.0' in metrics
        assert metrics.count("# TYPE eip_part_up gauge") == 1
        children = pids_of_children(process.pid)
        assert len(children) == 2
        (folder / "shop.py").write_text(WAITING + APP)
        os.kill(children[0], signal.SIGKILL)
        wait_for(port, "/readyz", 503, process)
        (folder / "go").touch()
        wait_for(port, "/readyz", 200, process)
        again = pids_of_children(process.pid)
        assert len(again) == 2
        process.kill()
        deadline = time.monotonic() + 20
        while any(alive(each) for each in again):
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_an_app_that_cannot_be_ends_its_workers_with_exit_code_2(folder):
    with running(folder, "shop:missing", "--workers", "2") as process:
        assert process.wait(60) == 2


def test_reload_starts_it_again_when_its_source_changes(folder):
    port = free_port()
    options = ("--reload", "--health-port", str(port), "--health-host", "127.0.0.1")
    with running(folder, "shop:make", *options) as process:
        wait_for(port, "/readyz", 200, process)
        (before,) = pids_of_children(process.pid)
        (folder / "shop.py").write_text("this is no Python")
        wait_for(port, "/readyz", 503, process)
        (folder / "shop.py").write_text(APP.replace('"orders"', '"bills"'))
        wait_for(port, "/readyz", 200, process)
        assert 'part="consumer bills"' in get(port, "/metrics")[1]
        after = pids_of_children(process.pid)
        assert after != [before]
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert not any(map(alive, after))


def test_reload_ends_where_the_source_cannot_be_watched(folder, monkeypatch):
    """It would go on with code that is no longer there."""

    def awatch(*_, **__):
        raise OSError("inotify watch limit reached")

    monkeypatch.setattr("watchfiles.awatch", awatch)
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    supervisor = Supervisor(command, 2, health=None, watch=folder)
    with pytest.raises(OSError, match="watch limit"):
        asyncio.run(asyncio.wait_for(supervisor.run(), 20))
    assert all(each.returncode is not None for each in supervisor._processes.values())


@pytest.mark.parametrize("target", ["/livez", "@127.0.0.1:{other}/secret", "http://127.0.0.1:{other}/", "/\x7f"])
def test_probes_reach_the_workers_and_nothing_else(target, monkeypatch):
    """Whatever the request asks for: a prober must not have it fetched from another host, nor by a proxy."""
    asked: list[tuple[str, str]] = []

    def server(name: str) -> ProbeServer:
        def answer(asked_for: str) -> Answer:
            asked.append((name, asked_for))
            return Answer(HTTPStatus.OK, name.encode())

        return ProbeServer(answer, 0, "127.0.0.1")

    async def probe() -> Answer:
        supervisor = Supervisor([], 1, health=None, watch=None)
        async with server("worker") as worker, server("other") as other:
            monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{other.port}")
            supervisor._ports[0] = worker.port
            return await asyncio.to_thread(supervisor._answer, target.format(other=other.port))

    answer = asyncio.run(probe())
    assert [name for name, _ in asked] == (["worker"] if target.isprintable() else [])
    assert answer.status == (HTTPStatus.OK if asked else HTTPStatus.SERVICE_UNAVAILABLE)


def pids_of_children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    return state_of(Path(f"/proc/{pid}")) not in ("Z", "")
