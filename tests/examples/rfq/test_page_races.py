"""The pages while things happen at once: answers cut off or late, a silent connection, two presses of one button."""

from __future__ import annotations

import pytest

from tests.examples.rfq.test_pages import OFFERS, asked, rydes
from tests.examples.rfq.test_ride import rydes as whole

pytestmark = pytest.mark.browser

AT_START = "Page.addScriptToEvaluateOnNewDocument"
INSTEAD = """{
    const real = window.fetch;
    let left = 1;
    window.fetch = (path, ...rest) => String(path).endsWith('%s') && left-- > 0 ? (%s)(path, ...rest) : real(path, ...rest);
    var realFetch = real;
}"""  # noqa: E501
CUT = "async () => new Response(new ReadableStream({start: body => body.error(new TypeError('network error'))}))"
SILENT = """async (_, {signal}) => new Response(new ReadableStream({
    start: body => signal?.addEventListener('abort', () => body.error(signal.reason))}))"""
ASKED = "document.querySelector('#state').textContent.startsWith('You are asked')"
HELD = "(...asked) => realFetch(...asked).then(answer => new Promise(done => { window.release = () => done(answer); }))"


async def test_the_herd_goes_on_after_an_answer_that_was_cut_off(browser):
    async with rydes() as service, service.listening(), browser.page() as page:
        await service.come()
        await page.command(AT_START, source=INSTEAD % ("/unicorns", CUT))
        await page.goto(service.url)
        await page.wait_for("document.querySelectorAll('.unicorn').length > 6")
        assert page.errors == []


async def test_the_answer_of_a_choice_is_not_shown_in_another_rfq(browser):
    async with rydes() as service, service.listening(), browser.page(service.url) as page:
        await service.come()
        first = await asked(page)
        await service.answer(first, "luna", 21.5)
        await page.wait_for(f"{OFFERS} === 'luna'")
        await page.evaluate(INSTEAD % ("/choice", HELD))
        await page.click(".offer button")
        await page.wait_for("window.release")
        await page.fill("[name=customer]", "Grace")
        await page.click("#go")
        await page.wait_for(f"!location.hash.endsWith('{first}')")
        await service.answer(str(await page.evaluate("location.hash.split('/').pop()")), "luna", 11.5)
        await page.wait_for(f"{OFFERS} === 'luna'")
        await page.evaluate("window.release(), new Promise(done => setTimeout(done, 50))")
        assert await page.evaluate("document.querySelector('#taken').hidden")
        assert not await page.evaluate("document.querySelector('.offer button').disabled")


async def test_a_stream_that_brings_nothing_is_opened_again(browser):
    async with rydes() as service, service.listening(), browser.page() as page:
        await service.come()
        soon = "{ const real = setTimeout; window.setTimeout = (what, ms) => real(what, ms > 40000 ? 200 : ms); }"
        await page.command(AT_START, source=soon + INSTEAD % ("/events", SILENT))
        await page.goto(service.url)
        rfq = await asked(page)
        await service.answer(rfq, "luna", 21.5)
        await page.wait_for(f"{OFFERS} === 'luna'")


AWAY = "async () => { throw new TypeError('Failed to fetch'); }"
SAID_SO = "window.saidSo"
NOTED = f"""setInterval(() => {{
    const problem = document.querySelector('#problem')?.textContent ?? '';
    {SAID_SO} ||= problem.includes('cannot be reached');
}}, 20);"""
"""Whether the page says that the service cannot be reached, as soon as that may pass."""


async def test_a_page_whose_first_look_fails_says_so_and_looks_again(browser):
    async with rydes() as service, service.listening(), browser.page() as page:
        await service.come()
        await page.command(AT_START, source=NOTED + INSTEAD % ("/unicorns", AWAY))
        await page.goto(service.url)
        await page.wait_for(SAID_SO)
        await page.wait_for("document.querySelectorAll('.unicorn').length > 6")
        await page.wait_for("document.querySelector('#near').textContent")  # the ride of the form
        assert await page.evaluate("document.querySelector('#problem').hidden")
        assert page.errors == []


async def test_a_unicorn_whose_page_is_loaded_while_the_service_is_away_signs_in_once_it_is_back(browser):
    async with whole() as service, service.served() as it, browser.page(f"{it.url}/unicorn") as page:
        await page.evaluate("sessionStorage.setItem('rfq-unicorn', JSON.stringify({name: 'Luna', place: 'Mitte'}))")
        await page.command(AT_START, source=NOTED + INSTEAD % ("/unicorn/self", AWAY))
        await page.goto(f"{it.url}/unicorn")
        await page.wait_for(SAID_SO)
        await page.wait_for("document.querySelector('#state').textContent.startsWith('You are asked')")
        assert await page.evaluate("document.querySelector('#problem').hidden")
        assert page.errors == []


async def test_a_web_socket_that_brings_nothing_is_opened_again(browser):
    """A connection that a sleep has cut stays open: a script sees neither its end nor the protocol's pings."""
    silent = """{ const Real = WebSocket; window.opened = 0;
        window.WebSocket = class extends Real {
            constructor(...at) { super(...at); this.silent = ++window.opened === 1; }
            addEventListener(kind, ...rest) { if (!this.silent) super.addEventListener(kind, ...rest); } }; }"""
    soon = "{ const real = setTimeout; window.setTimeout = (what, ms) => real(what, ms > 40000 ? 200 : ms); }"
    async with whole() as service, service.served() as it, browser.page() as page:
        await page.command(AT_START, source=silent + soon)
        await page.goto(f"{it.url}/unicorn")
        await page.fill("[name=name]", "Luna")
        await page.click("#sign-in button")
        await page.wait_for("window.opened >= 2")
        await page.wait_for("document.querySelector('#state').textContent.startsWith('You are asked')")
        assert page.errors == []


async def test_two_presses_sign_in_once(browser):
    async with whole() as service, service.served() as it, browser.page(f"{it.url}/unicorn") as page:
        await page.evaluate("""{ const Real = WebSocket; window.opened = 0;
            window.WebSocket = class extends Real { constructor(...at) { super(...at); window.opened += 1; } }; }""")
        await page.fill("[name=name]", "Luna")
        await page.evaluate("for (const _ of [1, 2]) document.querySelector('#sign-in button').click()")
        await page.wait_for(ASKED)
        await page.evaluate("new Promise(done => setTimeout(done, 100))")
        assert await page.evaluate("window.opened") == 1
        assert page.errors == []


async def test_an_answer_that_a_push_has_overtaken_is_not_shown(browser):
    async with whole() as service, service.served() as it, browser.page(f"{it.url}/unicorn") as page:
        await page.evaluate(INSTEAD % ("/unicorn/self", HELD))
        await page.fill("[name=name]", "Luna")
        await page.evaluate("for (const _ of [1, 2]) document.querySelector('#sign-in button').click()")
        await page.wait_for(f"window.release && {ASKED}")
        await page.evaluate("window.release(), new Promise(done => setTimeout(done, 50))")
        assert await page.evaluate(ASKED)
        assert page.errors == []
