"""JWTs as bearer tokens: who signed, for whom, until when, and with which algorithm."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from eip.errors import ConfigurationError
from examples.rfq.jwts import JwtTokens
from examples.rfq.tokens import BearerTokens, Tokens
from tests.examples.rfq.service import running
from tests.examples.rfq.test_access import RIDE, _bearer, _granted, _start

KEYS: dict[str, Any] = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
CLAIMS = {"iss": "https://id.example", "aud": "rfq", "sub": "Ada"}


def jwk(algorithm: str, key: Any = None, **members: Any) -> dict[str, Any]:
    """The public key of an algorithm."""
    public = (key or KEYS[algorithm]).public_key()
    found = jwt.get_algorithm_by_name(algorithm).to_jwk(public, as_dict=True)
    return {**found, "kid": algorithm, "use": "sig", **members}


def jwks(folder: Path, *keys: dict[str, Any]) -> Path:
    file = folder / "keys.json"
    file.write_text(json.dumps({"keys": list(keys)}))
    return file


def signed(algorithm: str = "RS256", key: Any = None, *, kid: str | None = None, **claims: Any) -> str:
    whole = {**CLAIMS, "exp": time.time() + 60, **claims}
    given = {name: value for name, value in whole.items() if value is not None}
    return jwt.encode(given, key or KEYS[algorithm], algorithm, headers={"kid": kid or algorithm})


@pytest.fixture
def tokens(tmp_path):
    file = jwks(tmp_path, *(jwk(each) for each in KEYS))
    return JwtTokens(file, issuer=CLAIMS["iss"], audience=CLAIMS["aud"])


@pytest.mark.parametrize("algorithm", KEYS)
def test_who_signed_with_a_known_key_is_known(tokens, algorithm):
    owner = tokens.owner(signed(algorithm))
    assert (owner.name, owner.role) == ("Ada", "customer")
    assert tokens.owner(signed(algorithm, role="operator")).role == "operator"
    assert tokens.owner(signed(algorithm, aud=["other", "rfq"])).name == "Ada"


@pytest.mark.parametrize(
    "wrong",
    [
        {"exp": time.time() - 60},
        {"exp": None},
        {"nbf": time.time() + 86_400},  # of the collection, which may be long ago
        {"iss": "https://other.example"},
        {"iss": None},
        {"aud": "other"},
        {"aud": None},
        {"sub": None},
        {"sub": ""},
        {"sub": "x" * 201},
        {"role": "admin"},
        {"exp": "soon"},
    ],
    ids="-".join,
)
def test_what_it_claims_must_be_right(tokens, wrong):
    assert tokens.owner(signed(**wrong)) is None


def test_a_signature_of_another_key_or_none_is_refused(tokens):
    stranger = rsa.generate_private_key(65537, 2048)
    assert tokens.owner(signed(key=stranger)) is None
    assert tokens.owner(signed("ES256", kid="RS256")) is None
    assert tokens.owner(signed(kid="nobody's")) is None
    head, claims, signature = signed().split(".")
    other = signed(sub="Bert").split(".")[1]
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT","kid":"RS256"}').rstrip(b"=").decode()
    for forged in (f"{head}.{other}.{signature}", f"{unsigned}.{claims}.", f"{head}.{claims}.", "a.b.c", "..", ""):
        assert tokens.owner(forged) is None
    assert tokens.owner(signed() + "x" * 9000) is None


@pytest.mark.parametrize("algorithm", ["HS256", "none", "ES384", "RS1", ["RS256"], None, {"a": 1}], ids=str)
def test_a_public_key_is_no_secret_and_the_header_chooses_no_algorithm(tokens, algorithm):
    """RFC 8725, 2.1: signed by HMAC with what everybody knows."""
    public = KEYS["RS256"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    parts = [{"alg": algorithm, "kid": "RS256"}, {**CLAIMS, "exp": time.time() + 60}]
    text = ".".join(base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=").decode() for each in parts)
    digest = hmac.new(public, text.encode(), hashlib.sha256).digest()
    assert tokens.owner(f"{text}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}") is None


def test_a_key_that_names_its_algorithm_verifies_no_other(tmp_path):
    file = jwks(tmp_path, jwk("RS256", alg="PS256"))
    tokens = JwtTokens(file, issuer=CLAIMS["iss"], audience=CLAIMS["aud"])
    assert tokens.owner(signed()) is None
    assert tokens.owner(signed("PS256", KEYS["RS256"], kid="RS256")) is not None


def test_without_a_key_id_the_only_key_that_fits_is_taken(tmp_path):
    nameless = jwt.encode({**CLAIMS, "exp": time.time() + 60}, KEYS["RS256"], "RS256")
    one = JwtTokens(jwks(tmp_path, jwk("RS256"), jwk("ES256")), issuer=CLAIMS["iss"], audience=CLAIMS["aud"])
    assert one.owner(nameless) is not None
    second = jwk("RS256", rsa.generate_private_key(65537, 2048), kid="second")
    two = JwtTokens(jwks(tmp_path, jwk("RS256"), second), issuer=CLAIMS["iss"], audience=CLAIMS["aud"])
    assert two.owner(nameless) is None


def test_keys_are_read_again_when_the_file_changes(tokens, tmp_path, monkeypatch):
    successor = ec.generate_private_key(ec.SECP256R1())
    new = signed("ES256", successor, kid="2027")
    assert tokens.owner(new) is None
    jwks(tmp_path, jwk("ES256", successor, kid="2027"))
    tokens._keys._next_look = 0
    assert tokens.owner(new).name == "Ada"
    assert tokens.owner(signed()) is None
    (tmp_path / "keys.json").write_text("{")
    tokens._keys._next_look = 0
    assert tokens.owner(new).name == "Ada"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "no JWKS file"),
        ('{"keys": []}', "no JWKS file"),
        (json.dumps({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "a"}]}), "no public key"),
        (
            json.dumps({"keys": [jwt.get_algorithm_by_name("ES256").to_jwk(KEYS["ES256"], as_dict=True)]}),
            "holds a private key",
        ),
    ],
    ids=["empty", "no keys", "a secret", "a private key"],
)
def test_a_key_file_that_is_wrong_is_told(tmp_path, content, reason):
    file = tmp_path / "keys.json"
    file.write_text(content)
    with pytest.raises(ConfigurationError, match=reason):
        JwtTokens(file, issuer="i", audience="a")


def test_opaque_tokens_stand_beside_them(tokens):
    opaque = Tokens()
    made = opaque.grant("Bert")
    both = BearerTokens(lambda: opaque, lambda: tokens)
    names = [owner.name if (owner := both.owner(each)) else None for each in (made, signed(), "x", "a.b.c")]
    assert names == ["Bert", "Ada", None, None]


def test_the_service_asks_for_them(tmp_path):
    file, other = jwks(tmp_path, jwk("ES256")), tmp_path / "tokens.json"
    bert = _granted(str(other), "Bert")
    options = ["--jwt-keys", str(file), "--jwt-issuer", CLAIMS["iss"], "--jwt-audience", "rfq", "--tokens", str(other)]
    with running(tmp_path / "rfq.sqlite", *options, "--unicorns", "0") as service:
        client = service.client
        assert client.post("/rfqs", json=RIDE).status_code == 401
        assert client.post("/rfqs", json=RIDE, headers=_bearer(signed("ES256", exp=1))).status_code == 401
        asked = client.post("/rfqs", json=RIDE, headers=_bearer(signed("ES256")))
        assert asked.status_code == 202
        assert client.get(asked.headers["location"], headers=_bearer(bert)).status_code == 404
        assert client.get("/identity", headers=_bearer(bert)).json()["name"] == "Bert"
    assert _start(*options[:2]).returncode == 2
