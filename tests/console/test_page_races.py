"""The console while things happen at once: redraws under a press, answers that come late, dialogs that were left."""

from __future__ import annotations

import pytest

from eip.console import Tokens
from tests.console.shop import DEAD, fill, looked_at
from tests.console.test_page import HOLD_ONE_ANSWER, open_view, press_button, served, text

pytestmark = pytest.mark.browser

GROUP = "ValueError: order … has no price"
RELEASED = "window.release(), new Promise(done => setTimeout(done, 50))"


async def test_a_press_is_not_lost_to_a_redraw(browser):
    """What is pressed stays until the button is up, also if its figures change meanwhile."""
    async with looked_at() as app:
        await fill(app, 2)
        async with served(app) as url, open_view(browser, url, "dead-letters") as page:
            button = "[aria-label=Groups] [data-key^=redrive]"
            await page.wait_for(f"document.querySelector('{button}')")
            await page.pointer("mousePressed", button)
            await fill(app, 1)
            await page.wait_for("document.querySelector('#dead-count').textContent === '3'")
            look = "performance.getEntriesByType('resource').filter(each => each.name.endsWith('/look')).length"
            await page.wait_for(f"{look} >= 2")
            await page.evaluate("new Promise(done => setTimeout(done, 100))")
            await page.pointer("mouseReleased", button)
            await page.wait_for("document.querySelector('#dialog[open]')")
            assert "Redrive 2 of" in await text(page, "#dialog h2")  # what was pressed
            await page.press("Escape")
            await press_button(page, f"Redrive 3 messages: {GROUP}")
            assert "Redrive 3 of" in await text(page, "#dialog h2")


async def test_each_search_looks_for_what_stands_there_now(browser):
    async with looked_at() as app:
        await fill(app, 9)
        async with served(app) as url, open_view(browser, url, "dead-letters") as page:
            await press_button(page, GROUP)
            for number in (5, 7):
                await page.wait_for("document.querySelector('main input[type=search]')")
                await page.fill("main input[type=search]", f"order {number}")
                await press_button(page, "Search")
                rows = "[...document.querySelectorAll('[aria-label=Letters] tbody tr')]"
                await page.wait_for(f"{rows}.length === 1 && {rows}[0].textContent.includes('order {number}')")


async def test_a_late_letter_does_not_take_the_place_of_another_dialog(browser):
    async with looked_at() as app:
        await fill(app, 2)
        async with served(app) as url, open_view(browser, url, "dead-letters") as page:
            await press_button(page, GROUP)
            await page.wait_for("document.querySelector('[aria-label=Letters] button')")
            await page.evaluate(HOLD_ONE_ANSWER % "letter")
            await press_button(page, "m1")
            await page.wait_for("window.release")
            await press_button(page, f"Redrive all of {DEAD}")
            await page.evaluate(RELEASED)
            assert await text(page, "#dialog h2") == f"Redrive {DEAD}"


@pytest.mark.parametrize(("policy", "refused"), [('{"country": ["fr"]}', False), ("no policy", True)])
async def test_the_end_of_what_a_dialog_did_leaves_the_next_one_open(browser, policy, refused):
    async with looked_at() as app:
        await fill(app, 2)
        async with served(app) as url, open_view(browser, url, "dead-letters") as page:
            await page.evaluate(HOLD_ONE_ANSWER % "redrive")
            await press_button(page, f"Redrive all of {DEAD}")
            await page.fill("#dialog input[type=text]", policy)
            await press_button(page, "Redrive")
            await page.wait_for("window.release")
            await press_button(page, "Cancel")
            await press_button(page, f"Redrive all of {DEAD}")
            await page.evaluate(RELEASED)
            assert await page.evaluate("document.querySelector('#dialog').open")
            assert await page.evaluate("document.getElementById('problem').hidden") != refused


AT_START = "Page.addScriptToEvaluateOnNewDocument"
FAIL_ONCE = """{
    const real = window.fetch;
    let left = 1;
    window.fetch = (path, ...rest) => /^api.%s\\b/.test(path) && left-- > 0 ? (%s)(...rest) : real(path, ...rest);
}"""
REFUSED = "async () => { throw new TypeError('Failed to fetch'); }"
CUT = "async () => new Response(new ReadableStream({start: body => body.error(new TypeError('network error'))}))"
SILENT = """async ({signal}) => new Response(new ReadableStream({
    start: body => signal?.addEventListener('abort', () => body.error(signal.reason))}))"""


