"""Which dead letters an operation is about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from eip.console.letters import group_of
from eip.console.subject import DeadLetterQueue
from eip.errors import ConfigurationError, InvalidPattern
from eip.matching import FilterPolicy, as_predicate
from eip.message import Message

__all__ = ["Selection"]

_MAX_IDS: Final = 10_000
_SCOPES: Final = {"attributes": "MessageAttributes", "body": "MessageBody"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Dead letters of a queue: of a group, by their ids, by a filter policy, or all."""

    ids: frozenset[str] | None = None
    group: str | None = None
    policy: FilterPolicy | None = None

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Self:
        """Read ``ids``, ``group``, ``filter`` and ``scope`` (``attributes`` or ``body``) as a browser sends them.

        Raises:
            ConfigurationError: a value that cannot be.
        """
        ids, group, policy = given.get("ids"), given.get("group"), given.get("filter")
        if ids is not None and not (isinstance(ids, list) and ids and all(isinstance(each, str) for each in ids)):
            raise ConfigurationError("ids must be a list of message ids, and not empty")
        if ids is not None and len(ids) > _MAX_IDS:
            raise ConfigurationError(f"ids must be at most {_MAX_IDS:,}, got {len(ids):,}")
        if group is not None and not isinstance(group, str):
            raise ConfigurationError("group must be the key of a group")
        return cls(
            ids=None if ids is None else frozenset(ids),
            group=group,
            policy=None if policy is None else _policy(policy, given.get("scope", "attributes")),
        )

    @property
    def is_all(self) -> bool:
        """Whether nothing narrows it."""
        return self.ids is None and self.group is None and self.policy is None

    def predicate(self, info: DeadLetterQueue) -> Callable[[Message[Any]], bool]:
        """What tells whether a dead letter of the queue belongs to it."""
        matches = None if self.policy is None else as_predicate(self.policy)

        def wanted(message: Message[Any]) -> bool:
            return (
                (self.ids is None or message.id in self.ids)
                and (self.group is None or group_of(message, info) == self.group)
                and (matches is None or matches(message))
            )

        return wanted

    def __str__(self) -> str:
        """For the audit log."""
        if self.ids is not None:
            shown = ", ".join(sorted(self.ids)[:5])
            return f"ids {shown}" + (f" and {len(self.ids) - 5} more" if len(self.ids) > 5 else "")
        if self.group is not None:
            return f"group {self.group}"
        return "all" if self.policy is None else f"filter {self.policy!r}"[:500]


def _policy(policy: object, scope: object) -> FilterPolicy:
    if not isinstance(scope, str) or scope not in _SCOPES:
        raise ConfigurationError(f"scope must be attributes or body, got {scope!r}")
    if not isinstance(policy, (dict, str)):
        raise ConfigurationError("filter must be a filter policy: an object of JSON")
    try:
        return FilterPolicy(policy, scope=_SCOPES[scope])  # type: ignore[arg-type]  # one of its two words
    except InvalidPattern as error:
        raise ConfigurationError(f"filter: {error}") from error
