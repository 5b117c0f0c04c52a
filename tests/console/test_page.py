"""The console in headless Chromium: by keyboard, on a phone, with hostile names, and in dark."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from eip import App, Message
from eip.console import Console, ConsoleServer, Tokens
from tests.console.shop import DEAD, ORDERS, fill, looked_at, make_shop, order, until
from tests.console.test_services import Office
from tests.examples.rfq.test_pages import POOR_CONTRAST

pytestmark = pytest.mark.browser

HOSTILE = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
VIEWS = ("flow", "dead-letters", "processes", "scheduled", "requests", "conversations", "cost", "audit")


@asynccontextmanager
async def served(app: App, **options: Any) -> AsyncIterator[str]:
    async with ConsoleServer(Console(app, interval=0.2, depth_interval=0.2, **options), port=0) as server:
        yield server.url


@asynccontextmanager
async def open_view(browser: Any, url: str, view: str = "flow", **size: int) -> AsyncIterator[Any]:
    async with browser.page(f"{url}#{view}", **size) as page:
        await page.wait_for("document.querySelector('main h1')")
        yield page
        assert page.errors == []


def text(page: Any, selector: str) -> Any:
    return page.evaluate(f"document.querySelector({json.dumps(selector)})?.textContent")


async def press_button(page: Any, label: str) -> None:
    """Wait for a button with that text or label, and click it."""
    await page.click_on(f"""[...document.querySelectorAll('button')].find(each => !each.disabled
        && (each.closest('dialog')?.open ?? !document.querySelector('dialog[open]'))
        && [each.textContent, each.getAttribute('aria-label')].includes({json.dumps(label)}))""")


async def test_the_flow_is_live(browser):
    app = make_shop()
    async with app, served(app) as url, open_view(browser, url) as page:
        await page.wait_for("document.querySelectorAll('svg .box').length === 8")
        await app.sender(ORDERS).send(*map(order, range(9)))
        await page.wait_for(
            "[...document.querySelectorAll('svg text')].some(each => each.textContent === '3 dead letters')"
        )
        await page.wait_for("document.querySelector('[aria-label=Handlers]').textContent.includes('well')")
        await page.wait_for("document.querySelector('#dead-count').textContent === '4'")  # one of the bills, too
        assert (await text(page, "title")).startswith("Flow · shop")


async def test_dead_letters_are_read_edited_redriven_and_discarded(browser, tmp_path):
    async with looked_at() as app:
        await fill(app, 60)
        async with (
            served(app, exports=tmp_path) as url,
            open_view(browser, url, "dead-letters") as page,
        ):
            await press_button(page, "ValueError: order … has no price")
            await page.wait_for("document.querySelectorAll('[aria-label=Letters] tbody tr').length === 50")
            await press_button(page, "Next")
            await page.wait_for("document.querySelectorAll('[aria-label=Letters] tbody tr').length === 10")
            await press_button(page, "m55")
            await page.wait_for("document.querySelector('#dialog[open]')")
            shown = await text(page, "#dialog")
            assert '"card_number": "•••"' in shown
            assert "order 55 has no price" in shown
            assert "4111" not in shown
            await press_button(page, "Edit and send again")
            await page.evaluate("document.querySelector('#dialog textarea').value = '{\"n\": '")
            await press_button(page, "Send")
            await page.wait_for("document.querySelector('#dialog [role=alert]').textContent.includes('no JSON')")
            await page.evaluate("document.querySelector('#dialog textarea').value = '{\"n\": 7}'")
            await press_button(page, "Send")
            await page.wait_for("!document.querySelector('#dialog[open]')")
            await until(lambda: app.transport.queue(ORDERS).messages())  # type: ignore[attr-defined]
            (sent,) = app.transport.queue(ORDERS).messages()  # type: ignore[attr-defined]
            assert (sent.id, sent.body) == ("m55", {"n": 7})
            await press_button(page, "Discard 59 messages: ValueError: order … has no price")
            await press_button(page, "Export and discard")
            await until(lambda: not app.transport.queue(DEAD).messages())  # type: ignore[attr-defined]
            await page.wait_for(
                "document.querySelector('main').textContent.includes('What could not be handled would be here')"
            )
            (export,) = tmp_path.iterdir()
            assert len(export.read_text().splitlines()) == 59
            await page.evaluate("location.hash = 'audit'")
            await page.wait_for("document.querySelectorAll('[aria-label=Changes] tbody tr').length === 4")


async def test_a_long_redrive_shows_its_progress_and_is_cancelled(browser, monkeypatch):
    monkeypatch.setattr("eip.console._api._JOB_WAIT_S", 0.2)
    async with looked_at() as app:
        await fill(app, 40)
        async with served(app) as url, open_view(browser, url, "dead-letters") as page:
            await press_button(page, f"Redrive all of {DEAD}")
            await page.fill("#dialog input[type=number]", "4")
            await press_button(page, "Redrive")
            await page.wait_for("document.querySelector('#jobs progress')")
            await page.wait_for("/[1-9] moved/.test(document.getElementById('jobs').textContent)")
            await press_button(page, f"Cancel redrive of {DEAD}")
            await page.wait_for("document.getElementById('jobs').textContent.includes('cancelled')")
            left, moved = [len(app.transport.queue(each).messages()) for each in (DEAD, ORDERS)]  # type: ignore[attr-defined]
            assert left + moved == 40
            assert 0 < moved < 40


async def test_processes_schedules_and_requests_are_operated(browser):
    app = Office()
    async with app, served(app) as url, open_view(browser, url, "processes") as page:
        await app.manager.start("trip", {"poor": True, "stuck": True}, id=HOSTILE)
        await app.manager.start("trip", {"wait": 1000}, id="slow")
        await page.evaluate("document.querySelector('main select').dispatchEvent(new Event('change'))")
        await press_button(page, HOSTILE)
        await page.wait_for("document.querySelector('#dialog[open] .picture svg rect')")
        await press_button(page, "Close")
        await press_button(page, "Cancel slow")
        await page.fill("#dialog input", "nobody needs it")
        await press_button(page, "Cancel the process")
        await page.wait_for("!document.querySelector('#dialog[open]')")
        found = await app.manager.get("slow")
        assert found is not None
        assert found.cancelled == "nobody needs it"
        await app.scheduler().send(Message({"n": 1}), to="invoices", delay=1000, key="later")
        await page.evaluate("location.hash = 'scheduled'")
        await press_button(page, "Send later now")
        await until(lambda: app.transport.queue("invoices").messages())  # type: ignore[attr-defined]
        asked = app.rides().request("Berlin", deadline=100, expected=["a", "b"])
        await asked.start()
        await page.evaluate("location.hash = 'requests'")
        await page.wait_for("document.querySelector('main').textContent.includes('0 of 2')")
        assert await page.evaluate("window.hacked ?? null") is None


HOLD_ONE_ANSWER = """{
    const real = window.fetch;
    let held = false;
    window.fetch = async (path, ...rest) => {
        const answer = await real(path, ...rest);
        if (!held && /^api.%s\\b/.test(path)) {
            held = true;
            await new Promise(done => { window.release = done; });
        }
        return answer;
    };
}"""


async def test_an_answer_that_a_newer_one_overtook_is_not_shown(browser):
    app = Office()
    async with app, served(app) as url, open_view(browser, url, "processes") as page:
        again = "document.querySelector('main select').dispatchEvent(new Event('change'))"
        await page.wait_for("document.querySelector('main').textContent.includes('No instance')")
        await page.evaluate(HOLD_ONE_ANSWER % "processes")
        await page.evaluate(again)
        await page.wait_for("window.release")
        await app.manager.start("trip", {"wait": 1000}, id="slow")
        await page.evaluate(again)
        await page.wait_for("document.querySelector('[data-key=\"open slow\"]')")
        await page.evaluate("window.release(), new Promise(done => setTimeout(done, 50))")
        assert await page.evaluate("document.querySelector('[data-key=\"open slow\"]') !== null")


async def test_a_view_that_was_left_before_its_answer_is_not_drawn(browser):
    app = Office()
    async with app, served(app) as url, open_view(browser, url, "audit") as page:
        await page.evaluate(HOLD_ONE_ANSWER % "flow")
        await page.evaluate("location.hash = 'flow'")
        await page.wait_for("window.release")
        await page.evaluate("location.hash = 'scheduled'")
        await page.wait_for("document.querySelector('main').textContent.includes('Nothing is scheduled')")
        await page.evaluate("window.release(), new Promise(done => setTimeout(done, 50))")
        assert await page.evaluate("document.querySelectorAll('main h1, main h2').length") == 2


async def test_a_conversation_is_drawn(browser):
    app = make_shop()
    async with app, served(app) as url:
        await app.sender(ORDERS).send(order(5, id="five"))
        async with open_view(browser, url, "conversations") as page:
            await page.wait_for("document.querySelector('main tbody a')")
            await page.click("main tbody a")
            await page.wait_for("document.querySelectorAll('svg.drawn .line').length >= 4")
            assert await page.evaluate("document.querySelectorAll('svg.drawn .line.bad').length") == 1


async def test_markup_in_names_and_bodies_is_text(browser):
    async with looked_at() as app:
        headers = {"dead-letter-reason": HOSTILE, "dead-letter-source": HOSTILE, HOSTILE: HOSTILE}
        hostile = Message({HOSTILE: HOSTILE}, id=HOSTILE, type=HOSTILE, headers=headers, attributes={"a": HOSTILE})
        await app.transport.queue(DEAD).send(hostile)
        async with served(app) as url, open_view(browser, url, "dead-letters") as page:
            await page.wait_for("document.querySelector('[aria-label=Groups] button.link')")
            await page.click("[aria-label=Groups] button.link")
            await page.wait_for("document.querySelector('[aria-label=Letters] button.link')")
            await page.click("[aria-label=Letters] button.link")
            await page.wait_for("document.querySelector('#dialog[open] pre')")
            assert (await text(page, "#dialog")).count("window.hacked") > 4
            await page.evaluate("location.hash = 'conversations/' + encodeURIComponent('<img src=x onerror=hacked>')")
            await page.wait_for("document.querySelector('main input[type=search]')")
            assert await page.evaluate("[window.hacked ?? null, document.querySelectorAll('main img').length]") == [
                None,
                0,
            ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_each_view_can_be_read_on_a_phone(browser, scheme):
    app = make_shop()
    async with app, served(app) as url:
        await app.sender(ORDERS).send(*map(order, range(9)))
        async with open_view(browser, url, width=360, height=740) as page:
            await page.command(
                "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
            )
            for view in VIEWS:
                await page.evaluate(f"location.hash = '{view}'")
                await page.wait_for(f"document.querySelector('nav a[aria-current]')?.hash === '#{view}'")
                await page.wait_for("document.querySelector('main > .view').children.length > 0")
                assert await page.evaluate("document.documentElement.scrollWidth") == 360, view
                assert await page.evaluate(POOR_CONTRAST) == [], view
                nameless = "[...document.querySelectorAll('button, a, input, select')].filter(each => !(each.textContent.trim() || each.getAttribute('aria-label') || each.labels?.length)).length"  # noqa: E501
                assert await page.evaluate(nameless) == 0, view


async def test_the_keyboard_is_enough(browser):
    async with looked_at() as app:
        await fill(app, 2)
        async with served(app) as url, open_view(browser, url, "dead-letters") as page:
            await page.wait_for("document.querySelector('[aria-label=Groups] button.link')")
            await page.evaluate("document.activeElement.blur()")
            await page.press("Tab")
            assert await page.evaluate("document.activeElement.className") == "skip"
            reached = await _tab_to(page, "document.activeElement.textContent === 'Redrive'")
            assert reached
            await page.press("Enter")
            await page.wait_for("document.querySelector('#dialog[open] input') === document.activeElement")
            await page.press("Escape")
            await page.wait_for("!document.querySelector('#dialog[open]')")
            await page.wait_for("document.activeElement.textContent === 'Redrive'")  # where it was, although all is new
            await page.press("Enter")
            await page.wait_for("document.querySelector('#dialog[open]')")
            await page.press("Enter")
            await until(lambda: len(app.transport.queue(ORDERS).messages()) == 2)  # type: ignore[attr-defined]


async def _tab_to(page: Any, condition: str) -> bool:
    for _ in range(60):
        await page.press("Tab")
        if await page.evaluate(condition):
            return True
    return False


async def test_a_token_is_asked_for_and_a_reader_sees_no_verbs(browser):
    tokens = Tokens()
    token = tokens.grant("ada")
    async with looked_at() as app:
        await fill(app, 2)
        async with served(app, tokens=tokens) as url, browser.page(f"{url}#dead-letters") as page:
            for given in ("wrong", token):
                await page.wait_for("document.querySelector('#login[open]')")
                await page.fill("#login input", given)
                await page.click("#login button")
            await page.wait_for("document.querySelector('[aria-label=Groups] button.link')")
            assert await text(page, "#who") == "ada, reader · MemoryTransport"
            buttons = "[...document.querySelectorAll('button')].map(each => each.textContent)"
            assert not {"Redrive", "Redrive all", "Discard"} & set(await page.evaluate(buttons))
            assert await page.evaluate("[document.cookie, localStorage.length, location.href]") == [
                "",
                0,
                f"{url}#dead-letters",
            ]


async def test_a_connection_that_is_lost_comes_back(browser):
    async with looked_at() as app:
        console = Console(app, interval=0.2)
        async with ConsoleServer(console, port=0) as server, browser.page(server.url) as page:
            await page.wait_for("document.querySelector('[aria-label=Channels]')")
            await server.stop()
            await page.wait_for("!document.getElementById('problem').hidden")
            async with ConsoleServer(console, port=server.port):
                await page.wait_for("document.getElementById('problem').hidden")
