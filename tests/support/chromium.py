"""Headless Chromium, driven over its DevTools protocol: open a page, run script in it, click, wait, take a picture."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import shutil
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.processes import NotReady, Service, unavailable


class PageError(Exception):
    """The page's script raised, or DevTools refused a command."""


class Page:
    """One tab. `errors` collects uncaught exceptions and console errors of the page."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loaded = asyncio.Event()
        self.errors: list[str] = []

    async def goto(self, url: str, *, timeout: float = 45) -> None:
        """Returns after the page's load event."""
        self._loaded.clear()
        answer = await self.command("Page.navigate", url=url)
        if "errorText" in answer:
            raise PageError(f"{url}: {answer['errorText']}")
        async with asyncio.timeout(timeout):
            await self._loaded.wait()

    async def evaluate(self, script: str) -> Any:
        """The value of an expression in the page, awaited if it is a promise."""
        answer = await self.command("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise PageError(details.get("exception", {}).get("description", details["text"]))
        return answer["result"].get("value")

    async def wait_for(self, script: str, *, timeout: float = 45) -> Any:
        """Waits until the expression is true in the page, looking at every frame it draws; returns the value."""
        seconds = json.dumps(timeout)
        return await self.evaluate(
            f"""new Promise((resolve, reject) => {{
                const until = performance.now() + {seconds} * 1000;
                const look = () => {{
                    let value;
                    try {{ value = ({script}); }} catch (error) {{ return reject(error); }}
                    if (value) return resolve(value);
                    if (performance.now() > until) return reject(new Error('timeout: ' + {json.dumps(script)}));
                    setTimeout(look, 30);
                }};
                look();
            }})"""
        )

    async def click(self, selector: str) -> None:
        """Waits for an element and clicks it."""
        await self.click_on(f"document.querySelector({json.dumps(selector)})")

    async def click_on(self, script: str) -> None:
        """Waits for the element of an expression and clicks it in one turn: in the next, the page may draw another."""
        await self.wait_for(f"(found => found && (found.click(), true))({script})")

    async def pointer(self, kind: str, selector: str) -> None:
        """A real mouse event (`mousePressed`, `mouseReleased`) in the middle of an element."""
        x, y = await self.evaluate(
            f"""(found => {{
                found.scrollIntoView({{block: 'center'}});
                const box = found.getBoundingClientRect();
                return [box.left + box.width / 2, box.top + box.height / 2];
            }})(document.querySelector({json.dumps(selector)}))"""
        )
        await self.command("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    async def fill(self, selector: str, value: str) -> None:
        """Sets a field's value as typing does, with its input and change events."""
        await self.evaluate(
            f"""{{ const field = document.querySelector({json.dumps(selector)});
                field.value = {json.dumps(value)};
                field.dispatchEvent(new Event('input', {{bubbles: true}}));
                field.dispatchEvent(new Event('change', {{bubbles: true}})); }}"""
        )

    async def press(self, key: str) -> None:
        """A key by its DevTools name (`Tab`, `Enter`, `Escape`, `a`), to whatever has the focus."""
        text = "\r" if key == "Enter" else key if len(key) == 1 else ""
        code = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32}.get(key, ord(key[0].upper()))
        common = {"key": key, "windowsVirtualKeyCode": code}
        await self.command("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **common)
        await self.command("Input.dispatchKeyEvent", type="keyUp", **common)

    async def resize(self, width: int, height: int, *, mobile: bool = False) -> None:
        """The size of the view in CSS pixels."""
        await self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile
        )

    async def screenshot(self, path: Path) -> Path:
        answer = await self.command("Page.captureScreenshot", format="png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(answer["data"]))
        return path

    async def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Any command of the DevTools protocol."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        async with asyncio.timeout(60):
            result: dict[str, Any] = await answer
            return result

    async def read(self) -> None:
        """Takes what the browser sends, until the socket closes."""
        async for frame in self._socket:
            said = json.loads(frame.data)
            if "id" in said:
                self._settle(self._answers.pop(said["id"]), said)
            else:
                self._notice(said["method"], said["params"])

    @staticmethod
    def _settle(answer: asyncio.Future[dict[str, Any]], said: dict[str, Any]) -> None:
        if answer.done():
            return
        if "error" in said:
            answer.set_exception(PageError(said["error"]["message"]))
        else:
            answer.set_result(said["result"])

    def _notice(self, method: str, parameters: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self._loaded.set()
        elif method == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Runtime.consoleAPICalled" and parameters["type"] == "error":
            self.errors.append(" ".join(str(word.get("value", word.get("description"))) for word in parameters["args"]))


class Browser(Service):
    """One Chromium; `async with browser.page(url) as page` opens a tab."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._profile = folder / "profile"

    def command(self) -> Sequence[str]:
        (self._profile / "DevToolsActivePort").unlink(missing_ok=True)
        return [
            *("chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--no-first-run", "--disable-extensions", "--disable-background-networking", "--disable-sync"),
            *("--disable-component-update", "--hide-scrollbars", "--mute-audio", "--remote-allow-origins=*"),
            *("--remote-debugging-port=0", f"--user-data-dir={self._profile}", "about:blank"),
        ]

    @property
    def address(self) -> str:
        """Where DevTools listens: Chromium chose the port."""
        chosen = (self._profile / "DevToolsActivePort").read_text().splitlines()
        if not chosen:
            raise NotReady("no port yet")
        return f"http://127.0.0.1:{chosen[0]}"

    def check(self) -> None:
        with urllib.request.urlopen(f"{self.address}/json/version", timeout=5) as answer:
            json.load(answer)

    @asynccontextmanager
    async def page(self, url: str | None = None, *, width: int = 1280, height: int = 800) -> AsyncIterator[Page]:
        """A tab, loaded with `url` if given; closed at the end."""
        async with aiohttp.ClientSession(trust_env=False) as session:
            async with session.put(f"{self.address}/json/new?about:blank") as made:
                target = await made.json()
            async with (
                session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket,
                asyncio.TaskGroup() as group,
            ):
                page = Page(socket)
                reader = group.create_task(page.read())
                await page.command("Page.enable")
                await page.command("Runtime.enable")
                await page.resize(width, height)
                if url is not None:
                    await page.goto(url)
                yield page
                reader.cancel()
            async with session.get(f"{self.address}/json/close/{target['id']}"):
                pass


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if shutil.which("chromium") is None:
        unavailable("chromium")
    started = Browser(tmp_path_factory.mktemp("chromium"))
    started.start()
    yield started
    started.stop(timeout=5)
