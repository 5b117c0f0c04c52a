"""Unicorn management: each unicorn that is signed in listens to the topic of the zone it is in, and is asked.

A unicorn's app, a person's or a simulated one, moves, is asked and answers through a `Session`: over HTTP, or in this
process.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from eip.errors import StateError
from examples.rfq.channels import Channels
from examples.rfq.model import LONGEST
from examples.rfq.sessions import Full, Session
from examples.rfq.vicinity import Position

__all__ = ["VISITORS", "Unicorns"]

VISITORS: Final = 200
"""Unicorns that may be signed in beside the simulated ones; on AWS each takes connections for its long polls."""


class Unicorns:
    """All unicorns that are signed in to this process, as a service.

    Args:
        channels: the transport's channels for this application.
        most: how many may be signed in at a time.
    """

    def __init__(self, channels: Channels, *, most: int = VISITORS) -> None:
        self._channels, self._most = channels, most
        self._sessions: dict[str, Session] = {}
        self._gone: OrderedDict[str, float] = OrderedDict()
        """When unicorns were signed out that may come back for what they were asked, the earliest first."""
        self._tasks: asyncio.TaskGroup | None = None
        self._stopping, self._ready, self._arrived = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def __len__(self) -> int:
        return len(self._sessions)

    async def sign_in(self, unicorn: str, position: Position, name: str | None = None) -> Session:
        """Sign a unicorn in, or move one that is; raises `Full` where there is no room for another."""
        session = self._sessions.get(unicorn)
        if session is not None and session.leaving:
            await session.ended.wait()
            session = self._sessions.get(unicorn)
        if session is None:
            return self._begin(Session(unicorn, name or unicorn, position, self._channels))
        await session.move(position, name)
        session.touch()
        return session

    def _begin(self, session: Session) -> Session:
        if self._tasks is None or self._stopping.is_set():
            raise StateError("unicorn management does not run")
        if len(self._sessions) >= self._most:
            raise Full(f"at most {self._most} unicorns may be signed in here")
        self._sessions[session.id] = session
        self._gone.pop(session.id, None)
        self._tasks.create_task(self._run(session), name=f"unicorn {session.id}")
        arrived, self._arrived = self._arrived, asyncio.Event()
        arrived.set()
        return session

    async def _run(self, session: Session) -> None:
        try:
            await session.run()
        finally:
            del self._sessions[session.id]
            self._gone[session.id] = asyncio.get_running_loop().time()
        await self._forget()

    async def _forget(self) -> None:
        """Forget unicorns that have been gone for longer than any RFQ runs."""
        long_ago = asyncio.get_running_loop().time() - LONGEST
        while self._gone and next(iter(self._gone.values())) < long_ago:
            unicorn, _ = self._gone.popitem(last=False)
            await self._channels.forget(unicorn)

    def find(self, unicorn: str) -> Session | None:
        """The unicorn's session; None where it is not signed in."""
        session = self._sessions.get(unicorn)
        if session is None or session.leaving:
            return None
        session.touch()
        return session

    async def arrival(self, unicorn: str) -> Session:
        """The unicorn's session, as soon as it is signed in."""
        while (session := self.find(unicorn)) is None:
            await self._arrived.wait()
        return session

    @asynccontextmanager
    async def signed_in(self, unicorn: str, name: str, position: Position) -> AsyncIterator[Session]:
        """A session for the length of a block; see `herd.Entrance`."""
        await self._ready.wait()
        session = await self.sign_in(unicorn, position, name)
        try:
            yield session
        finally:
            await session.leave()

    async def missing(self) -> list[str]:
        """What it is not ready without, for people to read; empty: ready."""
        if not self._ready.is_set():
            return ["unicorn management"]
        failing = (health.reason for session in self._sessions.values() if not (health := session.health()).ok)
        reason = next(failing, None)
        return [] if reason is None else [f"a unicorn's channel ({reason})"]

    async def run(self) -> None:
        """Let unicorns sign in until `stop`."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            self._ready.set()
            await self._stopping.wait()
            self._tasks = None
            await asyncio.gather(*(session.leave("stopping") for session in self._sessions.values()))

    async def stop(self) -> None:
        """Sign all unicorns out, and let `run` return."""
        self._stopping.set()
