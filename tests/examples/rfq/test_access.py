"""Who may call the RFQ service: TLS, tokens, limits; over real sockets where it is about the process."""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from eip.errors import ConfigurationError
from examples.rfq.rate_limit import RateLimit
from examples.rfq.tokens import Tokens
from tests.examples.rfq.service import ROOT, running
from tests.support.certificates import Authority

RIDE = {"from": "Alexanderplatz", "to": "Tempelhofer Feld", "customer": "Ada", "duration": 1}


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _granted(*words: str) -> str:
    """A token made as an operator of the service makes it."""
    line = [sys.executable, "-m", "examples.rfq.tokens", *words]
    return subprocess.run(line, capture_output=True, text=True, cwd=ROOT, check=True).stdout.strip()


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    file = tmp_path_factory.mktemp("tokens") / "tokens.json"
    made = {name: _granted(str(file), name) for name in ("Ada", "Bert")}
    made["operator"] = _granted(str(file), "Ada", "--operator")
    return file, made


@pytest.fixture(scope="module")
def guarded(tokens, tmp_path_factory):
    file, made = tokens
    state = tmp_path_factory.mktemp("guarded") / "rfq.sqlite"
    with running(state, "--tokens", str(file), "--unicorns", "60") as service:
        service.everyone_there(60)
        yield service, made
        service.end()
        assert service.process.stdout is not None
        said = service.process.stdout.read()
        kept = file.read_text() + "".join(each.read_bytes().decode("latin-1") for each in state.parent.iterdir())
        for token in made.values():
            assert token not in said
            assert token not in kept


def test_a_customer_sees_their_own_rfqs_only(guarded):
    service, made = guarded
    client = service.client
    asked = client.post("/rfqs", json=RIDE, headers=_bearer(made["Ada"]))
    assert asked.status_code == 202
    links = asked.json()["links"]
    assert client.get(links["self"], headers=_bearer(made["Ada"])).status_code in (200, 303)
    unknown = client.get("/rfqs/unknown", headers=_bearer(made["Bert"]))
    choice = client.put(links.pop("choice"), json={"unicorn": "unicorn-1"}, headers=_bearer(made["Bert"]))
    for other in (choice, *(client.get(link, headers=_bearer(made["Bert"])) for link in links.values())):
        assert other.status_code == 404
        assert other.json()["title"] == unknown.json()["title"]
        assert other.json()["detail"] == unknown.json()["detail"]


@pytest.mark.parametrize(
    "headers",
    [{}, _bearer("wrong"), {"Authorization": "Basic QWRhOkFkYQ=="}, {"Authorization": "Bearer"}],
)
def test_without_a_valid_token_nothing_is_told(guarded, headers):
    service, _ = guarded
    for answer in (
        service.client.post("/rfqs", json=RIDE, headers=headers),
        service.client.get("/rfqs/unknown", headers=headers),
        service.client.get("/nowhere", headers=headers),
    ):
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.headers["content-type"] == "application/problem+json"
    assert service.client.get("/", headers=headers).status_code == 200


def test_nobody_asks_in_the_name_of_another_and_operators_do_not_ask(guarded):
    service, made = guarded
    for name in ("Bert", "operator"):
        answer = service.client.post("/rfqs", json=RIDE, headers=_bearer(made[name]))
        assert answer.status_code == 403


def test_the_openapi_document_tells_whether_tokens_are_asked_for(guarded):
    service, _ = guarded
    assert service.client.get("/openapi.json").json()["security"] == [{"token": []}]


def test_operations_are_for_operators(guarded):
    service, made = guarded
    for path in ("/operations/api/state", "/operations/api/dead-letters"):
        assert service.client.get(path, headers=_bearer(made["operator"])).status_code == 200
        assert service.client.get(path, headers=_bearer(made["Ada"])).status_code == 403
        assert service.client.get(path).status_code == 401
    redrive = service.client.post("/operations/api/redrive", json={"queue": "x"}, headers=_bearer(made["Ada"]))
    assert redrive.status_code == 403
    redrive = service.client.post("/operations/api/redrive", json={"queue": "x"}, headers=_bearer(made["operator"]))
    assert redrive.status_code == 404
    for page in ("/operations", "/operations/", "/operations/static/main.js"):
        assert service.client.get(page, follow_redirects=True).status_code == 200


def test_a_new_token_replaces_the_former_and_the_file_is_private(tmp_path):
    file = tmp_path / "tokens.json"
    first, second = _granted(str(file), "Ada"), _granted(str(file), "Ada")
    tokens = Tokens.load(file)
    assert tokens.owner(first) is None
    owner = tokens.owner(second)
    assert owner is not None
    assert owner.name == "Ada"
    assert file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("text", ["", "[]", '{"customers": {"Ada": "secret"}}', '{"customer": {}}'])
