"""When a failed message is tried again: exponential backoff with full jitter.

Full jitter spreads the retries of many messages evenly, so that they do not come back as one wave
("Exponential Backoff and Jitter", AWS Architecture Blog, 2015).
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from eip._checks import check_integer
from eip.errors import ConfigurationError

__all__ = ["Backoff"]

_MAX_CAP_S = 43_200


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Delays between attempts: uniformly random up to ``base`` times ``factor`` per earlier attempt, at most ``cap``.

    Args:
        base: upper bound of the first delay, seconds.
        factor: growth per attempt.
        cap: upper bound of any delay, seconds; at most 12 hours, SQS's longest visibility timeout.
        max_attempts: after so many attempts the consumer dead-letters the message, where it has a dead-letter channel;
            None: as often as the channel hands it out. A queue's own maxReceiveCount is a limit of attempts as well.
    """

    base: float = 1.0
    factor: float = 2.0
    cap: float = 300.0
    max_attempts: int | None = None

    def __post_init__(self) -> None:
        """Validate the parameters."""
        for name, value, least, most in (
            ("base", self.base, 0, math.inf),
            ("factor", self.factor, 1, math.inf),
            ("cap", self.cap, 0, _MAX_CAP_S),
        ):
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError(f"{name} must be a number, got {value!r}")
            if not least <= value <= most:
                raise ConfigurationError(f"{name} must be {least} to {most:,}, got {value!r}")
        if self.max_attempts is not None:
            check_integer("max_attempts", self.max_attempts, least=1)

    def ceiling(self, attempt: int) -> float:
        """The longest delay after the given attempt (from 1), in seconds."""
        return min(self.cap, self.base * self.factor ** max(min(attempt - 1, 64), 0)) if self.base else 0.0

    def delay(self, attempt: int) -> float:
        """A random delay after the given attempt (from 1), in seconds."""
        return random.uniform(0.0, self.ceiling(attempt))
