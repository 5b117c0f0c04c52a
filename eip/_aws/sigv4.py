"""The fast path: hot calls without the SDK's machinery, which is most of their cost (docs/benchmarks.md).

The SDK finds and renews credentials, finds endpoints, and makes every call that is not hot. A hot call is left to write
its parameters, sign them (Signature Version 4), POST them and read the answer. With a proxy or another signature all
calls go through the SDK, see `supports_fast_path`.

Source: "Create a signed AWS API request" (IAM User Guide).
"""

from __future__ import annotations

import hmac
import os
import ssl
import time
from collections.abc import Mapping
from contextlib import closing
from functools import lru_cache
from hashlib import sha256
from http.client import HTTPConnection, HTTPMessage, HTTPSConnection
from typing import Any, Final
from urllib.parse import urlsplit
from zlib import crc32

from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

from eip._aws.credentials import expire
from eip._aws.http_pool import HttpPool
from eip._aws.protocols import (
    ServiceError,
    form,
    is_clock_skew,
    json_body,
    read_json,
    read_xml,
    refusal,
)
from eip._aws.spans import Caller, spanned
from eip._checks import check_type
from eip.errors import ConfigurationError

__all__ = ["HOT", "SWITCH", "SigV4Client", "request_head", "signature", "supports_fast_path", "use_fast_path"]

HOT: Final = frozenset(
    (
        ("sqs", "SendMessageBatch"),
        ("sqs", "ReceiveMessage"),
        ("sqs", "DeleteMessageBatch"),
        ("sqs", "ChangeMessageVisibilityBatch"),
        ("sns", "PublishBatch"),
        ("events", "PutEvents"),
        ("kinesis", "PutRecords"),
        ("kinesis", "GetRecords"),
        ("dynamodb", "GetItem"),
        ("dynamodb", "PutItem"),
        ("dynamodb", "DeleteItem"),
        ("dynamodb", "Query"),
    )
)
"""Service and operation of the calls that every message, or every record of a store, goes through."""
SWITCH: Final = "EIP_AWS_FAST_PATH"
"""The environment variable that turns the fast path off for a whole program."""
_SWITCH_VALUES: Final = {"": True, "1": True, "on": True, "true": True, "0": False, "off": False, "false": False}

_FORM: Final = "application/x-www-form-urlencoded; charset=utf-8"


def use_fast_path(given: bool | None) -> bool:  # noqa: FBT001 - what a parameter of that name was given
    """Whether hot calls may bypass the SDK: as given, or else by the environment, or else yes."""
    if given is not None:
        return check_type("fast_path", given, bool, "a bool or None")
    text = os.environ.get(SWITCH, "").strip().lower()
    if text not in _SWITCH_VALUES:
        raise ConfigurationError(f"{SWITCH} must be on or off, got {text!r}")
    return _SWITCH_VALUES[text]


def supports_fast_path(client: Any, credentials: Any) -> bool:
    """Whether this client's calls can be made without the SDK.

    They need signature version 4, credentials, no proxy, no certificate of the client, and nobody who takes requests
    away before they are sent, as mocks in the same process do.
    """
    config, endpoint = client.meta.config, client.meta.endpoint_url
    proxies = config.proxies or get_environ_proxies(endpoint)
    plain = config.signature_version == "v4" and urlsplit(endpoint).scheme not in proxies and not config.client_cert
    return plain and credentials is not None and not _is_hooked(client)


def _is_hooked(client: Any) -> bool:
    """Whether anyone listens to the SDK's event ``before-send``, whose answer replaces the service's."""
    try:
        handlers = client.meta.events._emitter._handlers  # noqa: SLF001 - the SDK has no other way to look
        return bool(handlers.prefix_search(f"before-send.{client.meta.service_model.service_id.hyphenize()}"))
    except AttributeError:
        return False


