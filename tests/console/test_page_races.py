"""The console while things happen at once: redraws under a press, answers that come late, dialogs that were left."""

from __future__ import annotations

import pytest

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
            await page.wait_for("document.querySelector('#dialog[open]')", timeout=5)
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
                await page.wait_for(
                    f"{rows}.length === 1 && {rows}[0].textContent.includes('order {number}')", timeout=5
                )


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