@pytest.mark.parametrize("address", ["%", "%E0%A4%A/x", "constructor", "__proto__", "nothing/such"])
async def test_an_address_that_means_no_view_is_that_of_the_flow(browser, address):
    async with looked_at() as app, served(app) as url, browser.page(f"{url}#audit") as page:
        await page.wait_for("document.querySelector('main').textContent.includes('Nothing was changed')")
        await page.evaluate(f"location.hash = '{address}'")
        await page.wait_for("document.querySelector('[aria-label=Channels]')")
        assert page.errors == []


@pytest.mark.parametrize("failure", [REFUSED, CUT])
@pytest.mark.parametrize("path", ["me", "audit"])
async def test_what_could_not_be_loaded_is_shown_once_the_console_answers(browser, path, failure):
    async with looked_at() as app, served(app) as url, browser.page() as page:
        await page.command(AT_START, source=FAIL_ONCE % (path, failure))
        await page.goto(f"{url}#audit")
        await page.wait_for("document.querySelector('main').textContent.includes('Nothing was changed')")
        assert await page.evaluate("document.getElementById('problem').hidden")
        assert page.errors == []


async def test_the_flow_is_drawn_again_after_a_deployment(browser):
    """A page that is open over a deployment has the graph of before; it shows the one that is there now."""
    before = "async () => new Response(JSON.stringify({version: 'before', nodes: [], edges: []}))"
    async with looked_at() as app, served(app) as url, browser.page() as page:
        await page.command(AT_START, source=FAIL_ONCE % ("flow", before))
        await page.goto(f"{url}#flow")
        await page.wait_for("document.querySelectorAll('svg .box').length > 0")
        assert not await page.evaluate("document.querySelector('main').textContent.includes('No channel is declared')")
        assert page.errors == []


async def test_a_look_that_nobody_asked_for_takes_no_problem_away(browser):
    async with looked_at() as app, served(app) as url, open_view(browser, url) as page:
        await page.evaluate("""(async () => {
            const {every, problem} = await import(new URL('static/page.js', location));
            problem('refused');
            await every(document.querySelector('main'), async () => {}, 0)();
        })()""")
        assert await text(page, "#problem") == "refused"


@pytest.mark.parametrize("wrong", [-3, 3])
async def test_a_browser_whose_clock_is_wrong_shows_how_long_ago_it_was(browser, wrong):
    async with looked_at() as app:
        await fill(app, 2)
        async with served(app) as url, browser.page() as page:
            source = f"{{ const real = Date.now; Date.now = () => real() + {wrong} * 3600e3; }}"
            await page.command(AT_START, source=source)
            await page.goto(f"{url}#dead-letters")
            ago = "document.querySelector('[aria-label=Groups] tbody')?.textContent"
            await page.wait_for(f"/[1-9][0-9.]* (ms|s) ago/.test({ago})")


async def test_a_connection_that_brings_nothing_is_made_again(browser):
    async with looked_at() as app:
        await fill(app, 2)
        async with served(app) as url, browser.page() as page:
            soon = "{ const real = setTimeout; window.setTimeout = (what, ms) => real(what, ms > 20000 ? 200 : ms); }"
            await page.command(AT_START, source=soon + FAIL_ONCE % ("live", SILENT))
            await page.goto(url)
            await page.wait_for("document.querySelector('#dead-count').textContent === '2'")


async def test_a_token_that_no_header_can_carry_is_asked_for_again(browser):
    tokens = Tokens()
    token = tokens.grant("ada")
    async with looked_at() as app, served(app, tokens=tokens) as url, browser.page(url) as page:
        await page.wait_for("document.querySelector('#login[open]')")
        for given in ("pässword", "“quoted”", "a b"):
            await page.fill("#login input", given)
            await page.click("#login button")
            assert await page.evaluate("document.querySelector('#login input').validity.patternMismatch")
        await page.fill("#login input", f" {token} ")
        await page.click("#login button")
        await page.wait_for("document.querySelector('#who').textContent.startsWith('ada')")
