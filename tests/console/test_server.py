"""The console on a port of its own, and the command that serves it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager

import httpx
import pytest
from typer.testing import CliRunner

from eip import _connections
from eip.cli.app import app as command
from eip.console import Console, ConsoleServer, TokenFile, Tokens
from eip.errors import ConfigurationError
from tests.console.shop import DEAD, fill, looked_at, make_shop


async def test_it_pushes_the_state_and_ends_with_the_application():
    app = make_shop()
    server = app.add(ConsoleServer(Console(app, interval=0.05), port=0))
    async with app, httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=20) as client:
        assert server.health().ok
        assert app.parts()["service console"].ok
        async with client.stream("GET", "api/live") as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            pushed = stream.aiter_lines()
            states = [json.loads(line[6:]) async for line in _first(pushed, 2)]
            assert states[1]["at"] > states[0]["at"]
            assert "queue orders" in states[0]["nodes"]
            await server.stop()  # a stream that is open does not keep it from ending
            assert [line async for line in pushed if line] == []
        with pytest.raises(httpx.ConnectError):
            await client.get("api/me")
        await server.stop()


@asynccontextmanager
async def stream_of(server):
    client = httpx.AsyncClient(trust_env=False, timeout=20)
    async with client, client.stream("GET", f"{server.url}api/live") as stream:
        yield stream.aiter_lines()


async def _first(lines, count):
    """The first lines that hold data."""
    while count:
        line = await anext(lines)
        if line.startswith("data: "):
            count -= 1
            yield line


async def test_it_serves_where_standard_output_is_closed(monkeypatch):
    """As a daemon's may be: uvicorn's own configuration of its log could not be made."""
    monkeypatch.setattr(sys, "stdout", None)
    async with looked_at() as app, ConsoleServer(Console(app, interval=0.05), port=0) as server:
        assert server.ready.is_set()


async def test_it_serves_again_after_it_was_stopped():
    async with looked_at() as app:
        server = ConsoleServer(Console(app, interval=0.05), port=0)
        for _ in range(2):
            async with server, stream_of(server) as lines:
                assert [line async for line in _first(lines, 3)]


async def test_no_more_than_fifty_browsers_are_kept_up_to_date():
    async with looked_at() as app:
        console = Console(app)
        console._api._streams = 50
        async with ConsoleServer(console, port=0) as server, httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"{server.url}api/live")).status_code == 503


async def test_half_sent_requests_keep_nobody_out():
    """Fault 47: at the limit, who keeps the server waiting makes room."""
    async with make_shop() as app, ConsoleServer(Console(app), port=0) as server:
        halves = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(250)]
        for number, (_, writer) in enumerate(halves):
            writer.write(
                (b"GET / HTTP/1.1\r\nHos", b"", b"POST /api/look HTTP/1.1\r\nContent-Length: 9\r\n\r\n{")[number % 3]
            )
        async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=20) as client:
            assert (await client.get("api/me")).status_code == 200
        for _, writer in halves:
            writer.transport.abort()


async def test_a_request_that_drips_in_is_ended(monkeypatch):
    """Fault 47: a byte now and then prolongs nothing."""
    monkeypatch.setattr(_connections, "_HEADER_WITHIN", 0.3)
    async with make_shop() as app, ConsoleServer(Console(app), port=0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\n")
        answer = asyncio.ensure_future(reader.readline())  # from the start: a reset may follow it at once
        async with asyncio.timeout(10):
            while not answer.done():
                writer.write(b"x")
                await asyncio.sleep(0.05)
            assert (await answer).startswith(b"HTTP/1.1 408")
        writer.close()


async def test_a_page_that_is_open_ends_once_its_token_is_taken_away(tmp_path):
    file = tmp_path / "tokens.json"
    tokens = Tokens()
    ada, eve = tokens.grant("ada"), tokens.grant("eve")
    tokens.save(file)
    app = make_shop()
    console = Console(app, tokens=TokenFile(file), interval=0.05)
    bearer = [{"Authorization": f"Bearer {each}"} for each in (ada, eve)]
    async with (
        app,
        ConsoleServer(console, port=0) as server,
        asyncio.timeout(20),
        httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=20) as client,
        client.stream("GET", "api/live", headers=bearer[0]) as taken,
        client.stream("GET", "api/live", headers=bearer[1]) as kept,
    ):
        pushed = taken.aiter_lines()
        assert [line async for line in _first(pushed, 1)]
        del tokens.readers["ada"]
        tokens.save(file)
        assert len([line async for line in pushed]) < 100  # it ends
        assert [line async for line in _first(kept.aiter_lines(), 3)]
        assert (await client.get("api/me", headers=bearer[0])).status_code == 401


async def test_whatever_is_in_a_reason_is_pushed_with_its_values_masked():
    app = make_shop()
    async with app, ConsoleServer(Console(app, interval=0.05), port=0) as server, asyncio.timeout(20):
        app.consumers[0]._health.failed("no \ud800, password=hunter2")
        async with (
            httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=20) as client,
            client.stream("GET", "api/live") as stream,
        ):
            (state,) = [json.loads(line[6:]) async for line in _first(stream.aiter_lines(), 1)]
            assert "hunter2" not in str(state)
            assert [part["reason"] for part in state["parts"] if not part["ok"]] == ["no \ud800, password=•••"]


async def test_a_port_that_is_taken_is_an_error_that_names_it():
    async with looked_at() as app, ConsoleServer(Console(app), port=0) as first:
        with pytest.raises(ConfigurationError, match=f"port {first.port} of 127.0.0.1"):
            async with ConsoleServer(Console(app), port=first.port):
                pass


async def test_a_job_under_way_ends_with_the_console_and_nothing_is_lost(monkeypatch):
    monkeypatch.setattr("eip.console._api._JOB_WAIT_S", 0.3)
    async with looked_at() as app:
        await fill(app, 20)
        async with ConsoleServer(Console(app), port=0) as server, httpx.AsyncClient(trust_env=False) as client:
            asked = client.post(f"{server.url}api/redrive", json={"queue": DEAD, "rate": 2}, timeout=30)
            job = (await asked).json()
            assert job["status"] == "running"
            assert job["moved"] > 0
        left, moved = [await app.transport.queue(name).depth() or {} for name in (DEAD, "orders")]
        assert left["leased"] == 0
        assert left["ready"] + moved["ready"] == 20


# The command.


def ran(*arguments: str):
    return CliRunner(env={"NO_COLOR": "1", "COLUMNS": "200"}).invoke(command, arguments)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "no other process can reach the memory transport"),
        (("tests.console.shop:make_shop",), "give --run"),
        (("tests.console.shop:make_shop", "--run", "--queue", "q"), "give --queue or an App"),
        (("tests.console.shop:ORDERS",), "must be an App or a Topology"),
        (("tests.console.shop:make_shop", "--run", "--host", "0.0.0.0"), "host must be a loopback address"),
        (("tests.console.shop:make_shop", "--run", "--tokens", "none.json"), "is not a token file"),
        (("tests.console.shop:make_shop", "--redact", "a", "--no-redact"), "not both"),
    ],
)
def test_what_cannot_be_served_is_refused_with_what_to_do(arguments, text):
    result = ran("console", *arguments)
    assert result.exit_code == 2, result.output
    assert text in " ".join(result.output.split())


def test_a_token_is_printed_once_and_kept_as_a_digest(tmp_path):
    path = tmp_path / "tokens.json"
    reader, operator = (
        ran("console-token", str(path), "ada").stdout.strip(),
        ran("console-token", str(path), "eve", "--operator").stdout.strip(),
    )
    assert reader not in path.read_text()
    assert operator not in path.read_text()
    found = TokenFile(path)
    assert [user.role for token in (reader, operator) if (user := found.user(token))] == ["reader", "operator"]
    assert ran("console-token", str(tmp_path / "none" / "tokens.json"), "ada").exit_code == 2
    path.write_text("{broken")
    assert ran("console-token", str(path), "ada").exit_code == 2
    assert path.read_text() == "{broken"


async def test_the_command_runs_an_application_with_its_console(tmp_path):
    arguments = ["-m", "eip", "console", "tests.console.shop:make_shop", "--run", "--port", "0"]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        "--audit",
        str(tmp_path / "audit.jsonl"),
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(60):
            while b"http://" not in (line := await process.stderr.readline()):
                assert line, "it ended"
            url = line.decode().split()[-1]
            async with httpx.AsyncClient(trust_env=False) as client:
                while (await client.get(f"{url}api/state")).json()["nodes"]["handler orders"]["ok"] is not True:
                    await asyncio.sleep(0.05)  # it is served while the application starts
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
