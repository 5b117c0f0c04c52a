"""Which dead letters an operation is about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

from eip.console._identity import group_of, key_of
from eip.console.subject import DeadLetterQueue
from eip.errors import ConfigurationError, InvalidPattern
from eip.matching import FilterPolicy, as_predicate
from eip.message import Message

__all__ = ["Selection"]

_MAX_KEYS: Final = 10_000
_SCOPES: Final = {"attributes": "MessageAttributes", "body": "MessageBody"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Dead letters of a queue: of a group, by their keys, by a filter policy, or all."""

    FIELDS: ClassVar = ("keys", "group", "filter", "scope")
    """The input of `parse`."""
    keys: frozenset[str] | None = None
    group: str | None = None
    policy: FilterPolicy | None = None

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Self:
        """Read ``keys``, ``group``, ``filter`` and ``scope`` (``attributes`` or ``body``) as a browser sends them.

        None of them: all letters. Null is refused: it is rather a script's empty variable than a wish for all.

        Raises:
            ConfigurationError: a value is invalid.
        """
        if empty := [name for name in cls.FIELDS if name in given and given[name] is None]:
            raise ConfigurationError(f"{empty[0]} must not be null; leave it out")
        keys, group, policy = given.get("keys"), given.get("group"), given.get("filter")
        if keys is not None and not (isinstance(keys, list) and keys and all(isinstance(each, str) for each in keys)):
            raise ConfigurationError("keys must be a list of the keys of letters, and not empty")
        if keys is not None and len(keys) > _MAX_KEYS:
            raise ConfigurationError(f"keys must be at most {_MAX_KEYS:,}, got {len(keys):,}")
        if group is not None and not isinstance(group, str):
            raise ConfigurationError("group must be the key of a group")
        return cls(
            keys=None if keys is None else frozenset(keys),
            group=group,
            policy=None if policy is None else _policy(policy, given.get("scope", "attributes")),
        )

    @property
    def is_all(self) -> bool:
        """Whether nothing narrows it."""
        return self.keys is None and self.group is None and self.policy is None

    def predicate(self, info: DeadLetterQueue) -> Callable[[Message[Any]], bool]:
        """A predicate: whether a dead letter of the queue is selected."""
        matches = None if self.policy is None else as_predicate(self.policy)

        def wanted(message: Message[Any]) -> bool:
            return (
                (self.keys is None or key_of(message) in self.keys)
                and (self.group is None or group_of(message, info) == self.group)
                and (matches is None or matches(message))
            )

        return wanted

    def __str__(self) -> str:
        """For the audit log."""
        if self.keys is not None:
            return f"{len(self.keys):,} chosen"
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
