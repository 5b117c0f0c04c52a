"""When a failed message is tried again: exponential backoff with full jitter.

Full jitter spreads the retries of many messages evenly, so that they do not come back as one wave
("Exponential Backoff and Jitter", AWS Architecture Blog, 2015).
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from eip.errors import ConfigurationError

__all__ = ["Backoff"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Delays between attempts: uniformly random up to ``base`` times ``factor`` per earlier attempt, at most ``cap``.

    Args:
        base: upper bound of the first delay, seconds.
        factor: growth per attempt.
        cap: upper bound of any delay, seconds; at most 12 hours, SQS's longest visibility timeout.
        max_attempts: after so many receives the consumer dead-letters the message itself, where it has a dead-letter
            channel; None: as often as the channel hands it out (a queue's own maxReceiveCount still counts).
    """

    base: float = 1.0
    factor: float = 2.0
    cap: float = 300.0
    max_attempts: int | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no backoff."""
        if self.base < 0 or self.factor < 1 or not 0 <= self.cap <= 43_200:
            raise ConfigurationError("a backoff wants base >= 0, factor >= 1 and 0 <= cap <= 43,200 seconds")
        if self.max_attempts is not None and self.max_attempts < 1:
            raise ConfigurationError("max_attempts is at least 1")

    def ceiling(self, attempt: int) -> float:
        """The longest delay after the given attempt (from 1), in seconds."""
        return min(self.cap, self.base * self.factor ** min(attempt - 1, 64)) if self.base else 0.0

    def delay(self, attempt: int) -> float:
        """A random delay after the given attempt (from 1), in seconds."""
        return random.uniform(0.0, self.ceiling(attempt))
