"""The subscriptions of an embedded topic, found by what their filter policies ask for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from eip.channels import Filter
from eip.errors import DecodeError
from eip.matching import FilterPolicy, RuleSet, as_predicate
from eip.matching.filter_policy import attributes_tree
from eip.matching.predicate import plain_body
from eip.message import Message
from eip.transports.memory.queue import MemoryQueue

__all__ = ["Subscription", "Subscriptions"]


class Subscription:
    """A queue, and the filter of what it gets.

    Args:
        queue: gets the messages.
        filter: None: all messages.
        dead_letters: gets the messages that the filter fails on.
    """

    def __init__(self, queue: MemoryQueue, filter: Filter | None, dead_letters: MemoryQueue | None) -> None:  # noqa: A002 - the field's term
        self.queue, self.filter, self.dead_letters = queue, filter, dead_letters
        self.predicate = None if filter is None or isinstance(filter, FilterPolicy) else as_predicate(filter)
        """What is asked for each message, where no index can hold the filter."""


class Subscriptions:
    """Subscriptions by name. A message is matched with all filter policies at once, not with one after the other."""

    def __init__(self) -> None:
        self.by_name: dict[str, Subscription] = {}
        self._order: dict[str, int] = {}
        self._unindexed: dict[str, None] = {}
        """Those without a policy."""
        self._attributes, self._bodies = RuleSet(), RuleSet()
        self._added = 0

    def put(self, name: str, subscription: Subscription) -> None:
        """Add a subscription, or replace the one of that name."""
        self.remove(name)
        self._added += 1
        self.by_name[name], self._order[name] = subscription, self._added
        policy = subscription.filter
        if not isinstance(policy, FilterPolicy) or policy.matcher is None:
            self._unindexed[name] = None
        elif policy.scope == "MessageAttributes":
            self._attributes.add_compiled(name, policy.matcher)
        else:
            self._bodies.add_compiled(name, policy.matcher)

    def remove(self, name: str) -> None:
        """Remove the subscription of that name, if there is one."""
        if self.by_name.pop(name, None) is not None:
            del self._order[name]
            self._unindexed.pop(name, None)
            self._attributes.remove(name)
            self._bodies.remove(name)

    def matching(self, message: Message[Any]) -> list[Subscription]:
        """Return those whose policy accepts the message, and those with a predicate, the oldest first."""
        names = sorted((*self._unindexed, *self._accepting(message)), key=self._order.__getitem__)
        return [self.by_name[name] for name in names]

    def _accepting(self, message: Message[Any]) -> Iterator[str]:
        if message.attributes and len(self._attributes):
            yield from self._attributes.match(attributes_tree(message.attributes))
        if len(self._bodies):
            try:
                body = plain_body(message)
                yield from self._bodies.match(body) if isinstance(body, (Mapping, str)) else ()
            except DecodeError:
                return
