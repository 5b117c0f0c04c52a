"""Partners by their certificates: known, revoked, refused, and trust that changes while the service runs."""

from __future__ import annotations

import json
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509

from eip.errors import ConfigurationError
from examples.rfq.files import Reloaded
from examples.rfq.partners import Partners
from examples.rfq.tls import _name
from tests.examples.rfq.service import Service, running
from tests.examples.rfq.test_access import RIDE, _bearer, _granted, _start, _trusting
from tests.support.certificates import Authority


class World:
    """A service with an optional listener, an authority, two partners, and somebody unknown."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.authority = folder, Authority(folder)
        self.log = (folder / "log").open("w+")
        self.trusted = folder / "trusted.pem"
        shutil.copy(self.authority.certificate, self.trusted)
        self.crl = self.authority.revoke()
        self.pems = {name: self.authority.issue(name) for name in ("ada", "bert", "unknown")}
        self.partners = folder / "partners.json"
        self.map(ada="Ada", bert="Bert")
        self.tokens = folder / "tokens.json"
        self.token = _granted(str(self.tokens), "Ada")
        self.service: Service

    def map(self, **customers: str) -> None:
        named = [{"name": name, "subject": f"CN={pem}", "issuer": "CN=authority"} for pem, name in customers.items()]
        self.partners.write_text(json.dumps({"partners": named}))

    @property
    def options(self) -> list[str]:
        files = {
            "--tls-certificate": self.authority.issue("server"),
            "--tls-client-ca": self.trusted,
            "--tls-crl": self.crl,
            "--partners": self.partners,
            "--tokens": self.tokens,
        }
        return ["--tls-client-optional", *(str(each) for pair in files.items() for each in pair)]

    def client(self, pem: Path | None = None) -> httpx.Client:
        verify = _trusting(self.authority, pem)
        return httpx.Client(base_url=self.service.url, verify=verify, trust_env=False, timeout=20)

    def not_read(self, *files: Path) -> bool:
        """Whether the service has logged of each file that it could not read it again."""
        lines = [line for line in Path(self.log.name).read_text().splitlines() if "files_not_read_again" in line]
        return all(any(str(file) in line for line in lines) for file in files)

    def status(self, pem: Path | None, path: str = "/identity", **options: Any) -> int:
        """Of a call over a new connection; 0: the handshake was refused."""
        with self.client(pem) as client:
            try:
                return client.get(path, **options).status_code
            except httpx.TransportError:
                return 0


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    made = World(tmp_path_factory.mktemp("partners"))
    anybody = _trusting(made.authority)
    started = running(made.folder / "rfq.sqlite", *made.options, "--unicorns", "0", verify=anybody, stderr=made.log)
    with started as service:
        made.service = service
        yield made
    made.log.close()


def eventually(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_the_certificate_is_known_and_stands_for_a_customer(world):
    with world.client(world.pems["ada"]) as client:
        found = client.get("/identity").json()
        assert (found["name"], found["role"]) == ("Ada", "customer")
        shown, given = found["certificate"], x509.load_pem_x509_certificate(world.pems["ada"].read_bytes())
        assert (shown["subject"], shown["issuer"]) == ("CN=ada", "CN=authority")
        assert int(shown["serial"], 16) == given.serial_number
        assert datetime.fromisoformat(shown["valid-from"]) == given.not_valid_before_utc
        assert datetime.fromisoformat(shown["valid-until"]) - datetime.now(UTC) > timedelta(days=1)
        assert x509.load_pem_x509_certificate(shown["pem"].encode()) == given
        assert client.post("/rfqs", json=RIDE).status_code == 202
        assert client.post("/rfqs", json={**RIDE, "customer": "Bert"}).status_code == 403
        links = client.post("/rfqs", json=RIDE).json()["links"]
    with world.client(world.pems["bert"]) as client:
        assert client.get(links["self"]).status_code == 404


def test_without_a_certificate_or_a_mapping_it_is_403_and_a_token_helps(world):
    with world.client() as client:
        refused = client.get("/identity")
        assert (refused.status_code, refused.headers["content-type"]) == (403, "application/problem+json")
        assert refused.json()["title"] == "Client certificate required"
        assert client.get("/identity", headers=_bearer("wrong")).status_code == 401
        found = client.get("/identity", headers=_bearer(world.token)).json()
        assert (found["name"], found["certificate"]) == ("Ada", None)
        assert client.get("/healthz").status_code == 200
    with world.client(world.pems["unknown"]) as client:
        refused = client.get("/identity")
        assert (refused.status_code, refused.json()["title"]) == (403, "Unknown partner")


def test_a_certificate_of_a_stranger_gets_past_no_handshake(world):
    stranger = Authority(world.folder, "stranger")
    assert world.status(stranger.issue("of-stranger")) == 0
    forged = Authority(world.folder, "forger")
    forged._name = world.authority._name
    assert world.status(forged.issue("ada-forged")) == 0


def test_trust_revocations_partners_and_tokens_change_while_it_runs(world):
    """A connection from before a change is not served again; a broken file changes nothing."""
    partner, late = world.pems["bert"], world.authority.issue("late")
    assert world.status(late) == 403
    with world.client(partner) as client, client.stream("GET", "/healthz") as before:
        before.read()
        world.map(ada="Ada", late="Late")
        eventually(lambda: world.status(late) == 200)
        world.authority.revoke(partner)
        eventually(lambda: world.status(partner) == 0)
        ended = client.get("/identity")
        assert (ended.status_code, ended.headers["connection"]) == (421, "close")
        with pytest.raises(httpx.TransportError):
            client.get("/identity")
    assert world.status(world.pems["ada"]) == 200
    world.partners.write_text("{")
    world.crl.write_text("nonsense")
    eventually(lambda: world.status(late) == 200 and world.not_read(world.partners, world.crl))
    assert (world.status(world.pems["ada"]), world.status(late), world.status(partner)) == (200, 200, 0)
    new = Authority(world.folder, "successor")
    world.authority.revoke(partner)
    with world.crl.open("a") as crl:
        crl.write(new.revoke().read_text())
    world.trusted.write_text(world.authority.certificate.read_text() + new.certificate.read_text())
    newcomer = new.issue("newcomer")
    eventually(lambda: world.status(newcomer) == 403)  # trusted, and of no partner
    fresh = _granted(str(world.tokens), "Ada")
    eventually(lambda: world.status(None, headers=_bearer(fresh)) == 200)
    assert world.status(None, headers=_bearer(world.token)) == 401


def test_options_and_files_that_are_wrong_are_told(tmp_path):
    authority = Authority(tmp_path)
    pem = str(authority.issue("server"))
    (tmp_path / "partners.json").write_text('{"partners": [{"name": "Ada"}]}')
    tls = ["--tls-certificate", pem, "--tls-client-ca", str(authority.certificate)]
    for options, code in [
        (["--tls-crl", "x.pem"], 2),
        (["--tls-client-optional"], 2),
        (["--partners", "x.json"], 2),
        ([*tls, "--partners", str(tmp_path / "partners.json")], 1),
        ([*tls, "--tls-crl", str(tmp_path / "partners.json")], 1),
    ]:
        said = _start(*options)
        assert said.returncode == code, said.stderr
        assert "Traceback" not in said.stderr


def test_names_are_as_rfc_4514_has_them():
    name = ((("countryName", "DE"),), (("organizationName", 'Wild, "Rydes" + Co'),), (("commonName", " #a "),))
    assert _name(name) == 'CN=\\ #a\\ ,O=Wild\\, \\"Rydes\\" \\+ Co,C=DE'


def test_a_partner_file_that_is_none_is_told(tmp_path):
    with pytest.raises(ConfigurationError, match="no partner file"):
        Partners(tmp_path / "missing.json")


def test_a_file_is_read_again_when_it_changes_and_only_then(tmp_path, monkeypatch):
    now, file = 100.0, tmp_path / "file"
    monkeypatch.setattr("examples.rfq.files.time.monotonic", lambda: now)
    file.write_text("1")
    made: list[str] = []

    def make() -> str:
        made.append(file.read_text())
        return made[-1]

    found = Reloaded([file, tmp_path / "missing"], make)
    file.write_text("22")
    assert found.current == "1"
    now += 2
    assert found.current == "22"
    now += 2
    assert (found.current, made) == ("22", ["1", "22"])
    file.unlink()
    now += 2
    assert found.current == "22"
