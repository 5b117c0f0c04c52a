"""Message groups inside one consumer: one delivery of a group at a time, in the order received."""

from __future__ import annotations

from collections import deque

from eip.channels import Delivery

__all__ = ["Lanes"]


class Lanes:
    """Which groups are busy, and what waits behind their heads."""

    __slots__ = ("_tails", "waiting")

    def __init__(self) -> None:
        self._tails: dict[str, deque[Delivery] | None] = {}
        self.waiting = 0
        """How many deliveries wait behind the head of their group."""

    def enter(self, group: str, delivery: Delivery) -> bool:
        """Whether the delivery is the head of its group and may start; otherwise it waits."""
        if group not in self._tails:
            self._tails[group] = None
            return True
        tail = self._tails[group]
        if tail is None:
            tail = self._tails[group] = deque()
        tail.append(delivery)
        self.waiting += 1
        return False

    def leave(self, group: str) -> Delivery | None:
        """The head is done: the next one, which is the head now, or None and the group is idle."""
        tail = self._tails.get(group)
        if not tail:
            self._tails.pop(group, None)
            return None
        self.waiting -= 1
        return tail.popleft()

    def close(self, group: str) -> list[Delivery]:
        """The head is gone, done or not: the group is idle, and what waited behind it is handed out, oldest first."""
        tail = list(self._tails.pop(group, None) or ())
        self.waiting -= len(tail)
        return tail
