"""When a failed message is tried again: exponential backoff with full jitter.

Full jitter spreads the retries of many messages evenly, so that they do not come back as one wave
("Exponential Backoff and Jitter", AWS Architecture Blog, 2015).
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from eip._checks import check_duration, check_integer
from eip.clock import Duration, seconds
from eip.errors import ConfigurationError

__all__ = ["Backoff"]

_MAX_EXPONENT = 64
"""Of the factor; beyond it every cap is reached."""
_MAX_FACTOR = 10_000
"""To the power of `_MAX_EXPONENT` it is still a float."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Delays between attempts: uniformly random up to ``base`` times ``factor`` per earlier attempt, at most ``cap``.

    Args:
        base: upper bound of the first delay, in seconds or as timedelta; 0: no delay.
        factor: growth per attempt, 1 to 10,000.
        cap: upper bound of any delay. A channel that cannot wait for so long waits as long as it can.
        max_attempts: number of attempts after which the consumer dead-letters the message, where it has a channel for
            that; None: as often as the channel hands it out. A queue's own maxReceiveCount limits attempts as well.

    Raises:
        TypeError: a value of the wrong type.
        ConfigurationError: a value out of range.
    """

    base: Duration = 1.0
    factor: float = 2.0
    cap: Duration = 300.0
    max_attempts: int | None = None

    def __post_init__(self) -> None:
        """Validate the parameters."""
        for name, value in (("base", self.base), ("cap", self.cap)):
            if check_duration(name, value) == math.inf:
                raise ConfigurationError(f"{name} must be finite, got {value!r}")
        if isinstance(self.factor, bool) or not isinstance(self.factor, (int, float)):
            raise TypeError(f"factor must be a number, got {self.factor!r}")
        if not 1 <= self.factor <= _MAX_FACTOR:
            raise ConfigurationError(f"factor must be 1 to {_MAX_FACTOR:,}, got {self.factor!r}")
        if self.max_attempts is not None:
            check_integer("max_attempts", self.max_attempts, least=1)

    def ceiling(self, attempt: int) -> float:
        """The longest delay after the given attempt (from 1), in seconds."""
        base, exponent = seconds(self.base), max(min(attempt - 1, _MAX_EXPONENT), 0)
        return min(seconds(self.cap), base * self.factor**exponent) if base else 0.0

    def delay(self, attempt: int) -> float:
        """A random delay after the given attempt (from 1), in seconds."""
        return random.uniform(0.0, self.ceiling(attempt))
