"""A unicorn's app, played by a test, over a web socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from websockets.sync.client import ClientConnection, connect


@contextmanager
def unicorn_app(url: str, token: str) -> Iterator[UnicornApp]:
    """A unicorn that is signed in and listens, until the block ends."""
    headers = {"Authorization": f"Bearer {token}"}
    address = url.replace("http", "ws", 1).rstrip("/") + "/unicorn/socket"
    with connect(address, additional_headers=headers, proxy=None) as socket:
        app = UnicornApp(socket)
        app.sign_in("Alexanderplatz")
        yield app


class UnicornApp:
    """What a unicorn does."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.states: dict[str, str] = {}
        """Of the RFQs that it was asked about."""

    def sign_in(self, place: str) -> None:
        """Sign in; returns once it listens."""
        self._do(place={"name": "Luna", "place": place})
        self.until(lambda event, data: event == "place" and data["listening"])

    def until(self, wanted: Any) -> Any:
        """The data of the first event that is wanted."""
        while True:
            frame = json.loads(self.socket.recv(timeout=30))
            assert frame["event"] != "refused", frame
            if frame["event"] == "rfq":
                self.states[frame["data"]["rfq"]] = frame["data"]["state"]
            if wanted(frame["event"], frame["data"]):
                return frame["data"]

    def asked(self, rfqs: set[str]) -> None:
        """Wait until it is asked about each of the RFQs."""
        while not rfqs <= self.states.keys():
            self.until(lambda event, _: event == "rfq")
        assert {self.states[rfq] for rfq in rfqs} == {"open"}

    def quote(self, rfq: str) -> None:
        """Answer; returns once that was accepted."""
        self._do(answer={"rfq": rfq, "price": 9.5, "minutes": 2})
        self.until(lambda event, _: event == "done")

    def _do(self, **command: Any) -> None:
        self.socket.send(json.dumps(command))
