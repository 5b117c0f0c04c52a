"""Parameters and answers of the hot calls in the services' protocols: AWS JSON 1.0 and 1.1, and AWS Query (Smithy)."""

from __future__ import annotations

import contextlib
from base64 import b64decode, b64encode
from binascii import a2b_base64
from collections.abc import Iterator, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from xml.etree import ElementTree as ET

import orjson

__all__ = ["ServiceError", "form", "is_clock_skew", "json_body", "plain_code", "read_json", "read_xml", "refusal"]

_UNESCAPED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


class ServiceError(Exception):
    """A refusal by the service: code, text, HTTP status, the service's time (seconds since the epoch), the answer."""

    def __init__(
        self, code: str, text: str, status: int, time: float | None = None, answer: Mapping[str, Any] | None = None
    ) -> None:
        self.code, self.text, self.status, self.time = code, text, status, time
        self.answer: Mapping[str, Any] = answer or {}
        super().__init__(f"{code}: {text}")


_OF_ITEMS: Final = ("GetItem", "Query")
_SKEW_CODES: Final = frozenset(("RequestTimeTooSkewed", "RequestInTheFuture", "RequestExpired"))
_SKEW_TEXTS: Final = ("signature expired", "signature not yet current")
"""The text about a clock that is minutes off, under the code of a wrong signature."""


def plain_code(code: str) -> str:
    """A service's code in one form for all protocols: without its namespace, a URL behind it, and ``Exception``."""
    return code.partition(":")[0].rpartition("#")[2].rpartition(".")[2].removesuffix("Exception")


def is_clock_skew(code: str, text: str) -> bool:
    """Whether the service refused a signature for its time."""
    return plain_code(code) in _SKEW_CODES or text.lower().startswith(_SKEW_TEXTS)


def json_body(parameters: Mapping[str, Any]) -> bytes:
    """The parameters of a call in the JSON protocols."""
    return orjson.dumps(parameters, default=_plain, option=orjson.OPT_PASSTHROUGH_DATETIME)


def _plain(value: Any) -> Any:
    """Encode what JSON lacks as the protocol does: blobs in base64, timestamps in seconds."""
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, datetime):
        return value.timestamp()
    raise TypeError(f"a parameter must be of a JSON type, bytes or a datetime, got {type(value).__name__}")


def read_json(operation: str, raw: bytes) -> dict[str, Any]:
    """The answer in JSON; raises `ValueError` for what is none."""
    answer: Any = orjson.loads(raw)
    if not isinstance(answer, dict):
        raise ValueError(f"the answer must be an object, got {type(answer).__name__}")  # noqa: TRY004 - a wrong answer
    if operation == "GetRecords":
        for record in answer["Records"]:
            record["Data"] = a2b_base64(record["Data"])
    elif b'"BinaryValue"' in raw:
        _decode_attributes(answer)
    elif operation in _OF_ITEMS:
        _decode_items(answer)
    return answer


def _decode_items(answer: Mapping[str, Any]) -> None:
    """Decode the bytes of items that have no lists and maps: those that the store writes."""
    for item in (*answer.get("Items", ()), answer.get("Item") or {}):
        for value in item.values():
            if "B" in value:
                value["B"] = b64decode(value["B"], validate=True)


def _decode_attributes(answer: dict[str, Any]) -> None:
    for message in answer.get("Messages") or ():
        with contextlib.suppress(
            AttributeError, LookupError, TypeError, ValueError
        ):  # that message's own error, when it is read
            for attribute in message["MessageAttributes"].values():
                if "BinaryValue" in attribute:
                    attribute["BinaryValue"] = b64decode(attribute["BinaryValue"], validate=True)


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


def read_xml(operation: str, raw: bytes) -> dict[str, Any]:
    """The result of a batch: its successful and its failed members; raises `ValueError` for what is none."""
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


def refusal(raw: bytes, status: int, headers: Mapping[str, str]) -> ServiceError:
    """The error of an answer, in either protocol, or of neither."""
    code, text = "", ""
    answer: Any = {}
    try:
        if raw.lstrip()[:1] == b"<":
            found = {_tag(each): each.text or "" for each in ET.fromstring(raw).iter()}  # noqa: S314 - as above
            code, text = found.get("Code", ""), found.get("Message", "")
        else:
            answer = orjson.loads(raw)
            code = str(answer.get("__type") or "").partition(":")[0].rpartition("#")[2]
            text = str(answer.get("message") or answer.get("Message") or "")
            if "Item" in answer:
                _decode_items(answer)
    except (ValueError, AttributeError, ET.ParseError):
        text = raw[:200].decode(errors="replace")
    # SQS sends the code of its older protocol here; botocore uses it as the code, too.
    queried = headers.get("x-amzn-query-error", "").partition(";")[0]
    answer = answer if isinstance(answer, dict) else {}
    return ServiceError(queried or code or str(status), text, status, _time(headers.get("date", "")), answer)


def _time(date: str) -> float | None:
    """The time of a Date header; None if malformed."""
    try:
        return parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None
