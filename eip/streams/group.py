"""A stream as read by one group: the source of its consumers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NamedTuple

from typing_extensions import override

from eip._checks import check_name
from eip.channels import Receiver, Sender, Source
from eip.errors import StoreError
from eip.health import Health
from eip.stores.base import Store
from eip.streams._membership import Membership
from eip.streams._receiver import StreamReceiver
from eip.streams.leases import LeaseTable
from eip.streams.log import HORIZON, Log, Position, Start
from eip.streams.options import GroupOptions

__all__ = ["ShardStatus", "StreamGroup"]


class ShardStatus(NamedTuple):
    """A shard that a worker of this process holds."""

    shard: str
    iterator_age: float
    """Seconds since the arrival of the oldest record that is not done."""
    held: int
    """Records read and not done."""
    checkpoint: Position
    """Up to there everything is done."""
    missed: int
    """Records that fell out of the stream before they were read, where the log can tell."""
    health: Health
    """Whether it is read: since when not, and why."""


class StreamGroup(Source):
    """A stream as read by the named group; any number of workers in any number of processes share its shards.

    Delivery is at-least-once: what was done after the last checkpoint is done again where a worker dies, and where a
    shard is taken from one that went silent. A shard that is handed over in good order brings no duplicates.

    Args:
        log: the stream.
        name: of the group; groups are independent of each other.
        leases: where leases are kept, or what opens it when first needed.
        start: where the group begins where it is new: its first worker decides.
        options: timing and bounds.
        dead_letters: where consumers send what they give up.
    """

    def __init__(
        self,
        log: Log,
        name: str,
        *,
        leases: Store | Callable[[], Awaitable[Store]],
        start: Start = "latest",
        options: GroupOptions | None = None,
        dead_letters: Sender | None = None,
    ) -> None:
        check_name(name)
        log.position(start)  # raises for a place that the log cannot begin at
        self.name = f"{log.name}/{name}"
        self.group, self.log = name, log
        self.start: Start = start
        self.options = options or GroupOptions()
        self.dead_letters = dead_letters
        self.members = Membership(log, name, leases=leases, start=start, options=self.options)
        """The workers in this process: what a consumer joins."""

    @override
    def receiver(self, *, capacity: int = 10) -> Receiver:
        """A worker of the group that hands out one message of a partition key at a time."""
        return StreamReceiver(self.members, name=self.name, dead_letters=self.dead_letters, capacity=capacity)

    @property
    def shards(self) -> list[ShardStatus]:
        """The shards that the workers in this process hold."""
        return [
            ShardStatus(
                each.shard, each.age, len(each.window), each.window.checkpoint, each.missed, each.health.health()
            )
            for each in self.members.held
        ]

    @property
    def iterator_age(self) -> float:
        """Seconds since the arrival of the oldest record that is not done, of the shards held here; 0 with none."""
        return max((each.iterator_age for each in self.shards), default=0.0)

    async def checkpoints(self) -> dict[str, Position]:
        """By shard, up to where everything is done, as the store has it."""
        leases = await (await self.table()).load(each.id for each in await self.log.shards())
        return {shard: lease.position for shard, lease in leases.items()}

    async def seek(self, start: Start) -> None:
        """Read again from a place, whoever reads now: workers lose their shards and take them up from there.

        Also the way on where the stream was deleted and made again, and the checkpoints are those of the old one.

        Raises:
            ConfigurationError: the leases are of a group of another stream of this name.
        """
        table = await self.table()
        with suppress(StoreError):  # one that cannot be read is written again
            await table.find_beginning()
        shards = await self.log.shards()
        place = self.log.position(start)
        latest = start == "latest"
        await table.reset(
            {each.id: HORIZON if start == "trim_horizon" else place for each in shards if not (latest and each.closed)}
        )
        await table.begin_again(place, shards, skip_closed=latest)

    def health(self) -> Health:
        """Whether the workers in this process read their shards and keep their leases; ok without a worker."""
        return self.members.health()

    async def table(self) -> LeaseTable:
        """The group's leases."""
        return await self.members.table()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} shards={len(self.shards)}>"
