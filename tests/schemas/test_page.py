"""The page of an AsyncAPI document: complete, escaped, and with nothing to load or run."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from eip.app.asyncapi import asyncapi_document
from eip.errors import ConfigurationError
from eip.schemas.page import html_page
from examples.shop.app import ShopSettings, make_app

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&"


class Tags(HTMLParser):
    """The elements of a page, with their attributes, and whether they are balanced."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, Any]]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    @property
    def names(self):
        return {tag for tag, _ in self.found}


def evil(schema: Any = None) -> dict[str, Any]:
    """A document whose every text is markup."""
    payload = schema or {"type": "object", "properties": {EVIL: {"type": EVIL, "description": EVIL, "enum": [EVIL]}}}
    channel = {
        "address": EVIL,
        "title": EVIL,
        "description": EVIL,
        "messages": {EVIL: {"name": EVIL, "payload": payload}},
    }
    operation = {"action": "send", "channel": {"$ref": "#/channels/c"}, "summary": EVIL, "x-eip-subscription": EVIL}
    return {
        "asyncapi": "3.0.0",
        "info": {"title": EVIL, "version": EVIL, "description": EVIL},
        "servers": {EVIL: {"host": EVIL, "protocol": EVIL}},
        "channels": {"c": channel},
        "operations": {EVIL: operation},
        "components": {"schemas": {EVIL: payload}},
    }


def test_the_shop_s_page_shows_its_channels_messages_and_fields(tmp_path):
    app = make_app(ShopSettings(transport="memory", database=str(tmp_path / "shop.sqlite")))
    page = html_page(asyncapi_document(app))
    for text in ("topic orders.fifo", "OrderPlaced", "cents", "integer", "required", "billing", "return address"):
        assert text in page
    tags = Tags(page)
    assert tags.open == []
    links = {each["href"] for tag, each in tags.found if tag == "a"}
    assert links == {f"#{each['id']}" for _, each in tags.found if "id" in each}


def test_nothing_is_loaded_or_run_and_everything_is_escaped():
    page = html_page(evil())
    tags = Tags(page)
    assert tags.open == []
    assert not tags.names & {"script", "img", "iframe", "object", "form", "input", "link", "base"}
    assert not any(key.startswith("on") or key in ("src", "style") for _, each in tags.found for key in each)
    assert all(each["href"].startswith("#channel-") for tag, each in tags.found if tag == "a")
    (policy,) = [each["content"] for _, each in tags.found if each.get("http-equiv") == "Content-Security-Policy"]
    style = re.search("<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {"$ref": "#/components/schemas/" + EVIL.replace("/", "~1")},
        {"type": ["a", 7, None]},
        {"type": "array", "items": {"type": "array", "items": [1, 2]}},
        {"properties": [1]},
        {"anyOf": [7, None, {"anyOf": "x"}]},
        {"enum": list(range(100_000))},
        {"properties": {"a": 7, "b": None, "\ud800": {"description": "\ud800"}}},
    ],
)
def test_odd_schemas_are_shown_somehow(schema):
    document = evil()
    document["channels"]["c"]["messages"][EVIL]["payload"] = schema
    page = html_page(document)
    page.encode()
    assert len(page) < 3_000_000


def test_malformed_parts_are_left_out_and_what_is_no_document_is_refused():
    channels = {"a": 7, "b": {"messages": [1]}}
    page = html_page({"asyncapi": "3.0.0", "info": {"title": [1]}, "channels": channels, "servers": [1]})
    assert "<h2>Channels</h2>" in page
    refused: list[Any] = [
        None,
        [],
        {},
        {"asyncapi": "2.0.0"},
        {"type": "object"},
        {"asyncapi": "3.0.0", "operations": 7},
    ]
    for wrong in refused:
        with pytest.raises(ConfigurationError):
            html_page(wrong)


def test_a_large_document_is_shown_without_its_json():
    many = {f"c{each}": {"address": f"c{each}" * 100} for each in range(5_000)}
    page = html_page({"asyncapi": "3.0.0", "channels": many})
    assert "as JSON" not in page
    assert page.count("<section>") == 5_000


@pytest.mark.browser
async def test_a_browser_shows_it_by_its_own_policy_on_a_desktop_and_a_phone(browser, tmp_path):
    app = make_app(ShopSettings(transport="memory", database=str(tmp_path / "shop.sqlite")))
    for name, document in (("shop", asyncapi_document(app)), ("evil", evil())):
        (tmp_path / f"{name}.html").write_text(html_page(document), encoding="utf-8")
        async with browser.page((tmp_path / f"{name}.html").as_uri()) as page:
            assert await page.evaluate("getComputedStyle(document.querySelector('.tag')).fontWeight") == "600"
            await page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
            await page.screenshot(tmp_path / f"{name}.png")
            await page.resize(360, 640, mobile=True)
            assert await page.evaluate("document.documentElement.scrollWidth") <= 360
            assert await page.evaluate("document.images.length + document.scripts.length") == 0
            assert page.errors == []
