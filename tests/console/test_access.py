"""Who is let in, what a reader may not, and what pages of other sites cannot do; over ASGI."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from eip.console import Console, ConsoleServer, TokenFile, Tokens
from eip.errors import ConfigurationError
from tests.console.shop import DEAD, fill, looked_at

HERE = ("127.0.0.1", 5000)
CHANGES = (
    *("redrive", "edit", "discard", "restore", "jobs/cancel", "process/retry", "process/cancel"),
    *("scheduled/cancel", "scheduled/send"),
)
READS = ("me", "flow", "state", "live", "letters", "letter", "dead-letters", "processes", "process", "process.svg")
MORE_READS = ("scheduled", "requests", "conversation", "cost", "audit", "look")


@asynccontextmanager
async def client_of(
    console: Console, *, client: tuple[str, int] = HERE, base: str = "http://localhost:8081", headers: Any = None
) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(console, client=client, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=base, headers=headers) as made:
        yield made
    await console.aclose()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_tokens_are_digests_and_replaced():
    tokens = Tokens()
    reader, operator = tokens.grant("ada"), tokens.grant("eve", "operator")
    assert reader not in tokens.model_dump_json()
    assert len(reader) >= 43
    for forged in ("", "x", reader[:-1], reader + "x", reader.swapcase(), "é" * 50, tokens.readers["ada"], "\udc80"):
        assert tokens.user(forged) is None
    user = tokens.user(operator)
    assert user is not None
    assert (user.name, user.role, user.may_change) == ("eve", "operator", True)
    now = tokens.grant("eve")
    assert tokens.user(operator) is None
    user = tokens.user(now)
    assert user is not None
    assert not user.may_change
    for wrong in ("", "x" * 101, "a\nb"):
        with pytest.raises(ConfigurationError, match="name must be"):
            tokens.grant(wrong)


def test_a_token_file_is_read_again_when_it_changes(tmp_path):
    path, tokens = tmp_path / "tokens.json", Tokens()
    token = tokens.grant("ada", "operator")
    tokens.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert token not in path.read_text()
    file = TokenFile(path)
    assert file.user(token) is not None
    other = Tokens()
    fresh = other.grant("eve")
    other.save(path)
    assert file.user(token) is None
    assert file.user(fresh) is not None
    path.write_text("{broken")
    assert file.user(fresh) is None  # nobody's, rather than those of a file that is no more
    other.save(path)
    assert file.user(fresh) is not None
    path.unlink()
    assert file.user(fresh) is None


@pytest.mark.parametrize("text", ["", "[]", '{"readers": {"a": "short"}}', '{"readers": {"": ""}}', '{"x": 1}'])
def test_a_file_that_is_no_token_file_is_refused_without_what_is_in_it(tmp_path, text):
    path = tmp_path / "tokens.json"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="is not a token file") as raised:
        TokenFile(path)
    assert "short" not in str(raised.value)


@pytest.mark.parametrize("path", [*READS, *MORE_READS, *CHANGES])
@pytest.mark.parametrize("forged", [None, "Bearer x", "Bearer ", "Basic eDp4", "Bearer " + "x" * 100_000])
async def test_nothing_is_read_or_changed_without_a_valid_token(path, forged):
    async with looked_at() as app, client_of(Console(app, tokens=Tokens())) as client:
        headers = {} if forged is None else {"Authorization": forged}
        method = "POST" if path in CHANGES or path == "look" else "GET"
        answer = await client.request(method, f"/api/{path}", headers=headers, json={} if method == "POST" else None)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert "x" * 100 not in answer.text


@pytest.mark.parametrize("path", CHANGES)
async def test_a_reader_changes_nothing(path):
    tokens = Tokens()
    token = tokens.grant("ada")
    async with looked_at() as app, client_of(Console(app, tokens=tokens), headers=bearer(token)) as client:
        await fill(app, 1)
        answer = await client.post(f"/api/{path}", json={"queue": DEAD, "id": "m0", "export": "x"})
        assert answer.status_code == 403
        assert "for operators" in answer.json()["detail"]
        assert len(app.transport.queue(DEAD).messages()) == 1  # type: ignore[attr-defined]
        assert (await client.post("/api/look", json={"queue": DEAD})).status_code == 200
        assert not (await client.get("/api/audit")).json()["records"]


async def test_an_operator_is_named_in_the_audit_log_and_the_token_nowhere(tmp_path, capfd):
    tokens, log = Tokens(), tmp_path / "audit.jsonl"
    token = tokens.grant("eve", "operator")
    console = Console
    async with looked_at() as app, client_of(console(app, tokens=tokens, audit=log), headers=bearer(token)) as client:
        await fill(app, 2)
        answer = await client.post("/api/redrive", json={"queue": DEAD})
        assert answer.json()["moved"] == 2
        records = (await client.get("/api/audit")).json()["records"]
    assert {each["by"] for each in records} == {"eve"}
    assert token not in log.read_text() + "".join(capfd.readouterr())


CROSS_SITE: list[dict[str, str]] = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:9999"},
    {"Origin": "http://["},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
]


@pytest.mark.parametrize("headers", CROSS_SITE)
async def test_pages_of_other_sites_change_nothing(headers):
    async with looked_at() as app, client_of(Console(app)) as client:
        await fill(app, 1)
        answer = await client.post("/api/redrive", json={"queue": DEAD}, headers=headers)
        assert answer.status_code == 403
        assert len(app.transport.queue(DEAD).messages()) == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
async def test_what_a_form_can_send_changes_nothing(kind):
    async with looked_at() as app, client_of(Console(app)) as client:
        await fill(app, 1)
        body = json.dumps({"queue": DEAD})
        answer = await client.post("/api/redrive", content=body, headers={"Content-Type": kind})
        assert answer.status_code == 415
        assert (await client.get("/api/redrive")).status_code == 405


@pytest.mark.parametrize(
    ("client", "base", "headers", "status"),
    [
        (HERE, "http://localhost", {}, 200),
        (HERE, "http://127.0.0.1:1", {}, 200),
        (("::1", 1), "http://[::1]:8081", {}, 200),
        (("192.0.2.1", 1), "http://localhost", {}, 403),
        (HERE, "http://rebound.example:8081", {}, 421),
        (HERE, "http://localhost.evil.example", {}, 421),
        (HERE, "http://localhost", {"X-Forwarded-For": "192.0.2.1"}, 403),
        (HERE, "http://localhost", {"Forwarded": "for=192.0.2.1"}, 403),
        (HERE, "http://localhost", {"Host": "[::1"}, 421),
        (HERE, "http://localhost", {"Host": ""}, 421),
    ],
)
async def test_without_tokens_only_this_machine_is_let_in(client, base, headers, status):
    async with looked_at() as app, client_of(Console(app), client=client, base=base) as asking:
        for path in ("/", "/api/me", "/static/main.js"):
            assert (await asking.get(path, headers=headers)).status_code == status


async def test_with_tokens_others_are_let_in_by_any_name():
    tokens = Tokens()
    token = tokens.grant("ada")
    async with (
        looked_at() as app,
        client_of(Console(app, tokens=tokens), client=("192.0.2.1", 1), base="https://console.example") as asking,
    ):
        assert (await asking.get("/")).status_code == 200
        assert (await asking.get("/api/me", headers=bearer(token))).json()["role"] == "reader"


async def test_whoever_is_on_the_machine_can_be_a_reader_only():
    async with looked_at() as app, client_of(Console(app, read_only=True)) as client:
        assert (await client.get("/api/me")).json()["role"] == "reader"
        assert (await client.post("/api/redrive", json={"queue": DEAD})).status_code == 403


async def test_it_does_not_listen_to_others_without_tokens():
    async with looked_at() as app:
        for host in ("0.0.0.0", "192.0.2.1", "example.org", "::"):
            with pytest.raises(ConfigurationError, match="host must be a loopback address"):
                ConsoleServer(Console(app), host=host)
        ConsoleServer(Console(app, tokens=Tokens()), host="0.0.0.0")


async def test_a_browser_is_told_to_run_nothing_but_the_console_s_own_files():
    async with looked_at() as app, client_of(Console(app)) as client:
        for path in ("/", "/static/main.js", "/api/me", "/api/none", "/static/../../pyproject.toml"):
            answer = await client.get(path)
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Cache-Control"] == "no-store"
        page = (await client.get("/")).text
    assert "<style" not in page
    assert "style=" not in page
    assert "onclick" not in page
    static = Path("eip/console/static")
    assert all(
        " style" not in each.read_text() or each.suffix == ".css" for each in static.iterdir() if each.suffix != ".js"
    )


# What is asked for wrongly.

WRONG: list[tuple[str, Any, int]] = [
    ("redrive", b"{broken", 400),
    ("redrive", [], 400),
    ("redrive", {}, 400),
    ("redrive", {"queue": 1}, 400),
    ("redrive", {"queue": "none"}, 404),
    ("redrive", {"queue": DEAD, "rate": "fast"}, 400),
    ("redrive", {"queue": DEAD, "rate": -1}, 400),
    ("redrive", {"queue": DEAD, "rate": True}, 400),
    ("redrive", {"queue": DEAD, "key": ["m1"]}, 400),
    ("redrive", {"queue": DEAD, "keys": None}, 400),
    ("discard", {"queue": DEAD, "group": None}, 400),
    ("discard", {"queue": DEAD, "text": "m1"}, 400),
    ("redrive", {"queue": DEAD, "to": "none"}, 400),
    ("redrive", {"queue": DEAD, "keys": []}, 400),
    ("edit", {"queue": DEAD, "key": "none"}, 404),
    ("edit", {"queue": DEAD, "key": "m0", "body": 1}, 400),
    ("edit", {"queue": DEAD, "key": "m0", "attributes": []}, 400),
    ("edit", {"queue": DEAD, "key": "m0", "body": "{"}, 404),
    ("discard", {"queue": DEAD}, 400),
    ("restore", {"queue": DEAD, "export": "../x.jsonl"}, 400),
    ("jobs/cancel", {"id": "none"}, 404),
    ("process/cancel", {"manager": "none", "id": "x"}, 404),
    ("scheduled/cancel", {"scheduler": "none", "key": "x"}, 404),
    ("look", {"queue": "orders"}, 404),
    ("redrive", b" " * (5 * 1024 * 1024), 413),
]


@pytest.mark.parametrize(("path", "body", "status"), WRONG)
async def test_a_wrong_request_is_told_why(path, body, status):
    async with looked_at() as app, client_of(Console(app)) as client:
        await fill(app, 1)
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = await client.post(f"/api/{path}", content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code == status, answer.text
        assert answer.json()["detail"]
        assert len(app.transport.queue(DEAD).messages()) == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("letters", 400),
        ("letters?queue=none", 404),
        (f"letters?queue={DEAD}&page=-1", 400),
        (f"letters?queue={DEAD}&page=9999999", 400),
        (f"letter?queue={DEAD}&key=none", 404),
        ("processes?status=odd", 400),
        ("process?manager=none&id=1", 404),
        ("process.svg?manager=none&id=1", 404),
        ("conversation?id=" + "x" * 10_000, 200),
        ("none", 404),
    ],
)
async def test_a_wrong_question_is_answered(path, status):
    async with looked_at() as app, client_of(Console(app)) as client:
        assert (await client.get(f"/api/{path}")).status_code == status


async def test_a_queue_that_vanishes_meanwhile_is_an_answer_not_a_failure():
    async with looked_at() as app, client_of(Console(app)) as client:
        await fill(app, 3)
        await client.post("/api/look", json={"queue": DEAD})
        await app.transport.remove_queue(DEAD)
        for path in (f"letters?queue={DEAD}", "state", "dead-letters"):
            assert (await client.get(f"/api/{path}")).status_code == 200
        answer = await client.post("/api/look", json={"queue": DEAD})
        assert answer.status_code in (200, 404)


@pytest.mark.parametrize("root", ["", "/ops", "/api", "/static", "/api/flow", "/static/api"])
@pytest.mark.parametrize("stripped", [True, False])
async def test_whatever_a_proxy_does_to_the_path_nothing_is_read_without_a_token(root, stripped):
    async with looked_at() as app:
        transport = httpx.ASGITransport(Console(app, tokens=Tokens()), root_path=root, client=HERE)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            for path in (
                "/api/flow",
                "/api/dead-letters",
                "/api/me",
                "//api/flow",
                "/api//flow",
                "/static/../api/flow",
            ):
                answer = await client.get(path if stripped else root + path)
                assert answer.status_code in (307, 401, 404)
                assert "nodes" not in answer.text


async def test_it_can_be_mounted_under_a_path():
    from starlette.applications import Starlette
    from starlette.routing import Mount

    async with looked_at() as app:
        web = Starlette(routes=[Mount("/ops/console", Console(app))])
        transport = httpx.ASGITransport(web, client=HERE)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            assert (await client.get("/ops/console/")).status_code == 200
            assert (await client.get("/ops/console/static/main.js")).status_code == 200
            assert (await client.get("/ops/console/api/me")).json()["role"] == "operator"
            answer = await client.post("/ops/console/api/redrive", json={"queue": DEAD}, headers=CROSS_SITE[0])
            assert answer.status_code == 403
