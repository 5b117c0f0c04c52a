"""An AsyncAPI 3 document as one web page: no script, nothing loaded, everything escaped.

The page names its only style by hash in a strict content security policy, so that markup in a document, were it ever
missed, could do nothing.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping
from hashlib import sha256
from html import escape
from typing import Any, Final

from eip.errors import ConfigurationError
from eip.schemas._flows import Document
from eip.schemas._schema_rows import SchemaRows

__all__ = ["html_page"]

_STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --send: #0a7d4f; --receive: #2b5fd9; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
td:first-child { min-width: 7rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
h3 { margin-bottom: .2rem; overflow-wrap: anywhere; } p { margin: .3rem 0; }
code, pre { font-family: ui-monospace, monospace; font-size: .9em; overflow-wrap: anywhere; }
pre { background: var(--soft); padding: .8rem; overflow-x: auto; max-height: 30rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
nav ul { columns: 16rem; padding-left: 1.2rem; } a { color: inherit; }
.tag { border: 1px solid; border-radius: .3rem; padding: 0 .4rem; font-size: .8rem; font-weight: 600; }
.send { color: var(--send); } .receive { color: var(--receive); } .soft { opacity: .75; }
@media (prefers-color-scheme: dark) { :root { --send: #4cd69b; --receive: #8fb2ff; } }
"""
_HASH: Final = b64encode(sha256(_STYLE.encode()).digest()).decode()
_POLICY: Final = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'"
_MAX_JSON: Final = 1_000_000
"""Characters of the document that the page shows at its end."""


def html_page(document: Mapping[str, Any]) -> str:
    """Return the page of an AsyncAPI 3 document.

    Args:
        document: as `eip.app.asyncapi.asyncapi_document` makes it, or anybody else.

    Raises:
        ConfigurationError: no AsyncAPI 3 document, or a malformed one.
    """
    read = Document(document)
    if "asyncapi" not in document:
        raise ConfigurationError("document must be an AsyncAPI 3 document")
    info = _mapping(document.get("info"))
    title = _text(info.get("title") or "An application")
    body = "\n".join(_Page(document, read).parts())
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="referrer" content="no-referrer">\n'
        f"<title>{title}</title><style>{_STYLE}</style></head><body>\n"
        f'<header><h1>{title}</h1><p class="soft">version {_text(info.get("version"))}, '
        f"AsyncAPI {_text(document.get('asyncapi'))}</p><p>{_text(info.get('description'))}</p></header>\n"
        f"<main>\n{body}\n</main></body></html>\n"
    )


class _Page:
    """The parts of the page; each reads the document as a stranger's.

    Args:
        document: as given.
        read: its operations, checked.
    """

    def __init__(self, document: Mapping[str, Any], read: Document) -> None:
        self._document, self._schemas = document, read.schemas
        self._rows = SchemaRows(read.schemas)

    def parts(self) -> Iterator[str]:
        """All of them, in the order of the page."""
        channels = _mapping(self._document.get("channels"))
        yield _list(
            "Channels", {f"channel-{n}": _channel_title(key, each) for n, (key, each) in enumerate(channels.items())}
        )
        yield from self._servers()
        yield "<h2>Channels</h2>"
        for number, key in enumerate(channels):
            yield from self._channel(number, key, _mapping(self._schemas.resolved(channels[key])))
        yield from self._schema_tables()
        raw = json.dumps(self._document, indent=2, ensure_ascii=False, default=str)
        if len(raw) <= _MAX_JSON:
            yield f"<details><summary>The document as JSON</summary><pre>{_text(raw)}</pre></details>"

    def _servers(self) -> Iterator[str]:
        servers = _mapping(self._document.get("servers"))
        if servers:
            rows = ((key, each.get("protocol"), each.get("host")) for key, each in _mappings(servers))
            yield "<h2>Servers</h2>" + _table(("server", "protocol", "host"), rows)

    def _channel(self, number: int, key: str, channel: Mapping[str, Any]) -> Iterator[str]:
        yield f'<section><h3 id="channel-{number}">{_text(_channel_title(key, channel))}</h3>'
        yield f"<p>{_text(channel.get('description'))}</p>"
        operations = _mapping(self._document.get("operations"))
        for name, operation in _mappings(operations):
            if self._schemas.resolved(operation.get("channel")) is channel:
                yield from self._operation(name, operation)
        for message, each in _mappings(_mapping(channel.get("messages"))):
            yield self._message(message, _mapping(self._schemas.resolved(each)))
        yield "</section>"

    def _operation(self, name: str, operation: Mapping[str, Any]) -> Iterator[str]:
        action = "send" if operation.get("action") == "send" else "receive"
        subscription = operation.get("x-eip-subscription")
        words = [_text(operation.get("summary") or ", ".join(_message_names(operation)) or name)]
        words += [f"subscription <code>{_text(subscription)}</code>"] if subscription else []
        words += ["replies to the request's return address"] if "reply" in operation else []
        yield f'<p><span class="tag {action}">{action}s</span> {", ".join(words)}</p>'

    def _message(self, key: str, message: Mapping[str, Any]) -> str:
        name, content = message.get("name") or key, message.get("contentType") or "application/json"
        return (
            f'<details><summary><b>{_text(name)}</b> <span class="soft">{_text(content)}</span></summary>'
            f"<p>{_text(message.get('summary') or message.get('description'))}</p>"
            f"{_schema_table(self._rows, message.get('payload', True))}</details>"
        )

    def _schema_tables(self) -> Iterator[str]:
        schemas = _mapping(_mapping(self._document.get("components")).get("schemas"))
        if schemas:
            yield "<h2>Schemas</h2>"
        for key, each in schemas.items():
            yield f"<section><h3>{_text(key)}</h3>{_schema_table(self._rows, each)}</section>"


def _schema_table(rows: SchemaRows, schema: Any) -> str:
    return _table(("field", "type", "", "limits", "meaning"), rows.of(schema))


def _table(heads: tuple[str, ...], rows: Any) -> str:
    head = "".join(f"<th>{_text(each)}</th>" for each in heads)
    lines = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'


def _list(title: str, links: Mapping[str, str]) -> str:
    items = "".join(f'<li><a href="#{anchor}">{_text(text)}</a></li>' for anchor, text in links.items())
    return f'<nav aria-label="{title}"><ul>{items}</ul></nav>'


def _channel_title(key: str, channel: Any) -> str:
    found = _mapping(channel)
    return str(found.get("title") or found.get("address") or key)


def _message_names(operation: Mapping[str, Any]) -> list[str]:
    messages = operation.get("messages")
    found = [_mapping(each).get("$ref") for each in messages] if isinstance(messages, list) else []
    return [str(each).rpartition("/")[2] for each in found if each]


def _mappings(of: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The values that are objects; others are malformed, and left out."""
    return ((str(key), each) for key, each in of.items() if isinstance(each, Mapping))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    """Escaped, whatever it is; lone surrogates, which no encoding of a page takes, as question marks."""
    return "" if value is None else escape(str(value).encode(errors="replace").decode())
