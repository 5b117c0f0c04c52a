"""Leases: which worker of a group reads which shard, and how far the group is.

A lease is a record of an `eip.stores.Store` under ``stream/group/shard``. Each write is conditional on the version read
or written last, so a worker that lost a shard without knowing cannot move its checkpoint: the write is refused. No
clocks are compared: a lease has expired when another worker saw it unchanged for the whole failover time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson

from eip import clock
from eip._logging import get_logger
from eip._repeated import RepeatedLines
from eip.codec import load_json
from eip.errors import ConfigurationError, StoreError
from eip.stores.base import ABSENT, Store
from eip.streams.log import HORIZON, Position, Shard

__all__ = ["Beginning", "Lease", "LeaseTable"]

_repeated = RepeatedLines(get_logger("eip.streams"))

_MAX_READS: Final = 16
"""Reads of the store under way at once."""
_RETENTION_S: Final = 400 * 86_400.0
"""Seconds that the lease of an ended shard is kept: longer than any stream keeps its records."""


_VERSION: Final = 1
"""Of the stored form. A newer version adds fields and keeps the meaning of these."""
_OPTIONAL: Final[Mapping[str, type | tuple[type, ...]]] = {
    "owner": str,
    "wanted_by": str,
    "ended": bool,
    "ahead": list,
    "read_until": (int, float),
}
_KNOWN: Final = frozenset(("v", "position", "epoch", *_OPTIONAL))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A shard of a group: who reads it, and from where."""

    shard: str
    owner: str | None = None
    position: Position = HORIZON
    """Up to there every record is done."""
    wanted_by: str | None = None
    """The worker that asks its owner for it."""
    epoch: int = 0
    """How often it changed hands: a fencing token that only grows."""
    ended: bool = False
    """The shard was closed and all of it is done."""
    ahead: tuple[str, ...] = ()
    """Records beyond the position that were done when the shard was handed over, see `Window.done_ahead`."""
    read_until: float | None = None
    """The time up to which everything that arrived was done, seconds since the epoch: for the iterator age alone."""
    extensions: Mapping[str, Any] = field(default_factory=dict)
    """Fields of a newer version of this library; they are kept."""
    version: str = ABSENT
    """The store's version of this state."""

    def to_json(self) -> bytes:
        """The stored form."""
        optional = {name: value for name in _OPTIONAL if (value := getattr(self, name))}
        known = {"v": _VERSION, "position": self.position.to_json(), "epoch": self.epoch, **optional}
        return orjson.dumps({**self.extensions, **known})

    @staticmethod
    def from_json(shard: str, raw: bytes, version: str) -> Lease:
        """The inverse of `to_json`; raises `StoreError` where it is malformed."""
        try:
            fields = load_json(raw)
            known = {name: _typed(fields[name], kind) for name, kind in _OPTIONAL.items() if name in fields}
            known["ahead"] = tuple(known.get("ahead", ()))
            return Lease(
                shard=shard,
                position=Position.from_json(fields["position"]),
                epoch=int(fields["epoch"]),
                extensions={name: value for name, value in fields.items() if name not in _KNOWN},
                version=version,
                **known,
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StoreError(
                f"the lease of {shard} cannot be read: {type(error).__name__}: {error}", transient=False
            ) from error


def _typed(value: Any, kind: type | tuple[type, ...]) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r:.80} has the wrong type")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """Where a group starts, and in which shards, as found when it was made."""

    position: Position
    shards: frozenset[str]
    """Those that there were; shards that come later are read from their oldest record."""
    skipped: frozenset[str]
    """Those that were closed already when a group began with the latest record."""

    version: str = ABSENT
    """The store's version of this state; changes when the group begins again."""

    def of(self, shard: str) -> Position:
        """Where the group begins in a shard."""
        return self.position if shard in self.shards else HORIZON


