"""moto's server with two repairs, in less time: FIFO queues keep the order, and conditional writes are atomic.

SQS keeps the order as "FIFO delivery logic" of its Developer Guide has it.

moto 5.2.5 looks once, at the start of a long poll, which message groups are on lease, so that a waiting poll is given
the second message of a group whose first was just handed to another; and where leases of a group lapse it may hand out
a later message first, as it looks at the clock anew for each. Here a long poll is many short ones, one at a time, each
at one moment.

And a long poll that finds nothing lasts half its time: nothing depends on its length, and consumers that end wait for
theirs.

DynamoDB's writes are atomic; moto 5.2.5 checks the condition of a write in one step and writes in another, so that of
two requests that meet both may succeed, and one is lost.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

from moto.core.utils import unix_time_millis
from moto.dynamodb.models import DynamoDBBackend
from moto.server import main
from moto.sqs import models

_POLL_SHARE = 0.55
"""More than half a second of a second: what ends earlier is not taken for a long poll."""

_one_at_a_time = threading.Lock()
_moment = threading.local()
_receive = models.SQSBackend.receive_message

_one_write = threading.RLock()
"""Reentrant: writes of a transaction write by the same methods."""
_WRITES = ("put_item", "update_item", "delete_item", "transact_write_items")


def _now() -> float:
    moment: float | None = getattr(_moment, "at", None)
    return unix_time_millis() if moment is None else moment


def _receive_in_order(
    self: models.SQSBackend, queue_name: str, count: int, wait_seconds_timeout: int, *options: Any, **more: Any
) -> list[models.Message]:
    until = time.monotonic() + wait_seconds_timeout * _POLL_SHARE
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


def _atomic(write: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(write)
    def locked(*args: Any, **kwargs: Any) -> Any:
        with _one_write:
            return write(*args, **kwargs)

    return locked


if __name__ == "__main__":
    for each in _WRITES:
        setattr(DynamoDBBackend, each, _atomic(getattr(DynamoDBBackend, each)))
    models.SQSBackend.receive_message = _receive_in_order
    vars(models)["unix_time_millis"] = _now
    main()