class SigV4Client:
    """Makes the hot calls of one service.

    Args:
        client: the SDK's client; gives endpoint and service model.
        credentials: the SDK's, renewed by it.
        connections: maximum of its pool.
        authorities: file of certificate authorities; None: the SDK's own.
    """

    def __init__(self, client: Any, credentials: Any, *, connections: int, authorities: str | None = None) -> None:
        model = self.model = client.meta.service_model
        self._credentials = credentials
        self._region, self.service = client.meta.region_name, model.signing_name
        self._url = client.meta.endpoint_url
        parts = urlsplit(self._url)
        self._host, self._path = parts.netloc, parts.path or "/"
        self._version = model.api_version
        self._target = model.metadata.get("targetPrefix")
        self._type = f"application/x-amz-json-{model.metadata['jsonVersion']}" if self._target else _FORM
        self._key: tuple[str, str, bytes] = ("", "", b"")
        self._frozen: Any = None
        """The credentials of the last call."""
        self._skew = 0.0
        """Seconds that the service's clock is ahead of ours; 0 until it refuses a signature for its time."""
        self._tls: ssl.SSLContext | None = None
        if parts.scheme == "https":
            self._tls = ssl.create_default_context(cafile=get_cert_path(authorities or True))
        port = parts.port or (80 if self._tls is None else 443)
        self._caller = Caller(model.service_id, self._region, parts.hostname or "", port)
        self._http = HttpPool(parts.hostname or "", port, tls=self._tls, max_connections=connections)

    async def call(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """The answer; raises `ServiceError`, `OSError` where none came, and `ValueError` where it cannot be read."""
        return await spanned(self._caller, operation, parameters, self._call)

    async def _call(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        body = self.body(operation, parameters)
        used = self._frozen = await self._credentials.get_frozen_credentials()
        try:
            return await self._post(operation, body)
        except ServiceError as error:
            # Retry once, at once: the answer has the service's time, or the SDK has another token.
            if not (self._take_time(error) or expire(self._credentials, used, error.code)):
                raise
        self._frozen = await self._credentials.get_frozen_credentials()
        return await self._post(operation, body)

    def _take_time(self, error: ServiceError) -> bool:
        """Sign by the service's clock from now on, where it refused ours."""
        if error.time is None or not is_clock_skew(error.code, error.text):
            return False
        self._skew = error.time - time.time()
        return True

    def body(self, operation: str, parameters: dict[str, Any]) -> bytes:
        """The parameters of a call in the service's protocol."""
        if self._target:
            return json_body(parameters)
        return form(operation, self._version, parameters)

    def read(self, operation: str, raw: bytes, status: int, headers: Mapping[str, str]) -> dict[str, Any]:
        """The answer of a call; raises `ServiceError` for a refusal, `ValueError` for what cannot be read."""
        if status >= 300:
            raise refusal(raw, status, headers)
        if (checksum := headers.get("x-amz-crc32")) and int(checksum) != crc32(raw):
            raise ValueError("the answer is not what its checksum says")
        return read_json(operation, raw) if self._target else read_xml(operation, raw)

    def call_blocking(self, operation: str, parameters: dict[str, Any], *, timeout: float) -> dict[str, Any]:
        """The answer, on a connection of its own and without the event loop; for another thread while that is blocked.

        Signed with the credentials of the last ordinary call, as renewing them needs the loop. Raises as `call`, and
        what `http.client` raises.
        """
        if self._frozen is None:
            raise ValueError("no call was made before")
        body = self.body(operation, parameters)
        headers = self._signed(operation, body, self._frozen)
        if self._tls is None:
            connection = HTTPConnection(self._host, timeout=timeout)
        else:
            connection = HTTPSConnection(self._host, timeout=timeout, context=self._tls)
        with closing(connection):
            connection.request("POST", self._path, body, headers)
            answer = connection.getresponse()
            return self.read(operation, answer.read(), answer.status, _lower(answer.headers))

    async def _post(self, operation: str, body: bytes) -> dict[str, Any]:
        headers = self._signed(operation, body, self._frozen)
        answer = await self._http.post(request_head(self._path, headers, len(body)), body)
        self._caller.headers = answer.headers
        return self.read(operation, answer.body, answer.status, answer.headers)

    def _signed(self, operation: str, body: bytes, credentials: Any) -> dict[str, str]:
        at = _timestamp(int(time.time() + self._skew))
        headers = {"content-type": self._type, "host": self._host, "x-amz-date": at}
        if credentials.token:
            headers["x-amz-security-token"] = credentials.token
        if self._target:
            headers["x-amz-target"] = f"{self._target}.{operation}"
        scope = f"{at[:8]}/{self._region}/{self.service}/aws4_request"
        names = ";".join(headers)
        signed = signature(self._signing_key(credentials.secret_key, at[:8]), headers, body, self._path, scope)
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, SignedHeaders={names}, Signature={signed}"
        )
        headers["accept-encoding"] = "identity"  # as the SDK: without it a proxy may compress (RFC 9110, 12.5.3)
        headers["user-agent"] = "aioeip"
        return headers

    def _signing_key(self, secret: str, day: str) -> bytes:
        """Derived once a day, and for each new secret."""
        if self._key[:2] != (secret, day):
            key = f"AWS4{secret}".encode()
            for part in (day, self._region, self.service, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._key = (secret, day, key)
        return self._key[2]

    async def aclose(self) -> None:
        """Close its connections."""
        await self._http.aclose()


@lru_cache(maxsize=2)
def _timestamp(second: int) -> str:
    """A second since the epoch as signatures have it: many calls are made in each."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))


def request_head(path: str, headers: Mapping[str, str], length: int) -> bytes:
    """The request line and headers of a POST; raises `ValueError` for what would end a header early."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if lines.count("\n") != len(headers):
        raise ValueError("a header holds a line break: look at the credentials and the endpoint")
    return f"POST {path} HTTP/1.1\r\n{lines}content-length: {length}\r\n\r\n".encode()


def signature(key: bytes, headers: Mapping[str, str], body: bytes, path: str, scope: str) -> str:
    """The signature of a POST without a query; ``headers`` are all signed, and in the order of their names."""
    lines = "".join([f"{name}:{value}\n" for name, value in headers.items()])
    request = f"POST\n{path}\n\n{lines}\n{';'.join(headers)}\n{sha256(body).hexdigest()}"
    text = f"AWS4-HMAC-SHA256\n{headers['x-amz-date']}\n{scope}\n{sha256(request.encode()).hexdigest()}"
    return hmac.digest(key, text.encode(), "sha256").hex()


def _lower(headers: HTTPMessage) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
