"""The fast path: hot calls without the SDK's machinery, which is most of their cost (docs/benchmarks.md).

The SDK finds and renews credentials, finds endpoints, and makes every call that is not hot. A hot call is left to write
its parameters, sign them (Signature Version 4), POST them and read the answer. With a proxy or another signature all
calls go through the SDK, see `supports_fast_path`.

Sources: "Create a signed AWS API request" (IAM User Guide); the protocols AWS JSON 1.0 and 1.1 and AWS Query (Smithy).
"""

from __future__ import annotations

import contextlib
import hmac
import ssl
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import datetime
from email.utils import parsedate_to_datetime
from hashlib import sha256
from http.client import HTTPConnection, HTTPMessage, HTTPSConnection
from typing import Any, Final
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

import orjson
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

from eip.transports.aws._client.errors import is_clock_skew
from eip.transports.aws._client.http_pool import HttpPool

__all__ = ["HOT", "ServiceError", "SigV4Client", "form", "signature", "supports_fast_path"]

HOT: Final = frozenset(
    (
        ("sqs", "SendMessageBatch"),
        ("sqs", "ReceiveMessage"),
        ("sqs", "DeleteMessageBatch"),
        ("sqs", "ChangeMessageVisibilityBatch"),
        ("sns", "PublishBatch"),
        ("events", "PutEvents"),
    )
)
"""Service and operation of the calls that every message goes through."""

_FORM: Final = "application/x-www-form-urlencoded; charset=utf-8"
_UNESCAPED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


class ServiceError(Exception):
    """A refusal by the service: code, text, HTTP status, and the service's time (seconds since the epoch)."""

    def __init__(self, code: str, text: str, status: int, time: float | None = None) -> None:
        self.code, self.text, self.status, self.time = code, text, status, time
        super().__init__(f"{code}: {text}")


def supports_fast_path(client: Any, credentials: Any) -> bool:
    """Whether this client's calls can be made without the SDK: signature version 4, credentials, and no proxy."""
    config, endpoint = client.meta.config, client.meta.endpoint_url
    proxies = config.proxies or get_environ_proxies(endpoint)
    return credentials is not None and config.signature_version == "v4" and urlsplit(endpoint).scheme not in proxies


class SigV4Client:
    """Makes the hot calls of one service.

    Args:
        client: the SDK's client; gives endpoint and service model.
        credentials: the SDK's, renewed by it.
        connections: maximum of its pool.
        authorities: file of certificate authorities; None: the SDK's own.
    """

    def __init__(self, client: Any, credentials: Any, *, connections: int, authorities: str | None = None) -> None:
        model = client.meta.service_model
        self._credentials = credentials
        self._region, self._service = client.meta.region_name, model.signing_name
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
        self._http = HttpPool(parts.hostname or "", port, tls=self._tls, max_connections=connections)

    async def call(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """The answer; raises `ServiceError`, `OSError` where none came, and `ValueError` where it cannot be read."""
        body = self.body(operation, parameters)
        try:
            return await self._post(operation, body)
        except ServiceError as error:
            if not is_clock_skew(error.code, error.text) or error.time is None:
                raise
            # Retry once, at once: the local clock is off, and the answer has the service's time.
            self._skew = error.time - time.time()
            return await self._post(operation, body)

    def body(self, operation: str, parameters: dict[str, Any]) -> bytes:
        """The parameters of a call in the service's protocol."""
        if self._target:
            return orjson.dumps(parameters, default=_plain, option=orjson.OPT_PASSTHROUGH_DATETIME)
        return form(operation, self._version, parameters)

    def read(self, operation: str, raw: bytes, status: int, headers: Mapping[str, str]) -> dict[str, Any]:
        """The answer of a call; raises `ServiceError` for a refusal, `ValueError` for what cannot be read."""
        if status >= 300:
            raise _refusal(raw, status, headers)
        return _json(raw) if self._target else _xml(raw, operation)

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
        self._frozen = await self._credentials.get_frozen_credentials()
        headers = self._signed(operation, body, self._frozen)
        answer = await self._http.post(request_head(self._path, headers, len(body)), body)
        return self.read(operation, answer.body, answer.status, answer.headers)

    def _signed(self, operation: str, body: bytes, credentials: Any) -> dict[str, str]:
        at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() + self._skew))
        headers = {"content-type": self._type, "host": self._host, "x-amz-date": at}
        if credentials.token:
            headers["x-amz-security-token"] = credentials.token
        if self._target:
            headers["x-amz-target"] = f"{self._target}.{operation}"
        scope = f"{at[:8]}/{self._region}/{self._service}/aws4_request"
        names = ";".join(headers)
        signed = signature(self._signing_key(credentials.secret_key, at[:8]), headers, body, self._path, scope)
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, SignedHeaders={names}, Signature={signed}"
        )
        headers["user-agent"] = "aioeip"
        return headers

    def _signing_key(self, secret: str, day: str) -> bytes:
        """Derived once a day, and for each new secret."""
        if self._key[:2] != (secret, day):
            key = f"AWS4{secret}".encode()
            for part in (day, self._region, self._service, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._key = (secret, day, key)
        return self._key[2]

    async def aclose(self) -> None:
        """Close its connections."""
        await self._http.aclose()


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


def _plain(value: Any) -> Any:
    """Encode what JSON lacks as the protocol does: blobs in base64, timestamps in seconds."""
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, datetime):
        return value.timestamp()
    raise TypeError(f"a parameter must be of a JSON type, bytes or a datetime, got {type(value).__name__}")


