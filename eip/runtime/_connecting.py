"""Opening and closing a receiver within bounds, whatever state the service is in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from eip._logging import get_logger
from eip._repeated import RepeatedLines
from eip.channels import Receiver
from eip.errors import TransportError, error_text
from eip.health import HealthTracker
from eip.retry import Backoff

__all__ = ["close", "connect"]

_log = get_logger("eip.consumer")
_REPORT_S: Final = 5.0
"""Seconds until a log line names what is waited for; then twice as long each time."""
_CLOSE_S: Final = 10.0
_RETRY_BACKOFF: Final = Backoff(base=0.5, cap=30.0)


async def connect(
    make: Callable[[], Receiver], stop: asyncio.Event, *, health: HealthTracker, consumer: str
) -> Receiver | None:
    """Open a receiver; tried again with backoff while the service is away.

    Args:
        make: returns a receiver to open.
        stop: ends the attempts when it is set.
        health: records failures and success.
        consumer: its name, for the log.

    Returns:
        The open receiver; None where ``stop`` came first.

    Raises:
        Exception: what opening raised, where it is not transient: the program or the service's set-up is wrong.
    """
    failures, repeated = 0, RepeatedLines(_log)
    while not stop.is_set():
        receiver = make()
        try:
            if await _unless(stop, receiver.open(), receiver.name, consumer):
                health.succeeded()
                return receiver
        except TransportError as error:
            if not error.transient:
                raise
            failures += 1
            health.failed(error)
            delay = _RETRY_BACKOFF.delay(failures)
            repeated.warning(
                "connecting_failed",
                consumer=consumer,
                channel=receiver.name,
                error=error_text(error),
                varying={"retry_in": round(delay, 1)},
            )
            await _unless(stop, asyncio.sleep(delay), receiver.name, consumer)
    return None


async def close(receiver: Receiver) -> None:
    """Close the receiver in at most 10 seconds; a service that is away must not hold up the end, or fail it."""
    closing = asyncio.ensure_future(receiver.aclose())
    try:
        await asyncio.wait((closing,), timeout=_CLOSE_S)
    finally:
        if not closing.done():
            closing.cancel()
            _log.warning("close_timed_out", channel=receiver.name, seconds=_CLOSE_S)
    if closing.done() and not closing.cancelled() and (error := closing.exception()) is not None:
        _log.warning("close_failed", channel=receiver.name, error=error_text(error))


async def _unless(stop: asyncio.Event, work: Awaitable[None], channel: str, consumer: str) -> bool:
    """Do the work, or cancel it as soon as ``stop`` is set; return whether it was done."""
    working = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    loop = asyncio.get_running_loop()
    began, report_after = loop.time(), _REPORT_S
    try:
        while not working.done() and not stop.is_set():
            await asyncio.wait((working, stopping), timeout=report_after, return_when=asyncio.FIRST_COMPLETED)
            if not working.done() and not stop.is_set():
                _log.warning(
                    "still_connecting", consumer=consumer, channel=channel, seconds=round(loop.time() - began, 1)
                )
                report_after *= 2
        if working.done():
            await working
            return True
        return False
    finally:
        stopping.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait((working,), timeout=1.0)
