"""The units that carry messages: messages themselves, or packs as full as the rate fills them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from eip.cost.alternatives import Packing
from eip.cost.profile import Profile
from eip.cost.services import quota

__all__ = ["Load", "carried", "packings"]

_SPARED: Final = 3
"""Bytes that a message takes less in a pack than alone: no name and type of an attribute, but a comma."""
_FRAME: Final = 188
"""Bytes of a pack's own, see `eip.patterns.Packer`."""
_MIN_GAIN: Final = 1.2
"""Of a pack over the next simpler way, in messages held."""


@dataclass(frozen=True, slots=True)
class Load:
    """Messages, or packs of them, on the wire."""

    per_message: float
    """Things on the wire per message: 1, or less where packs hold several."""
    size: float
    """Bytes of one."""

    def units(self, service: str, batch: float, *, each: bool = False) -> float:
        """Billed units per message, ``batch`` to a call; ``each``: every one is billed by itself."""
        unit = quota(service, "unit_bytes")
        if each:
            return self.per_message * math.ceil(self.size / unit)
        return self.per_message * max(1.0, math.ceil(self.size * batch / unit)) / batch


def packings(profile: Profile, service: str, *, fifo: bool) -> Iterator[Packing]:
    """The packings that make a difference: not those whose packs hold hardly more than one message."""
    least = 1.0
    kinds: tuple[Packing, ...] = ("", "packed", "packed, zstd")
    for packing in kinds:
        held = 1 / carried(profile, service, packing, fifo=fifo).per_message
        if not packing or held >= _MIN_GAIN * least:
            yield packing
            least = held


def carried(profile: Profile, service: str, packing: Packing, *, fifo: bool) -> Load:
    """The messages, or their packs as full as the rate fills them in the time they may linger."""
    if not packing:
        return Load(1.0, float(profile.size))
    ratio = profile.compression if packing.endswith("zstd") else 1.0
    entry = max(profile.size - _SPARED, 1) / ratio
    room = quota(service, "unit_bytes") - _FRAME
    lanes = profile.kinds * (profile.groups if fifo else 1)
    held = max(1.0, min(room // entry, 1000, profile.rate * profile.linger / lanes))
    return Load(1 / held, held * entry + _FRAME if held > 1 else float(profile.size))
