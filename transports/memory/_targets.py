"""Delivers events to the targets of rules: queues, topics, streams and other buses, with EventBridge's retries."""

from __future__ import annotations

import asyncio
import hashlib
from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from eip import clock
from eip._logging import get_logger
from eip.channels import Bus, Sender
from eip.codec import dump_json
from eip.errors import ChannelNotFound, EipError, TransportError
from eip.matching import InputTransformer
from eip.message import Message
from eip.retry import Backoff
from eip.topology import TargetSpec
from eip.topology.names import is_fifo
from eip.topology.targets import TargetKind
from eip.transports._event_format import message_of, read_event, undelivered
from eip.transports.memory._rule import Rule, RuleTarget
from eip.transports.memory.queue import MemoryQueue
from eip.transports.memory.topic import MemoryTopic

__all__ = ["RoutingBus", "Targets"]

_log = get_logger("eip.memory")
_RETRY_BACKOFF: Final = Backoff(base=1.0, cap=300.0)
_MAX_RETRYING: Final = 10_000
"""Deliveries that wait to be tried again; beyond them they go to the dead-letter queue at once."""


class RoutingBus(Bus):
    """A bus that can be a target."""

    system = "memory"

    @abstractmethod
    async def route(self, event: Mapping[str, Any], *, rules: Collection[str] = (), forwarded: bool = False) -> None:
        """Give an event to the bus's rules; ``forwarded``: from another bus."""


class Targets:
    """The targets of one bus's rules.

    Args:
        bus: the bus's name, for logs.
        find: returns the transport's channel of a kind and name; None if there is none.
    """

    def __init__(self, bus: str, find: Callable[[str, str], Sender | None]) -> None:
        self._bus, self._find = bus, find
        self._retrying: set[asyncio.Task[None]] = set()

    async def deliver(self, rule: Rule, event: Mapping[str, Any], *, forwarded: bool) -> None:
        """Send an event to all targets of a rule; what fails for the moment is retried in the background."""
        for target in list(rule.targets.values()):
            try:
                if not self._send_nowait(target, event):
                    await self._send(rule, target, event, forwarded=forwarded)
            except EipError as error:
                if not getattr(error, "transient", False) or len(self._retrying) >= _MAX_RETRYING:
                    await self._give_up(rule, target, event, _code(error), error, attempts=0)
                    continue
                retry = self._retry(rule, target, event, error, forwarded=forwarded)
                task = asyncio.create_task(retry, name=f"{target.declared.id} retry")
                self._retrying.add(task)
                task.add_done_callback(self._retrying.discard)

    def _send_nowait(self, target: RuleTarget, event: Mapping[str, Any]) -> bool:
        """Put the event into a queue that has room, which most targets are; return whether the target is one."""
        if not target.is_plain:
            return False
        queue = self._find("queue", target.channel)
        return isinstance(queue, MemoryQueue) and queue.send_nowait(message_of(event)[0])

    async def _send(self, rule: Rule, target: RuleTarget, event: Mapping[str, Any], *, forwarded: bool) -> None:
        kind = target.kind
        channel = self._find(kind, target.channel)
        if channel is None:
            raise ChannelNotFound(f"there is no {kind} {target.channel}")
        if kind == "bus" and isinstance(channel, RoutingBus):
            if forwarded:  # "cannot route events received from a sender event bus to a third" (user guide)
                self._log_dropped(rule, target, "it came from another bus, and is not forwarded again")
            else:
                await channel.route(event, forwarded=True)
            return
        text = None if target.transformer is None else target.transformer.transform(event)
        if target.transformer is not None and text is None:
            self._log_dropped(rule, target, "its transformed input is not JSON")
        elif kind == "topic" and isinstance(channel, MemoryTopic):
            await channel.publish_event(text or dump_json(dict(event)).decode())
        else:
            await channel.send(_message(text, target.declared, kind, event))

    def _log_dropped(self, rule: Rule, target: RuleTarget, reason: str) -> None:
        where = {"channel": self._bus, "rule": rule.declared.name, "target": target.declared.id}
        _log.warning("event_dropped", **where, reason=reason)

    async def _retry(
        self, rule: Rule, target: RuleTarget, event: Mapping[str, Any], error: Exception, *, forwarded: bool
    ) -> None:
        """Retry within the target's limits of attempts and age."""
        limits, attempts = target.declared, 0
        until = clock.now() + limits.max_age.total_seconds()
        while attempts < limits.max_attempts and clock.now() + (delay := _RETRY_BACKOFF.delay(attempts + 1)) <= until:
            attempts += 1
            await asyncio.sleep(delay)
            try:
                await self._send(rule, target, event, forwarded=forwarded)
            except Exception as failure:  # noqa: BLE001 - whatever it is, the event is not lost silently
                error = failure
                if not getattr(failure, "transient", False):
                    break
            else:
                return
        await self._give_up(rule, target, event, _code(error), error, attempts=attempts)

    async def refuse(self, rule: Rule, event: Mapping[str, Any], error: Exception) -> None:
        """Give up an event for all targets of a rule whose predicate fails on it."""
        for target in rule.targets.values():
            await self._give_up(rule, target, event, "FILTER_FAILED", error, attempts=0)

    async def _give_up(
        self, rule: Rule, target: RuleTarget, event: Mapping[str, Any], code: str, error: Exception, *, attempts: int
    ) -> None:
        """Move the event to the target's dead-letter queue with the reason; without one, log and drop it."""
        name, declared = rule.declared.name, target.declared
        dead_letters = None if declared.dead_letters is None else self._find("queue", declared.dead_letters)
        if dead_letters is None:
            _log.error("event_not_delivered", channel=self._bus, rule=name, target=declared.id, error=str(error))
            return
        message = message_of(event)[0]
        await dead_letters.send(undelivered(message, rule=name, reason=f"{code}: {error}", attempts=attempts))

    async def aclose(self) -> None:
        """End the retries."""
        for task in self._retrying:
            task.cancel()
        if self._retrying:
            await asyncio.wait(self._retrying)


def _message(text: str | None, target: TargetSpec, kind: TargetKind, event: Mapping[str, Any]) -> Message[Any]:
    """Return the message for a target: of the transformed input, or of the event as it is.

    Args:
        text: the transformed input; None: there is no transformer.
        target: the queue or stream.
        kind: of its channel.
        event: as routed.
    """
    parsed = event if text is None else read_event(text)
    message = Message.received((text or "").encode()) if parsed is None else message_of(parsed)[0]
    if target.group_id is not None:  # the service deduplicates by what it sends, the event's id included
        sent = dump_json(dict(event)) if text is None else text.encode()
        digest = hashlib.sha256(sent).hexdigest() if is_fifo(target.name) else None
        return message.replace(group_id=target.group_id, deduplication_id=digest)
    if kind != "stream":
        return message
    if target.partition_key is None:
        return message.replace(group_id=message.group_id or message.id)
    found = InputTransformer(path=target.partition_key).transform(event)
    return message.replace(group_id=(found or message.id).strip('"'))


def _code(error: Exception) -> str:
    """Return EventBridge's code of the error in a dead-letter queue."""
    if isinstance(error, ChannelNotFound):
        return "NO_RESOURCE"
    return "ERROR_FROM_TARGET" if isinstance(error, TransportError) else "INVALID_PARAMETER"
