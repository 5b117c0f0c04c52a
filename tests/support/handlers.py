"""Handlers for processes that are stopped: those that end, and those that do not. Each says when it has begun."""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time
from contextlib import suppress

from eip import Message


def begun() -> None:
    sys.stdout.write("begun\n")
    sys.stdout.flush()


async def idle(message: Message) -> None: ...


async def busy(message: Message) -> None:
    begun()
    await asyncio.sleep(0.5)


async def ignores(message: Message) -> None:
    begun()
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(1000)


def in_thread(message: Message) -> None:
    begun()
    time.sleep(1000)


async def blocks(message: Message) -> None:
    begun()
    time.sleep(1000)


async def in_c(message: Message) -> None:
    begun()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # many minutes, and signals do not cut it short
