"""Bounds the time that one frame takes to arrive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from eip.transports.activemq._stomp.parser import Parser

__all__ = ["FrameTimeout"]

_MAX_STALL_S: Final = 10.0
"""Seconds without more of a frame that has begun, after which its end is not expected any more.

A broker that stalls in the middle of a frame, or a network that does, sends no heart-beat either; where the frame is
whole to the broker, it sends one after the other.
"""
_MAX_BEAT_BYTES: Final = 8
"""Of a read that may be heart-beats only."""
_MAX_FRAME_S: Final = 300.0
"""Seconds that one frame may take to arrive."""


class FrameTimeout:
    """Reports a frame that has begun and does not end: a wrong content-length would hold up all that follows.

    Args:
        parser: reads the frames.
        on_timeout: called with the reason.
        expects_beats: returns whether the broker sends heart-beats.
    """

    def __init__(self, parser: Parser, on_timeout: Callable[[str], None], *, expects_beats: Callable[[], bool]) -> None:
        self._parser, self._on_timeout, self._expects_beats = parser, on_timeout, expects_beats
        self._time = asyncio.get_running_loop().time
        self._last_data = 0.0
        """When bytes other than a heart-beat came last."""
        self._beaten = False
        """Whether heart-beats came since."""
        self._frames = 0
        self._timer: asyncio.TimerHandle | None = None

    def fed(self, data: bytes, frames: int) -> None:
        """Note that the parser was fed ``data``, and that so many frames ended in it."""
        self._frames += frames
        self._beaten = len(data) < _MAX_BEAT_BYTES and not data.strip(b"\r\n")
        if not self._beaten:
            self._last_data = self._time()
        if self._timer is None and not self._parser.idle:
            self._watch(self._time())

    def stop(self) -> None:
        """End the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _watch(self, since: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(_MAX_STALL_S, self._check, since, self._frames)

    def _check(self, since: float, frames: int) -> None:
        self._timer = None
        now = self._time()
        if self._parser.failed or self._parser.idle:
            return
        if self._frames != frames:  # another frame has begun since
            self._watch(now)
        elif not self._is_stalled(now) and now - since < _MAX_FRAME_S:
            self._watch(since)
        else:
            self._on_timeout(f"the end of a frame did not come within {now - since:.0f} s")

    def _is_stalled(self, now: float) -> bool:
        return now - self._last_data >= _MAX_STALL_S and (self._beaten or not self._expects_beats())
