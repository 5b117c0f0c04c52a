"""Heart-beats of one connection, both ways. Source: STOMP 1.2, "Heart-beating"."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from eip.transports.activemq._stomp.frames import ProtocolError

__all__ = ["Heartbeats"]

_MAX_SILENT_INTERVALS: Final = 3.0
"""Intervals of silence after which the broker counts as dead. ActiveMQ looks once per interval, so two are normal."""


class Heartbeats:
    """Sends ends of lines while nothing else is sent, and notices a broker that is silent.

    Args:
        interval: seconds between heart-beats, ours and the broker's; 0: none.
        max_blocked: seconds of our silence that the broker is asked to accept.
        beat: writes one end of line.
        on_silence: called with the seconds of silence once the broker counts as dead.
    """

    def __init__(
        self, *, interval: float, max_blocked: float, beat: Callable[[], None], on_silence: Callable[[float], None]
    ) -> None:
        self.interval, self.max_blocked = interval, max_blocked
        self._beat_now, self._on_silence = beat, on_silence
        self._time = asyncio.get_running_loop().time
        self.last_read = self._last_write = self._last_check = self._time()
        self._last_write_at = time.monotonic()
        """`_last_write` by a clock that other threads may read."""
        self.are_expected = False
        """Whether the broker sends them."""
        self._beating: asyncio.TimerHandle | None = None
        self._checking: asyncio.TimerHandle | None = None

    @property
    def header(self) -> str:
        """The heart-beat header of CONNECT: what we promise, and what we ask for, in milliseconds."""
        if not self.interval:
            return "0,0"
        return f"{round(max(self.interval, self.max_blocked) * 1000)},{round(self.interval * 1000)}"

    def start(self, header: str) -> None:
        """Begin, with the heart-beat header of the broker's CONNECTED; raises `ProtocolError` if malformed."""
        offered, asked_for = _intervals(header)
        if self.interval and asked_for:
            self._beat()
        self.are_expected = bool(self.interval and offered)
        if self.are_expected:
            self._check(max(self.interval, offered))

    def stop(self) -> None:
        """End the timers."""
        for timer in (self._beating, self._checking):
            if timer is not None:
                timer.cancel()

    def received(self) -> float:
        """Note that bytes came; return the loop's time."""
        self.last_read = self._time()
        return self.last_read

    def sent(self) -> None:
        """Note that bytes were written."""
        self._last_write = self._time()
        self._last_write_at = time.monotonic()

    @property
    def is_promise_kept(self) -> bool:
        """Whether our silence is still shorter than promised; any thread may ask."""
        return time.monotonic() - self._last_write_at < self.max_blocked

    def _beat(self) -> None:
        """Write an end of line where nothing else was written meanwhile."""
        # Much more often than promised: only a blocked event loop uses the time that `max_blocked` allows.
        period = self.interval / 2
        if self._time() - self._last_write >= period * 0.9:
            self._beat_now()
        self._beating = asyncio.get_running_loop().call_later(period, self._beat)

    def _check(self, interval: float) -> None:
        now = self._time()
        silent = now - self.last_read
        # A loop that was blocked has not read: what came meanwhile is read before the broker counts as silent.
        was_blocked, self._last_check = now - self._last_check > interval * 1.5, now
        if silent > interval * _MAX_SILENT_INTERVALS and not was_blocked:
            self._on_silence(silent)
            return
        self._checking = asyncio.get_running_loop().call_later(interval, self._check, interval)


def _intervals(header: str) -> tuple[float, float]:
    """Return the seconds between the heart-beats that the broker offers, and asks for."""
    try:
        offered, asked_for = (int(each) / 1000 for each in header.split(","))
    except (ValueError, OverflowError):
        raise ProtocolError(f"heart-beat is not two numbers: {header[:40]!r}") from None
    if offered < 0 or asked_for < 0:
        raise ProtocolError(f"heart-beat is negative: {header[:40]!r}")
    return offered, asked_for
