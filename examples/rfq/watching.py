"""Following the answers to an RFQ."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any

from eip import Message
from eip.errors import EipError
from examples.rfq.store import Answer, answer_of

__all__ = ["Watch"]


class Watch:
    """Follows the replies to an RFQ, each of which is read once."""

    def __init__(self, replies: AsyncGenerator[Message[Any], None]) -> None:
        self.answers: dict[str, Answer] = {}
        """The first of each unicorn."""
        self.news = asyncio.Event()
        """Set at each answer, and at the end."""
        self.task = asyncio.create_task(self._follow(replies), name="replies to an RFQ")
        self.task.add_done_callback(lambda _: self.news.set())

    async def _follow(self, replies: AsyncGenerator[Message[Any], None]) -> None:
        with suppress(EipError, KeyError):  # whoever reads the RFQ next sees the same
            async with aclosing(replies):
                async for reply in replies:
                    answer = answer_of(reply)
                    if answer is not None and self.answers.setdefault(answer.unicorn, answer) is answer:
                        self.news.set()
