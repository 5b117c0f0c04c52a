"""moto's server with one repair: a FIFO group whose leases have lapsed comes again from its head.

moto 5.2.5 counts messages of lapsed leases as pending until it comes upon each; having several of a group, it hands out
the last one first. SQS keeps the order ("FIFO delivery logic", Amazon SQS Developer Guide).
"""

from __future__ import annotations

from moto.server import main
from moto.sqs.models import Queue


def _groups_on_lease(queue: Queue) -> set[str]:
    return {each.group_id for each in queue.pending_messages if each.group_id is not None and not each.visible}


if __name__ == "__main__":
    Queue.pending_message_groups = property(_groups_on_lease)  # type: ignore[assignment]
    main()
