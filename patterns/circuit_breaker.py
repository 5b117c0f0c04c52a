"""Circuit Breaker (Nygard, "Release It!"): what fails again and again is left alone for a while."""

from __future__ import annotations

import asyncio
from typing import Any, Final, Literal, TypeAlias

from eip._checks import check_duration, check_integer
from eip._logging import get_logger
from eip.clock import Duration
from eip.errors import AddressRefused, ConfigurationError, DecodeError, Disposition, InvalidMessage, Retry
from eip.message import Message
from eip.patterns.diagram import with_diagram
from eip.runtime.handlers import AnyHandler, Handler, Result, middleware

__all__ = ["CircuitBreaker", "State"]

_log = get_logger("eip.circuit_breaker")

State: TypeAlias = Literal["closed", "open", "half-open"]

_OF_THE_MESSAGE: Final = (Disposition, DecodeError, InvalidMessage, AddressRefused)
"""Failures that say nothing about what the handler calls."""


class CircuitBreaker:
    """A middleware that keeps messages from a handler that failed too often, until a single one succeeds again.

        billing = CircuitBreaker("billing", failures=5, open_for=30)
        Consumer(invoices, billing(send_invoice))

    Closed, it lets every message through. After ``max_failures`` failures in a row it opens: messages wait, in their
    handler slots and with their leases kept, so that the consumer fetches no more and no receive is used up. After
    ``open_for`` seconds one message tries (half-open): where it succeeds all go on, otherwise it opens again, for twice
    as long. One breaker can wrap several handlers that call the same service.

    Args:
        name: of what is protected, for logs.
        max_failures: so many in a row open it. `Reject`, `Park`, `Retry` and what cannot be decoded are the message's
            own failures and do not count.
        open_for: seconds (or timedelta) that it stays open the first time.
        max_open: seconds (or timedelta) that it stays open at most.
        on: the errors that count.
        max_wait: seconds (or timedelta) that a message waits in its handler slot; after that it gives the slot to
            others until it may be tried. Waiting does not use up receive attempts.
    """

    def __init__(
        self,
        name: str = "circuit",
        *,
        max_failures: int = 5,
        open_for: Duration = 30.0,
        max_open: Duration = 600.0,
        on: tuple[type[Exception], ...] = (Exception,),
        max_wait: Duration = 240.0,
    ) -> None:
        self.name = name
        self._on, self._max_failures = on, check_integer("max_failures", max_failures, least=1)
        self._open_for = check_duration("open_for", open_for, positive=True)
        self._max_open, self._max_wait = check_duration("max_open", max_open), check_duration("max_wait", max_wait)
        if self._max_open < self._open_for:
            raise ConfigurationError(f"max_open must be >= open_for ({self._open_for:g}), got {self._max_open:g}")
        self._failures = 0
        self._openings = 0
        """How often it opened since it last closed."""
        self._until = 0.0
        """While open: when a message may try, by the event loop's clock."""
        self._trying = False
        self._changed = asyncio.Event()

    @property
    def state(self) -> State:
        """What it does with messages now."""
        if not self._openings:
            return "closed"
        return "half-open" if self._trying or self._until <= asyncio.get_running_loop().time() else "open"

    def __call__(self, handler: AnyHandler) -> Handler:
        """The handler, protected."""
        return middleware(self._wrap)(handler)

    def _wrap(self, handle: Handler) -> Handler:

        async def protected(message: Message[Any]) -> Result:
            await self._wait_for_turn()
            opening = self._openings
            try:
                result = await handle(message)
            except BaseException as error:
                self._after(opening, failed=self._counts(error))
                raise
            self._after(opening, failed=False)
            return result

        return with_diagram(protected, f"circuit_breaker {self.name}", inside=handle)

    async def _wait_for_turn(self) -> None:
        """Return when the message may be handled; raises `Retry` where that takes too long."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self._max_wait
        while self._openings and (self._trying or self._until > loop.time()):
            # While one tries, how long the others have to wait is not known.
            next_look = give_up if self._trying else self._until
            if next_look > give_up or give_up <= loop.time():
                raise Retry(f"{self.name} is open", delay=max(self._until - loop.time(), 1.0), counted=False)
            try:
                async with asyncio.timeout_at(next_look):
                    await self._changed.wait()
            except TimeoutError:
                continue
        self._trying = bool(self._openings)

    def _counts(self, error: BaseException) -> bool | None:
        """Whether the error is a failure of what the handler calls; None: it says nothing, as a cancellation."""
        if not isinstance(error, Exception):
            return None
        return isinstance(error, self._on) and not isinstance(error, _OF_THE_MESSAGE)

    def _after(self, opening: int, *, failed: bool | None) -> None:
        """Note an outcome; one that began before the latest opening tells nothing new."""
        if opening != self._openings:
            return
        if opening:
            self._trying = False
        if failed:
            self._failures += 1
            if opening or self._failures >= self._max_failures:
                self._open()
        elif failed is False:
            self._failures = 0
            if opening:
                self._openings = 0
                _log.info("circuit_closed", circuit=self.name)
        if opening:
            self._tell()

    def _open(self) -> None:
        pause = min(self._open_for * 2 ** min(self._openings, 60), self._max_open)
        self._openings += 1
        self._until = asyncio.get_running_loop().time() + pause
        _log.warning("circuit_open", circuit=self.name, failures=self._failures, try_in=pause)

    def _tell(self) -> None:
        """Let those that wait look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.name} {'open' if self._openings else 'closed'}>"