def _json(raw: bytes) -> dict[str, Any]:
    answer: Any = orjson.loads(raw)
    if not isinstance(answer, dict):
        raise ValueError(f"the answer must be an object, got {type(answer).__name__}")  # noqa: TRY004 - a wrong answer
    if b'"BinaryValue"' in raw:
        for message in answer.get("Messages") or ():
            with contextlib.suppress(
                AttributeError, LookupError, TypeError, ValueError
            ):  # that message's own error, when it is read
                for attribute in message["MessageAttributes"].values():
                    if "BinaryValue" in attribute:
                        attribute["BinaryValue"] = b64decode(attribute["BinaryValue"], validate=True)
    return answer


def form(operation: str, version: str, parameters: Mapping[str, Any]) -> bytes:
    """The parameters of a call in the query protocol."""
    fields = [b"Action=", operation.encode(), b"&Version=", version.encode()]
    for name, value in parameters.items():
        for key, text in _fields(name, value):
            fields += (b"&", key.encode(), b"=", _quoted(text))
    return b"".join(fields)


def _fields(name: str, value: Any) -> Iterator[tuple[str, bytes]]:
    """Lists are numbered from one as members, and maps as entries with a name and a value."""
    if isinstance(value, str):
        yield name, value.encode()
    elif isinstance(value, bytes):
        yield name, b64encode(value)
    elif isinstance(value, list):
        for number, each in enumerate(value, 1):
            yield from _fields(f"{name}.member.{number}", each)
    elif name.endswith(".MessageAttributes"):
        for number, (key, each) in enumerate(value.items(), 1):
            yield f"{name}.entry.{number}.Name", key.encode()
            yield from _fields(f"{name}.entry.{number}.Value", each)
    else:
        for key, each in value.items():
            yield from _fields(f"{name}.{key}", each)


def _quoted(text: bytes) -> bytes:
    """Percent-encoded, in one pass of C for each of the few different bytes that need it, instead of a loop."""
    escaped = set(text) - _UNESCAPED
    if 0x25 in escaped:
        text = text.replace(b"%", b"%25")
        escaped.remove(0x25)
    for byte in escaped:
        text = text.replace(bytes((byte,)), b"%%%02X" % byte)
    return text


def _xml(raw: bytes, operation: str) -> dict[str, Any]:
    """The result of a batch: its successful and its failed members."""
    try:
        root = ET.fromstring(raw)  # noqa: S314 - the service's own answer, over TLS
    except ET.ParseError as error:
        raise ValueError(str(error)) from error
    result = next((each for each in root if _tag(each) == f"{operation}Result"), None)
    if result is None:
        raise ValueError("the answer has no result")
    return {_tag(group): [{_tag(each): each.text or "" for each in member} for member in group] for group in result}


def _tag(element: ET.Element) -> str:
    """Without its namespace."""
    return element.tag.rpartition("}")[2]


def _refusal(raw: bytes, status: int, headers: Mapping[str, str]) -> ServiceError:
    """The error of an answer, in either protocol, or of neither."""
    code, text = "", ""
    try:
        if raw.lstrip()[:1] == b"<":
            found = {_tag(each): each.text or "" for each in ET.fromstring(raw).iter()}  # noqa: S314 - as above
            code, text = found.get("Code", ""), found.get("Message", "")
        else:
            answer = orjson.loads(raw)
            code = str(answer.get("__type", "")).rpartition("#")[2]
            text = str(answer.get("message", answer.get("Message", "")))
    except (ValueError, AttributeError, ET.ParseError):
        text = raw[:200].decode(errors="replace")
    # SQS sends the code of its older protocol here; botocore uses it as the code, too.
    queried = headers.get("x-amzn-query-error", "").partition(";")[0]
    return ServiceError(queried or code or str(status), text, status, _time(headers.get("date", "")))


def _time(date: str) -> float | None:
    """The time of a Date header; None if malformed."""
    try:
        return parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None
