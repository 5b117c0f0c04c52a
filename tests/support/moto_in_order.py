"""moto's server with its FIFO queues repaired, as SQS keeps the order ("FIFO delivery logic", SQS Developer Guide).

moto 5.2.5 looks once, at the start of a long poll, which message groups are on lease, so that a waiting poll is given
the second message of a group whose first was just handed to another; and where leases of a group lapse it may hand out
a later message first, as it looks at the clock anew for each. Here a long poll is many short ones, one at a time, each
at one moment.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from moto.core.utils import unix_time_millis
from moto.server import main
from moto.sqs import models

_one_at_a_time = threading.Lock()
_moment = threading.local()
_receive = models.SQSBackend.receive_message


def _now() -> float:
    moment: float | None = getattr(_moment, "at", None)
    return unix_time_millis() if moment is None else moment


def _receive_in_order(
    self: models.SQSBackend, queue_name: str, count: int, wait_seconds_timeout: int, *options: Any, **more: Any
) -> list[models.Message]:
    until = time.monotonic() + wait_seconds_timeout
    while True:
        with _one_at_a_time:
            _moment.at = unix_time_millis()
            try:
                pending = self.get_queue(queue_name).pending_messages
                pending.difference_update([each for each in pending if each.visible])
                received: list[models.Message] = _receive(self, queue_name, count, 0, *options, **more)
            finally:
                _moment.at = None
        if received or time.monotonic() >= until:
            return received
        time.sleep(0.02)


if __name__ == "__main__":
    models.SQSBackend.receive_message = _receive_in_order
    vars(models)["unix_time_millis"] = _now
    main()
