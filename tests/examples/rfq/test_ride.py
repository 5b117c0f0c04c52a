"""One ride in headless Chromium: the customer's page and the unicorn's, each in a tab of its own."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from eip.stores import MemoryStore
from examples.rfq.api import app
from examples.rfq.booking import RideBooking
from examples.rfq.questions import TooLate
from examples.rfq.store import States
from examples.rfq.tokens import Tokens
from examples.rfq.unicorns import Unicorns
from examples.rfq.wiring import connected
from tests.examples.rfq.serving import served
from tests.examples.rfq.test_pages import ARTIFACTS, POOR_CONTRAST, says, text, unnamed

pytestmark = pytest.mark.browser

MARKUP = "<img src=x onerror=document.title='owned'>"
VIOLATIONS = "addEventListener('securitypolicyviolation', event => console.error(event.violatedDirective))"


class Rydes:
    """The whole service in this process; it may be served again, on another port, as after a restart."""

    def __init__(self, booking, unicorns, application):
        self.booking, self.unicorns, self._app = booking, unicorns, application

    def served(self):
        return served(self._app)


@asynccontextmanager
async def rydes(**options):
    async with connected("memory") as channels, asyncio.TaskGroup() as tasks:
        booking = RideBooking(channels, States(MemoryStore(), MemoryStore(), MemoryStore()))
        unicorns = Unicorns(channels)
        for service in (booking, unicorns):
            tasks.create_task(service.run())
        await booking.ready.wait()
        try:
            yield Rydes(booking, unicorns, app(booking, unicorns=unicorns, **options))
        finally:
            await asyncio.gather(booking.stop(), unicorns.stop())


async def sign_in(page, name="Luna"):
    await page.fill("[name=name]", name)
    await page.click("#sign-in button")
    await page.wait_for(says("#state", "You are asked in zone"))


async def ask(page, customer="Ada"):
    await page.wait_for("document.querySelectorAll('.unicorn').length === 1")
    await page.fill("[name=customer]", customer)
    await page.fill("[name=duration]", "")
    await page.click("#go")
    await page.wait_for(says("#state", "0 of 1 have answered"))


async def test_two_pages_one_ride(browser):
    async with rydes() as service, service.served() as it, AsyncExitStack() as stack:
        unicorn = await stack.enter_async_context(browser.page(f"{it.url}/unicorn", width=360, height=780))
        customer = await stack.enter_async_context(browser.page(it.url))
        for page in (unicorn, customer):
            await page.evaluate(VIOLATIONS)
        await sign_in(unicorn)
        await ask(customer)
        await unicorn.wait_for(says("#questions", "Alexanderplatz → Tempelhofer Feld"))
        await unicorn.wait_for(says("#questions .left", "4:5"))
        assert "Ada asks for a ride" in await text(unicorn, "#live")
        await unicorn.fill("[name=price]", "12.5")
        await unicorn.screenshot(ARTIFACTS / "unicorn-phone.png")
        await unicorn.evaluate("document.querySelector('[name=price]').focus()")
        await unicorn.press("Enter")
        await unicorn.wait_for(says("#closed", "you offered 12.50 unicoins"))
        assert await unicorn.evaluate("document.activeElement.id") == "name"

        await customer.wait_for(says("#state", "Complete: 1 offer"))
        await customer.wait_for(says(".offer.best", "Luna"))
        await customer.click(".offer button")
        await customer.wait_for(says("#taken", "You ride with Luna, 12.50 unicoins"))
        assert (unicorn.errors, customer.errors) == ([], [])


SLOWLY = """{
  const send = window.fetch;
  window.fetch = async (...request) => { await new Promise(later => setTimeout(later, 500)); return send(...request); };
}"""


async def test_a_unicorn_flies_about_declines_and_is_told_when_it_is_too_late(browser, monkeypatch):
    async with rydes() as service, service.served() as it, browser.page(f"{it.url}/unicorn") as unicorn:
        await sign_in(unicorn)
        where = await text(unicorn, "#where")
        async with browser.page(it.url) as customer:
            await ask(customer)
            await unicorn.wait_for("document.querySelector('#questions button')")
            session = next(iter(service.unicorns._sessions.values()))

            async def late(_):
                raise TooLate

            with monkeypatch.context() as slow:
                slow.setattr(session, "answer", late)
                await unicorn.click("#questions .primary")
                await unicorn.wait_for(says("#problem", "the time of this RFQ was over when your answer came"))
                await unicorn.wait_for(says("#closed", "time over"))
            await unicorn.goto(f"{it.url}/unicorn")  # it signs in again by itself, and what is open is there again
            await unicorn.wait_for("document.querySelector('#questions button')")
            await unicorn.screenshot(ARTIFACTS / "unicorn.png")
            await unicorn.evaluate(SLOWLY)  # no press may wait for the answer to the one before
            for _ in range(8):
                await unicorn.click("[aria-label='Fly west']")
            await unicorn.click("[aria-label^='Decline']")
            await customer.wait_for(says("#responders", "Luna: declined"))
            await customer.wait_for(says("#state", "Complete: 0 offers"))
        west = max(float(where.partition(" at ")[2].partition(",")[0]) - 8 * 0.05, 0.0)
        await unicorn.wait_for(says("#where", f"at {west:.2f},"))
        await unicorn.wait_for(says("#state", "You are asked in zone 0-"))
        await unicorn.click("#leave")
        await unicorn.wait_for("document.querySelector('#stable').hidden")
        assert len(service.unicorns) == 0
        assert unicorn.errors == []


async def test_markup_in_names_is_text(browser):
    async with rydes() as service, service.served() as it, browser.page(f"{it.url}/unicorn") as unicorn:
        await sign_in(unicorn, MARKUP)
        async with browser.page(it.url) as customer:
            await customer.fill("[name=from]", "Alexanderplatz")
            await customer.fill("[name=to]", MARKUP)
            await ask(customer, MARKUP)
            await unicorn.wait_for(says("#questions", "onerror"))
            await unicorn.click("#questions .primary")
            await customer.wait_for(says(".offer .name", "onerror"))
            await customer.click(".offer button")
            await customer.wait_for(says("#taken", "onerror"))
            await unicorn.wait_for(says("#closed", "onerror"))
            for page in (unicorn, customer):
                assert await page.evaluate("document.querySelectorAll('img[onerror]').length") == 0
                assert "owned" not in await page.evaluate("document.title")


async def test_a_lost_connection_comes_back_and_nothing_is_missed(browser):
    async with rydes() as service, service.served() as it, browser.page(f"{it.url}/unicorn") as unicorn:
        await sign_in(unicorn)
        session = next(iter(service.unicorns._sessions.values()))
        await session.leave("stopping")  # as where its process ends
        await unicorn.wait_for(says("#state", "Connection lost"))
        async with browser.page(it.url) as customer:
            await unicorn.wait_for(says("#state", "You are asked in zone"))
            assert next(iter(service.unicorns._sessions)) == session.id
            await ask(customer)
            await unicorn.wait_for(says("#questions", "Ada"))
        assert unicorn.errors == []


async def test_a_unicorns_token_is_asked_for_where_the_service_has_some(browser):
    tokens = Tokens()
    luna = tokens.grant("luna", "unicorn")
    async with rydes(tokens=tokens) as service, service.served() as it, browser.page(f"{it.url}/unicorn") as unicorn:
        await unicorn.click("#sign-in button")
        await unicorn.wait_for("document.querySelector('#login').open")
        assert "access token" in await text(unicorn, "#login .hint")
        await unicorn.fill("[name=token]", luna)
        await unicorn.evaluate("document.querySelector('[name=token]').focus()")
        await unicorn.press("Enter")
        await unicorn.wait_for(says("#state", "You are asked in zone"))
        assert list(service.unicorns._sessions) == ["luna"]
        assert luna not in await unicorn.evaluate("document.documentElement.outerHTML + location + document.cookie")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_everyone_can_read_and_operate_it(browser, scheme):
    """Contrast, names of controls, headings, reduced motion; wide and on phones, where nothing scrolls sideways."""
    async with rydes() as service, service.served() as it, browser.page(f"{it.url}/unicorn") as unicorn:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        features.append({"name": "prefers-reduced-motion", "value": "reduce"})
        await unicorn.command("Emulation.setEmulatedMedia", features=features)
        assert await unicorn.evaluate(POOR_CONTRAST) == []
        await sign_in(unicorn, "M" * 60)
        async with browser.page(it.url) as customer:
            for name in ("W" * 200, "Ada"):
                await customer.goto(it.url)
                await ask(customer, name)
                await unicorn.wait_for(says("#questions", name))
                if name != "Ada":
                    await unicorn.click("[aria-label^='Decline']")
                    await unicorn.wait_for("!document.querySelector('#before').hidden")
        for width, height in [(1280, 860), (360, 740), (320, 640)]:
            await unicorn.resize(width, height, mobile=width < 500)
            assert await unicorn.evaluate(POOR_CONTRAST) == []
            assert await unicorn.evaluate("document.documentElement.scrollWidth") <= width
            await unicorn.screenshot(ARTIFACTS / f"unicorn-{scheme}-{width}.png")
        assert await unicorn.evaluate("document.getAnimations().length") == 0
        assert await unnamed(unicorn) == []
        assert (
            await unicorn.evaluate("[...document.querySelectorAll('h1')].filter(e => e.checkVisibility()).length") == 1
        )
        small = "[...document.querySelectorAll('button, input')].filter(each => each.checkVisibility() && "
        assert await unicorn.evaluate(small + "each.getBoundingClientRect().height < 40).length") == 0
        assert unicorn.errors == []
