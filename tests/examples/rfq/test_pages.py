"""The pages in headless Chromium, by keyboard and on a phone; the test plays the unicorns."""

from __future__ import annotations

import asyncio
import random
import socket
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from eip import Message, clock
from eip.errors import Reject
from eip.stores import MemoryStore
from eip.telemetry.meter import UsageMeter
from examples.rfq.api import app
from examples.rfq.booking import RideBooking
from examples.rfq.model import Presence, Quote
from examples.rfq.store import States
from examples.rfq.tokens import Tokens
from examples.rfq.vicinity import Position, located
from examples.rfq.wiring import connected
from tests.examples.rfq.service import ROOT
from tests.support.processes import free_port

pytestmark = pytest.mark.browser

ARTIFACTS = ROOT / "artifacts"
START = located("Alexanderplatz")
NEAR = {
    "binky": ("Binky", 0.06, -0.03),
    "luna": ("Luna", 0.14, -0.09),
    "pegasus": ("Pegasus", 0.25, -0.05),
    "ixion": ("Ixion", 0.09, -0.20),
    "twinkle": ("Twinkle", 0.21, -0.24),
    "shadowfax": ("Shadowfax", 0.27, -0.15),
}

# Every pair of a text's colour and what is behind it with less contrast than WCAG 2.2 AA asks for.
POOR_CONTRAST = """(() => {
    const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
    const linear = value => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    const behind = element => {
        for (; element; element = element.parentElement) {
            const colour = parse(getComputedStyle(element).backgroundColor);
            if (colour.length === 3 || colour[3] === 1) return colour;
        }
        return [255, 255, 255];
    };
    const poor = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || element.closest('svg, datalist, noscript, script') || !element.checkVisibility()) continue;
        const [a, b] = [luminance(parse(getComputedStyle(element).color)), luminance(behind(element))];
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (contrast < 4.5) poor.push(walker.currentNode.data.trim() + ' ' + contrast.toFixed(2));
    }
    return poor;
})()"""  # noqa: E501


class Rydes:
    """The service in this process, and the side of the unicorns."""

    def __init__(self, booking: RideBooking, channels: Any, application: Any) -> None:
        self.booking, self.channels = booking, channels
        self._app = application
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def listening(self):
        """Serve over HTTP until the block ends; may be entered again, on the same port."""
        sock = socket.create_server(("127.0.0.1", self.port))
        server = uvicorn.Server(uvicorn.Config(self._app, log_level="critical", timeout_graceful_shutdown=0))
        serving = asyncio.create_task(server._serve(sockets=[sock]))
        try:
            yield self
        finally:
            server.should_exit = True
            await serving
            sock.close()

    async def come(self) -> None:
        """Unicorns near the start, and a crowd elsewhere."""
        dice = random.Random(7)
        places = {each: (name, START.x + dx, START.y + dy) for each, (name, dx, dy) in NEAR.items()}
        crowd = (Position(x=dice.random(), y=dice.random()) for _ in range(80))
        places |= {f"u{n}": (f"Unicorn {n}", at.x, at.y) for n, at in enumerate(crowd) if at.zone != START.zone}
        for unicorn, (name, x, y) in places.items():
            at = Position(x=x, y=y)
            presence = Presence(unicorn=unicorn, name=name, zone=at.zone, position=at)
            await self.channels.presence.send(Message(presence, type="Presence"))
        while len(await self.booking.unicorns()) < len(places):
            await asyncio.sleep(0.02)

    async def end(self, rfq: str) -> None:
        """Let the RFQ's time be over."""
        later = clock.now() + 3600
        with clock.use_clock(lambda: later):
            await self.booking._quotes._gatherer._on_due(rfq)  # type: ignore[union-attr]

    async def answer(self, rfq: str, unicorn: str, price: float | None = None) -> None:
        envelope: dict[str, Any] = {"source": unicorn, "correlation_id": rfq}
        quote = Quote(unicorn=unicorn, name=NEAR[unicorn][0], price=price or 0, minutes=round((price or 0) / 3))
        await self.channels.replies.send(Message(quote, type="Quote" if price else "Declined", **envelope))


@asynccontextmanager
async def rydes(*, tokens: Tokens | None = None):
    states = States(MemoryStore(), MemoryStore(), MemoryStore())
    async with connected("memory", meter=UsageMeter()) as channels:
        booking = RideBooking(channels, states)
        made = Rydes(booking, channels, app(booking, tokens=tokens))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(booking.run())
            await booking.ready.wait()
            try:
                yield made
            finally:
                await booking.stop()


async def asked(page: Any) -> str:
    """Asks for quotes with what the form holds; the RFQ's id."""
    await page.wait_for("document.querySelectorAll('.unicorn').length > 6")
    await page.fill("[name=duration]", "")
    await page.evaluate("document.querySelector('[name=customer]').focus()")
    await page.press("Enter")
    await page.wait_for("location.hash.startsWith('#/rfqs/')")
    return str(await page.evaluate("location.hash.split('/').pop()"))


async def text(page: Any, selector: str) -> str:
    return str(await page.evaluate(f"document.querySelector('{selector}').textContent"))


