"""Message groups inside one consumer: one delivery of a group at a time, in the order received."""

from __future__ import annotations

from collections import deque

from eip.channels import Delivery

__all__ = ["GroupQueue"]


class GroupQueue:
    """The head of each busy group, and what waits behind it."""

    __slots__ = ("_heads", "_tails", "waiting")

    def __init__(self) -> None:
        self._heads: dict[str, Delivery] = {}
        self._tails: dict[str, deque[Delivery]] = {}
        self.waiting = 0
        """How many deliveries wait behind the head of their group."""

    def enter(self, group: str, delivery: Delivery) -> bool:
        """Whether the delivery is the head of its group and may start; otherwise it waits."""
        if group not in self._heads:
            self._heads[group] = delivery
            return True
        tail = self._tails.get(group)
        if tail is None:
            tail = self._tails[group] = deque()
        tail.append(delivery)
        self.waiting += 1
        return False

    def leave(self, group: str, head: Delivery) -> Delivery | None:
        """The head is done: the next one, which is the head now, or None and the group is idle.

        Nothing happens where the group was closed meanwhile.
        """
        if self._heads.get(group) is not head:
            return None
        tail = self._tails.get(group)
        if tail is None:
            del self._heads[group]
            return None
        following = self._heads[group] = tail.popleft()
        if not tail:
            del self._tails[group]
        self.waiting -= 1
        return following

    def close(self, group: str, head: Delivery) -> list[Delivery]:
        """The head is gone, done or not: the group is idle, and what waited behind it is handed out, oldest first.

        Nothing happens where another delivery is the head by now.
        """
        if self._heads.get(group) is not head:
            return []
        del self._heads[group]
        tail = self._tails.pop(group, ())
        self.waiting -= len(tail)
        return list(tail)