def test_a_token_file_that_is_none_is_told_without_its_content(tmp_path, text):
    file = tmp_path / "tokens.json"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match="not a token file") as caught:
        Tokens.load(file)
    assert "secret" not in str(caught.value)
    said = _start("--tokens", str(file))
    assert said.returncode == 1
    assert "Cannot start" in said.stderr


def _start(*options: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "examples.rfq", "--port", "0", *options]
    return subprocess.run(line, capture_output=True, text=True, cwd=ROOT, check=False, timeout=60)


def _trusting(authority: Authority, certificate: Path | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.certificate)
    if certificate is not None:
        context.load_cert_chain(certificate)
    return context


def test_mutual_tls_lets_in_who_has_a_certificate_of_the_authority(tmp_path):
    authority, other = Authority(tmp_path), Authority(tmp_path, "stranger")
    options = ["--tls-certificate", str(authority.issue("server")), "--tls-client-ca", str(authority.certificate)]
    partner = _trusting(authority, authority.issue("partner"))
    with running(tmp_path / "rfq.sqlite", *options, "--unicorns", "10", verify=partner) as service:
        assert service.url.startswith("https://")
        asked = service.client.post("/rfqs", json=RIDE)
        assert asked.status_code == 202
        assert asked.json()["links"]["self"].startswith("https://")
        for stranger in (_trusting(authority), _trusting(authority, other.issue("partner-of-another"))):
            with pytest.raises(httpx.TransportError):
                httpx.get(f"{service.url}/healthz", verify=stranger, trust_env=False)
        with pytest.raises(httpx.TransportError):
            httpx.get(service.url.replace("https", "http"), trust_env=False)
        assert service.client.get("/healthz").status_code == 200


def test_tls_without_client_certificates(tmp_path):
    authority = Authority(tmp_path)
    pem = str(authority.issue("server"))
    anybody = _trusting(authority)
    with running(tmp_path / "rfq.sqlite", "--tls-certificate", pem, "--unicorns", "0", verify=anybody) as service:
        assert service.client.get("/healthz").json()["status"] == "ok"


def test_certificates_that_cannot_be_read_are_told(tmp_path):
    (tmp_path / "empty.pem").touch()
    for options, code in [
        (["--tls-certificate", str(tmp_path / "missing.pem")], 1),
        (["--tls-certificate", str(tmp_path / "empty.pem")], 1),
        (["--tls-client-ca", "ca.pem"], 2),
        (["--tls-key", "key.pem"], 2),
        (["--rate-limit", "0"], 2),
    ]:
        said = _start(*options)
        assert said.returncode == code
        assert "Traceback" not in said.stderr


def test_too_many_calls_are_told_when_to_come_back(tmp_path):
    with running(tmp_path / "rfq.sqlite", "--rate-limit", "0.001", "--unicorns", "0") as service:
        begun = time.monotonic()
        assert service.client.post("/rfqs", json=RIDE).status_code == 202
        refused = service.client.post("/rfqs", json=RIDE)
        assert refused.status_code == 429
        assert refused.headers["content-type"] == "application/problem+json"
        assert 999 - (time.monotonic() - begun) <= int(refused.headers["retry-after"]) <= 1000
        # An address that the caller claims does not count; that of the connection does.
        forwarded = service.client.get("/rfqs/x", headers={"X-Forwarded-For": "192.0.2.1"})
        assert forwarded.status_code == 429
        assert service.client.get("/healthz").status_code == 200
        assert service.client.get("/").status_code == 200
        # Refused before its body came: the rest is taken, and no reset overtakes the answer.
        connection = http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=60)
        connection.putrequest("POST", "/rfqs")
        connection.putheader("Content-Length", "2")
        connection.endheaders()
        with connection.getresponse() as early:
            assert early.status == 429
            early.read()
        connection.sock.sendall(b"{}GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        with connection.sock.makefile("rb") as rest:
            assert rest.readline().startswith(b"HTTP/1.1 200")
        connection.close()


async def test_a_rate_is_held_for_each_caller_and_memory_is_bounded(monkeypatch):
    limit = RateLimit(2)
    assert [limit.take("a") for _ in range(4)] == [0.0] * 4
    assert 0 < limit.take("a") <= 0.5
    assert limit.take("b") == 0.0
    monkeypatch.setattr("examples.rfq.rate_limit._REMEMBERED", 10)
    for number in range(50):
        limit.take(f"caller {number}")
    assert len(limit._buckets) <= 10


def test_pages_of_other_sites_may_not_write(guarded):
    service, made = guarded
    headers = {**_bearer(made["Ada"]), "Content-Type": "application/json"}
    body = json.dumps(RIDE)
    refused = service.client.post("/rfqs", content=body, headers={**headers, "Origin": "https://example.org"})
    assert refused.status_code == 403
    own = service.client.post("/rfqs", content=body, headers={**headers, "Origin": service.url})
    assert own.status_code == 202