def says(selector: str, words: str) -> str:
    return f"document.querySelector('{selector}')?.textContent.includes('{words}')"


OFFERS = "[...document.querySelectorAll('.offer')].map(each => each.dataset.unicorn).join()"


async def test_a_customer_asks_watches_the_offers_and_chooses_one(browser):
    async with rydes() as service, service.listening():
        await service.come()
        async with browser.page(service.url, width=1280, height=860) as page:
            rfq = await asked(page)
            await page.wait_for("document.querySelectorAll('.unicorn.waiting').length === 6")
            await service.answer(rfq, "luna", 21.5)
            await page.wait_for(f"{OFFERS} === 'luna'")
            await page.evaluate("document.querySelector('[data-unicorn=luna] button').focus()")
            await service.answer(rfq, "binky", 14.2)
            await service.answer(rfq, "pegasus", 17.9)
            await service.answer(rfq, "ixion")
            await page.wait_for(f"{OFFERS} === 'binky,pegasus,luna'")
            await page.wait_for(says("#responders", "Ixion: declined"))
            assert await page.evaluate("document.querySelector('.offer.best').dataset.unicorn") == "binky"
            assert (
                await page.evaluate("document.activeElement.getAttribute('aria-label')")
                == "Choose Luna, 21.50 unicoins"
            )
            assert "Best offer so far: Binky" in await text(page, "#live")
            assert await text(page, "#state") == "4 of 6 have answered"
            await page.wait_for(says("#left", "4:5"))
            await page.screenshot(ARTIFACTS / "rfq-running.png")

            await service.end(rfq)
            await page.wait_for(says("#state", "Complete: 3 offers"))
            assert "Complete. 3 offers" in await text(page, "#live")
            await service.answer(rfq, "shadowfax", 9.0)
            await page.wait_for(says("#responders", "Shadowfax: too late"))
            assert await page.evaluate(OFFERS) == "binky,pegasus,luna"
            assert "Twinkle: no answer" in await text(page, "#responders")

            await page.evaluate("document.querySelector('[data-unicorn=pegasus] button').focus()")
            await page.press("Enter")
            await page.wait_for("document.querySelector('.offer.chosen')?.dataset.unicorn === 'pegasus'")
            kept = await service.booking.get(rfq)
            assert kept is not None
            assert kept.choice == "pegasus"
            assert await text(page, "#taken") == "You ride with Pegasus, 17.90 unicoins, there in 6 minutes."
            await page.screenshot(ARTIFACTS / "rfq.png")

            await page.goto("about:blank")
            await page.goto(f"{service.url}/#/rfqs/{rfq}")
            await page.wait_for("document.querySelector('.offer.chosen')?.dataset.unicorn === 'pegasus'")
            assert page.errors == []


async def test_the_page_says_at_once_that_nobody_can_answer(browser):
    """Fault 43."""
    async with rydes() as service, service.listening():
        await service.come()
        async with browser.page(service.url) as page:
            await page.wait_for("document.querySelectorAll('.unicorn').length > 6")
            service.booking._presences.near = nobody
            await page.evaluate("document.querySelector('[name=customer]').focus()")
            await page.press("Enter")
            await page.wait_for("!document.querySelector('#nobody').hidden")
            assert await page.evaluate(POOR_CONTRAST) == []
            rfq = str(await page.evaluate("location.hash.split('/').pop()"))
            await service.end(rfq)
            await page.wait_for(says("#count", "nobody was asked"))
            assert page.errors == []


async def nobody(_: str) -> list[Presence]:
    return []


async def test_a_lost_connection_comes_back_and_nothing_is_missed(browser):
    async with rydes() as service:
        await service.come()
        async with browser.page() as page:
            async with service.listening():
                await page.goto(service.url)
                rfq = await asked(page)
                await service.answer(rfq, "luna", 21.5)
                await page.wait_for(f"{OFFERS} === 'luna'")
            await page.wait_for(says("#state", "Connection lost"))
            await service.answer(rfq, "binky", 14.2)
            async with service.listening():
                await page.wait_for(f"{OFFERS} === 'binky,luna'")


