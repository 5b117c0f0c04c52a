"""Probes in real time: the server answers from a thread of its own, also while the loop is blocked."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from typing import Any

import pytest

from eip import App, Message
from eip.app.health_server import HealthServer
from eip.errors import ConfigurationError
from eip.transports.memory import MemoryTransport


def get(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


async def ask(server: HealthServer, path: str, method: str = "GET") -> tuple[int, Any]:
    status, text = await asyncio.to_thread(get, server.port, path, method)
    return status, json.loads(text) if text.startswith("{") else text


async def test_it_is_ready_while_the_app_is_open_and_every_part_is_well():
    app = App(MemoryTransport())

    @app.consumer("orders")
    async def bill(message: Message) -> None: ...

    async with HealthServer(app, port=0) as server:
        assert await ask(server, "/livez") == (200, "ok\n")
        status, found = await ask(server, "/readyz")
        assert (status, found["ok"], found["reason"]) == (503, False, "not running")
        async with app:
            assert (await ask(server, "/readyz"))[0] == 200
            (consumer,) = app.consumers
            consumer._health.failed("the queue is gone")
            status, found = await ask(server, "/readyz?verbose=1")
            assert status == 503
            assert found["reason"] == "consumer orders: the queue is gone"
            assert found["parts"]["consumer orders"]["failing_since"] > 0
            assert found["parts"]["transport"] == {"ok": True}
            assert (await ask(server, "/readyz?exclude=consumer%20orders"))[0] == 200
            assert (await ask(server, "/livez"))[0] == 200
        assert (await ask(server, "/readyz"))[0] == 503


async def test_a_blocked_loop_turns_both_probes_red_with_the_handler_s_name_and_green_after():
    app = App(MemoryTransport())
    seen: dict[str, Any] = {}
    red = threading.Event()

    @app.consumer("orders")
    async def compute(message: Message) -> None:
        deadline = time.monotonic() + 30
        while not red.is_set() and time.monotonic() < deadline:
            time.sleep(0.05)

    def watch(port: int) -> None:
        while not {"/livez", "/readyz"} <= seen.keys():
            for path in ("/livez", "/readyz"):
                status, text = get(port, path)
                if status == 503:
                    seen.setdefault(path, text)
            time.sleep(0.1)
        red.set()

    async with HealthServer(app, port=0, max_blocked=2.5) as server, app:
        thread = threading.Thread(target=watch, args=(server.port,), daemon=True)
        thread.start()
        await app.sender("orders").send(Message(1))
        async with asyncio.timeout(30):
            await asyncio.to_thread(thread.join)
        for path in ("/livez", "/readyz"):
            assert "blocked for" in seen[path]
            assert "compute" in seen[path]
            async with asyncio.timeout(10):
                while (await ask(server, path))[0] != 200:
                    await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"POST /livez HTTP/1.1\r\n\r\n", b"405"),
        (b"GET /other HTTP/1.1\r\n\r\n", b"404"),
        (b"HEAD /livez HTTP/1.1\r\n\r\n", b"200"),
        (b"GET http://[ HTTP/1.1\r\n\r\n", b"400"),
        (b"GET //[x]:y/livez HTTP/1.1\r\n\r\n", b"400"),
        (b"GET http://elsewhere/livez HTTP/1.1\r\n\r\n", b"200"),
        (b"\xff\xff\r\n\r\n", b"400"),
        (b"GET /livez HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n", b"400"),
    ],
)
async def test_it_answers_bad_requests_and_goes_on(sent, status, capsys):
    async with HealthServer(App(MemoryTransport()), port=0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(sent)
        assert (await reader.readline()).split()[1] == status
        writer.close()
        assert (await ask(server, "/livez"))[0] == 200
    assert "Traceback" not in capsys.readouterr().err


async def test_whatever_is_in_a_reason_is_answered():
    app = App(MemoryTransport())

    @app.consumer("orders")
    async def bill(message: Message) -> None: ...

    async with HealthServer(app, port=0) as server, app:
        app.consumers[0]._health.failed("no \ud800")
        status, found = await ask(server, "/readyz")
        assert (status, found["reason"]) == (503, "consumer orders: no \ud800")


async def test_connections_that_say_nothing_do_not_keep_others_out():
    async with HealthServer(App(MemoryTransport()), port=0) as server:
        silent = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(10)]
        assert (await ask(server, "/livez"))[0] == 200
        for _, writer in silent:
            writer.close()


async def test_a_taken_port_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigurationError, match=r"port \d+ of 127.0.0.1 cannot be used"):
            await HealthServer(App(MemoryTransport()), port=taken.getsockname()[1]).run()


@pytest.mark.parametrize("host", ["a" * 70, "no\0host", "256.256.256.256"])
async def test_a_host_that_cannot_be_is_an_error_and_not_a_hang(host):
    with pytest.raises(ConfigurationError, match="cannot be used"):
        async with asyncio.timeout(20):
            await HealthServer(App(MemoryTransport()), port=0, host=host).run()


async def test_cancelled_while_it_starts_its_thread_ends_quietly(monkeypatch):
    failed: list[object] = []
    monkeypatch.setattr(threading, "excepthook", failed.append)
    running = asyncio.create_task(HealthServer(App(MemoryTransport()), port=0).run())
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not [each for each in threading.enumerate() if each.name == "eip health server"]
    assert not failed
