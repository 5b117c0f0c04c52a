"""Consuming partitioned logs as a group: leases, checkpoints, keyed order; the same for every log.

A driver implements `Log` (what shards there are, and a cursor over each). Everything that makes workers a group is
here: who reads which shard (`LeaseTable`, on any `eip.stores.Store`), how far its records are done (`Window`), handing
over, resharding. A group is a `Source` for `eip.Consumer`, one message at a time, and for `BatchConsumer`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eip._lazy import export_lazily

if TYPE_CHECKING:
    from eip.streams.batches import BatchConsumer as BatchConsumer
    from eip.streams.batches import BatchFailure as BatchFailure
    from eip.streams.diagnosis import Diagnosis as Diagnosis
    from eip.streams.diagnosis import diagnose as diagnose
    from eip.streams.group import ShardStatus as ShardStatus
    from eip.streams.group import StreamGroup as StreamGroup
    from eip.streams.leases import Lease as Lease
    from eip.streams.leases import LeaseTable as LeaseTable
    from eip.streams.log import Cursor as Cursor
    from eip.streams.log import Log as Log
    from eip.streams.log import Page as Page
    from eip.streams.log import Position as Position
    from eip.streams.log import Record as Record
    from eip.streams.log import Shard as Shard
    from eip.streams.log import Start as Start
    from eip.streams.metrics import export_iterator_age as export_iterator_age
    from eip.streams.options import GroupOptions as GroupOptions
    from eip.streams.subkeys import KeySubdivider as KeySubdivider

__all__ = [
    "BatchConsumer",
    "BatchFailure",
    "Cursor",
    "Diagnosis",
    "GroupOptions",
    "KeySubdivider",
    "Lease",
    "LeaseTable",
    "Log",
    "Page",
    "Position",
    "Record",
    "Shard",
    "ShardStatus",
    "Start",
    "StreamGroup",
    "diagnose",
    "export_iterator_age",
]

# A Lambda function that reads records loads no leases and no stores.
export_lazily(
    __name__,
    {
        **dict.fromkeys(("BatchConsumer", "BatchFailure"), f"{__name__}.batches"),
        **dict.fromkeys(("Diagnosis", "diagnose"), f"{__name__}.diagnosis"),
        **dict.fromkeys(("ShardStatus", "StreamGroup"), f"{__name__}.group"),
        **dict.fromkeys(("Lease", "LeaseTable"), f"{__name__}.leases"),
        **dict.fromkeys(("Cursor", "Log", "Page", "Position", "Record", "Shard", "Start"), f"{__name__}.log"),
        "export_iterator_age": f"{__name__}.metrics",
        "GroupOptions": f"{__name__}.options",
        "KeySubdivider": f"{__name__}.subkeys",
    },
)
