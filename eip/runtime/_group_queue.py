"""Message groups inside one consumer or receiver: one delivery of a group at a time, in the order received."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from eip.channels import Delivery

__all__ = ["GroupQueue"]

_D = TypeVar("_D", bound=Delivery)


class GroupQueue(Generic[_D]):
    """The head of each busy group, and what waits behind it.

    Heads are compared by identity, not by message: after a lost lease the same message may be here a second time, and
    the end of the first delivery must not start what waits behind the second.
    """

    __slots__ = ("_heads", "_tails", "waiting")

    def __init__(self) -> None:
        self._heads: dict[str, _D] = {}
        self._tails: dict[str, deque[_D]] = {}
        self.waiting = 0
        """How many deliveries wait behind the head of their group."""

    def enter(self, group: str, delivery: _D) -> bool:
        """Add a delivery; return whether it is the head of its group and may start. Otherwise it waits."""
        if group not in self._heads:
            self._heads[group] = delivery
            return True
        tail = self._tails.get(group)
        if tail is None:
            tail = self._tails[group] = deque()
        tail.append(delivery)
        self.waiting += 1
        return False

    def leave(self, group: str, head: _D) -> _D | None:
        """Remove a head that is done; return the next one, which is the head now, or None: the group is idle.

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

    def replace_head(self, group: str, head: _D, successor: _D) -> None:
        """Let another delivery of the head's message take its place."""
        if self._heads.get(group) is head:
            self._heads[group] = successor

    def close(self, group: str, head: _D) -> list[_D]:
        """Make the group idle; return what waited behind the head, oldest first.

        Nothing happens where another delivery is the head by now.
        """
        if self._heads.get(group) is not head:
            return []
        del self._heads[group]
        tail = self._tails.pop(group, ())
        self.waiting -= len(tail)
        return list(tail)
