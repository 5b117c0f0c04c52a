"""How long the channels of one embedded transport can be used."""

from __future__ import annotations

from eip.errors import StateError

__all__ = ["Lifetime"]


class Lifetime:
    """Shared by a transport and its channels; ends when the transport is closed."""

    def __init__(self) -> None:
        self.ended = False

    def check_open(self) -> None:
        """Raise `StateError` once it ended."""
        if self.ended:
            raise StateError("the MemoryTransport is closed: make a new one, and use it inside its `async with`")