async def test_a_refusal_is_told_where_it_is_read_out(browser):
    async with rydes() as service, service.listening(), browser.page(service.url) as page:
        await page.fill("[name=from]", "   ")
        await page.click("#go")
        await page.wait_for("!document.querySelector('#problem').hidden")
        assert "from: String should have at least 1 character" in await text(page, "#problem")
        assert await page.evaluate("document.querySelector('#problem').getAttribute('role')") == "alert"
        assert not await page.evaluate("document.querySelector('#go').disabled")
        await page.evaluate("location.hash = '#/rfqs/unknown'")
        await page.wait_for(says("#problem", "unknown"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_everyone_can_read_and_operate_it(browser, scheme):
    """Contrast, names of controls, headings, reduced motion; wide and on a phone, where nothing scrolls sideways."""
    async with rydes() as service, service.listening():
        await service.come()
        await service.channels.presence.send(Message({}, type="Presence"))
        async with browser.page(service.url) as page:
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            features.append({"name": "prefers-reduced-motion", "value": "reduce"})
            await page.command("Emulation.setEmulatedMedia", features=features)
            rfq = await asked(page)
            for unicorn, price in [("luna", 21.5), ("binky", 14.2), ("ixion", None)]:
                await service.answer(rfq, unicorn, price)
            await page.wait_for(says("#responders", "declined"))
            await service.end(rfq)
            await page.wait_for(says("#state", "Complete: 2 offers"))
            await service.answer(rfq, "twinkle", 9.0)
            await page.wait_for(says("#responders", "too late"))
            await page.click("[data-unicorn=luna] button")
            await page.wait_for("document.querySelector('.offer.chosen')")
            for width, height in [(1280, 860), (390, 844), (320, 640)]:
                await page.resize(width, height, mobile=width < 500)
                assert await page.evaluate(POOR_CONTRAST) == []
                assert await page.evaluate("document.documentElement.scrollWidth") <= width
                await page.screenshot(ARTIFACTS / f"ride-{scheme}-{width}.png")
            assert await page.evaluate("document.getAnimations().length") == 0
            assert await unnamed(page) == []
            assert await page.evaluate("document.querySelectorAll('h1').length") == 1
            small = "[...document.querySelectorAll('button, input, select')].filter(each => each.checkVisibility() && "
            assert await page.evaluate(small + "each.getBoundingClientRect().height < 40).length") == 0
            assert page.errors == []


async def unnamed(page: Any) -> list[str]:
    """Roles of the controls that assistive technology finds without a name."""
    tree = await page.command("Accessibility.getFullAXTree")
    roles = {"button", "textbox", "combobox", "link", "image", "list", "dialog", "region", "timer", "table"}
    return [
        node["role"]["value"]
        for node in tree["nodes"]
        if not node["ignored"]
        and node["role"]["value"] in roles - {"list", "table"}
        and not node.get("name", {}).get("value")
    ]


async def test_the_first_tab_skips_to_the_content_and_the_form_follows(browser):
    async with rydes() as service, service.listening(), browser.page(service.url) as page:
        order = []
        for _ in range(10):
            await page.press("Tab")
            order.append(await page.evaluate("(e => e.name || e.id || e.textContent.trim())(document.activeElement)"))
        assert order == [
            *("Skip to the content", "Wild Rydes", "Ride", "Operations"),
            *("from", "to", "customer", "duration", "radius", "go"),
        ]


async def test_the_console_shows_what_failed_and_redrives_it(browser, monkeypatch):
    async with rydes() as service, service.listening():
        await service.come()
        async with browser.page(service.url, width=1280, height=860) as page:
            rfq = await asked(page)

            async def refuse(*_: object, **__: object) -> None:
                raise Reject("the price list of that day is missing")

            with monkeypatch.context() as broken:
                broken.setattr(MemoryStore, "put_part", refuse)
                await service.answer(rfq, "luna", 21.5)
                await service.answer(rfq, "twinkle", 13.5)
                await page.goto(f"{service.url}/operations#requests")
                await page.wait_for("document.querySelector('main tbody tr')?.textContent.includes('0 of 6')")
                await page.evaluate("location.hash = 'dead-letters'")
                await page.wait_for("document.querySelector('[aria-label=Groups] tbody th')?.textContent === '2'")
            assert "price list of that day is missing" in await text(page, "[aria-label=Groups]")
            for unicorn in ("binky", "pegasus"):
                await service.answer(rfq, unicorn, 14.2)
            await page.screenshot(ARTIFACTS / "operations.png")
            await page.evaluate("document.querySelector('[aria-label=Groups] td:last-child button').focus()")
            await page.press("Enter")
            await page.wait_for("document.querySelector('#dialog[open]')")
            await page.press("Enter")
            await page.wait_for(says("#live", "2 moved, 0 failed, 0 left"))
            await page.wait_for(says("main", "What could not be handled would be here"))
            kept = await service.booking.get(rfq)
            assert kept is not None
            assert {quote.unicorn for quote in kept.quotes} == {"luna", "twinkle", "binky", "pegasus"}
            assert page.errors == []


async def test_a_token_is_asked_for_and_used(browser):
    tokens = Tokens()
    ada, operator = tokens.grant("Ada"), tokens.grant("Grace", "operator")
    async with rydes(tokens=tokens) as service, service.listening():
        await service.come()

        async def give(token: str) -> None:
            await page.wait_for("document.querySelector('#login').open")
            await page.fill("[name=token]", token)
            await page.evaluate("document.querySelector('[name=token]').focus()")
            await page.press("Enter")

        async with browser.page(service.url) as page:
            await give("wrong")
            await page.wait_for(says("#login", "not valid"))
            await give(ada)
            rfq = await asked(page)
            await service.answer(rfq, "luna", 21.5)
            await page.wait_for(f"{OFFERS} === 'luna'")
            await page.goto(f"{service.url}/operations/")
            await give(operator)
            await page.wait_for(says("#who", "Grace, operator"))
            kept = await page.evaluate("document.documentElement.outerHTML + location + document.cookie")
            assert ada not in kept
            assert operator not in kept