class LeaseTable:
    """The leases of one group of one stream in a store.

    Args:
        store: has them.
        stream: its name.
        group: its name.
        address: of the stream, where others may have its name.
    """

    def __init__(self, store: Store, stream: str, group: str, *, address: str = "") -> None:
        self._store, self._address = store, address
        self._prefix = f"{stream}/{group}"

    async def begin(self, position: Position, shards: Iterable[Shard], *, skip_closed: bool) -> Beginning:
        """How the group begins: as its first worker wrote it, which is this one where there was none."""
        begun = self._beginning(position, shards, skip_closed=skip_closed)
        await self._store.put(self._prefix, begun, version=ABSENT)
        return await self.beginning()

    async def begin_again(self, position: Position, shards: Iterable[Shard], *, skip_closed: bool) -> Beginning:
        """Let the group begin again, at a position."""
        await self._store.put(self._prefix, self._beginning(position, shards, skip_closed=skip_closed))
        return await self.beginning()

    def _beginning(self, position: Position, shards: Iterable[Shard], *, skip_closed: bool) -> bytes:
        known = list(shards)
        skipped = [each.id for each in known if each.closed] if skip_closed else []
        fields = {"position": position.to_json(), "shards": [each.id for each in known], "skipped": skipped}
        stream = {"stream": self._address} if self._address else {}
        return orjson.dumps({"v": _VERSION, **fields, **stream})

    async def beginning(self) -> Beginning:
        """How the group began; raises `StoreError` where it has not, or where that cannot be read."""
        found = await self.find_beginning()
        if found is None:
            raise StoreError(f"the store lost the group {self._prefix}")
        return found

    async def find_beginning(self) -> Beginning | None:
        """How the group began; None where it has not.

        Raises:
            StoreError: where that cannot be read.
            ConfigurationError: the group is of another stream of this name.
        """
        found = await self._store.get(self._prefix)
        if found is None:
            return None
        try:
            fields = load_json(found.value)
            self._check_stream(fields.get("stream"))
            return Beginning(
                position=Position.from_json(fields["position"]),
                shards=frozenset(fields["shards"]),
                skipped=frozenset(fields["skipped"]),
                version=found.version,
            )
        except ConfigurationError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StoreError(
                f"the beginning of the group {self._prefix} cannot be read: {error}", transient=False
            ) from error

    def _check_stream(self, address: str | None) -> None:
        """Two streams have the same ids of shards: each would read what the other left."""
        if address and self._address and address != self._address:
            raise ConfigurationError(
                f"the leases of {self._prefix} are of the stream {address}, and not of {self._address}: "
                "give the group another name, or leases of its own"
            )

    async def get(self, shard: str) -> Lease | None:
        """The shard's lease, None where it was never taken."""
        found = await self._store.get(self._key(shard))
        return None if found is None else Lease.from_json(shard, found.value, found.version)

    async def load(self, shards: Iterable[str]) -> dict[str, Lease]:
        """The existing leases of the shards. One that cannot be read is left alone: its shard is not taken."""
        gate = asyncio.Semaphore(_MAX_READS)

        async def one(shard: str) -> Lease | None:
            async with gate:
                found = await self._store.get(self._key(shard))
            if found is None:
                return None
            try:
                return Lease.from_json(shard, found.value, found.version)
            except StoreError as error:
                _repeated.error("lease_unreadable", group=self._prefix, shard=shard, error=str(error))
                return None

        found = await asyncio.gather(*map(one, shards))
        return {each.shard: each for each in found if each is not None}

    async def write(self, lease: Lease, **changes: Any) -> Lease | None:
        """Write the lease with changes; None where it was changed since it was read. Raises `StoreError`."""
        changed = replace(lease, **changes)
        expires_at = clock.now() + _RETENTION_S if changed.ended else None
        version = await self._store.put(
            self._key(lease.shard), changed.to_json(), version=lease.version, expires_at=expires_at
        )
        return None if version is None else replace(changed, version=version)

    async def reset(self, positions: Mapping[str, Position]) -> None:
        """Move the shards to positions, whoever reads them: their owners lose them at their next write."""
        for shard, position in positions.items():
            while True:
                found = await self._store.get(self._key(shard))
                fresh = Lease(shard=shard, position=position)
                if found is not None:
                    fresh = replace(fresh, epoch=_epoch_of(found.value) + 1, version=found.version)
                if await self.write(fresh) is not None:
                    break

    def _key(self, shard: str) -> str:
        return f"{self._prefix}/{shard}"


def _epoch_of(raw: bytes) -> int:
    """The epoch of a lease, 0 of one that cannot be read."""
    try:
        return Lease.from_json("", raw, ABSENT).epoch
    except StoreError:
        return 0
