"""The example pages while their service refuses, or is away: people see why, and the page goes on by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from tests.examples.rfq.serving import served

pytestmark = pytest.mark.browser

EXAMPLES = Path(__file__).parents[2] / "examples"
ANSWERS: dict[str, dict[str, Any]] = {
    "partner_events": {
        "/kinds": [{"kind": "order", "title": "an order"}],
        "/events": {"counts": {}, "latest": [], "dead": []},
    },
    "happy_path": {
        "/places": [{"id": "park", "name": "Park", "type": "a park"}],
        "/places/park/photos": [],
        "/workflow": {"version": 4, "versions": [3, 4]},
    },
    "invoices": {"/layouts": [{"layout": "alpha", "title": "a bill"}], "/invoices": []},
}
SOON = "{ const real = setTimeout; window.setTimeout = (what, ms) => real(what, ms / 20); }"
SET_VERSION = "{ const it = document.querySelector('#version'); it.value = 3; it.dispatchEvent(new Event('change')) }"
PROBLEM = "document.querySelector('#problem:not([hidden])')?.textContent"


class Example:
    """An example's page with answers of our own."""

    def __init__(self, name: str) -> None:
        self._answers, self._files = ANSWERS[name], EXAMPLES / name / "static"
        self.refused = set[tuple[str, str]]()
        """Methods and paths that are refused."""
        self.app = Starlette(
            routes=[
                Route("/", lambda _: FileResponse(self._files / "index.html")),
                Mount("/static", StaticFiles(directory=self._files)),
                Mount("/shared", StaticFiles(directory=EXAMPLES / "happy_path/shared")),
                Route("/{path:path}", self._answer, methods=["GET", "POST", "PUT"]),
            ]
        )

    async def _answer(self, request: Request) -> Response:
        if (request.method, request.url.path) in self.refused:
            return JSONResponse({"detail": f"no {request.url.path} today"}, 503)
        found = self._answers.get(request.url.path)
        return JSONResponse(found, 404 if found is None else 200)

    def refuse_all(self) -> None:
        self.refused = {("GET", path) for path in self._answers}


@asynccontextmanager
async def opened(browser: Any, name: str, *, is_away: bool = False) -> AsyncIterator[tuple[Example, Any]]:
    example = Example(name)
    if is_away:
        example.refuse_all()
    async with served(example.app) as it, browser.page() as page:
        await page.command("Page.addScriptToEvaluateOnNewDocument", source=SOON)
        await page.goto(it.url)
        if not is_away:
            await page.wait_for("document.body.dataset.ready", timeout=10)
        yield example, page
        assert page.errors == []


@pytest.mark.parametrize("name", ANSWERS)
async def test_a_page_whose_first_requests_fail_says_so_and_tries_again(browser, name):
    async with opened(browser, name, is_away=True) as (example, page):
        await page.wait_for(f"({PROBLEM} ?? '').endsWith(' today')", timeout=10)
        example.refused.clear()
        await page.wait_for("document.body.dataset.ready", timeout=10)
        assert not await page.evaluate(PROBLEM)


@pytest.mark.parametrize(("name", "looked_at"), [("partner_events", "/events"), ("invoices", "/invoices")])
async def test_a_page_whose_service_is_away_says_so_until_it_is_back(browser, name, looked_at):
    async with opened(browser, name) as (example, page):
        example.refuse_all()
        await page.wait_for(f"{PROBLEM} === 'no {looked_at} today'", timeout=10)
        example.refused.clear()
        await page.wait_for(f"!({PROBLEM})", timeout=10)


@pytest.mark.parametrize(
    ("name", "press", "refused"),
    [
        ("partner_events", "document.querySelector('[data-kind]').click()", ("POST", "/events")),
        ("happy_path", "document.querySelector('[data-place]').click()", ("GET", "/places/park/photos")),
        ("invoices", "document.querySelector('#one').click()", ("POST", "/scans")),
        (
            "happy_path",
            SET_VERSION,
            ("PUT", "/workflow"),
        ),
    ],
)
async def test_a_refused_press_is_shown_and_stays_to_be_read(browser, name, press, refused):
    async with opened(browser, name) as (example, page):
        example.refused.add(refused)
        await page.evaluate(press)
        await page.wait_for(f"{PROBLEM} === 'no {refused[1]} today'", timeout=10)
        await page.evaluate("new Promise(done => setTimeout(done, 5000))")  # several looks, which succeed
        assert await page.evaluate(PROBLEM)
        if name == "happy_path":
            assert await page.evaluate("document.querySelector('#version').value") == "4"  # what is deployed
