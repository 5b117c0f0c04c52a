"""Push-down: one declared filter, evaluated where it is cheapest, with the same result.

A service evaluates the filter instead of us only where it does so exactly. Where it can only sort out some of what does
not match, it does that, and the filter is evaluated here as well. `PushDown.explain` says which and why.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from eip.errors import InvalidPattern
from eip.matching.event_pattern import EventPattern
from eip.matching.filter_policy import FilterPolicy
from eip.matching.predicate import as_predicate
from eip.message import Message

__all__ = ["PushDown", "Target", "push_down", "pushed_down"]

Target: TypeAlias = Literal["sns", "eventbridge", "jms", "lambda-sqs", "lambda-kinesis", "lambda-mq", "lambda-kafka"]
"""An SNS filter policy, an EventBridge pattern, a JMS selector, or Lambda's event filter for a kind of source."""
_BODY_KEYS: Final = {"lambda-sqs": "body", "lambda-kinesis": "data", "lambda-mq": "data", "lambda-kafka": "value"}
"""Where Lambda's filters have the body (Developer Guide, "Control which events Lambda sends to your function")."""

_Filter: TypeAlias = FilterPolicy | EventPattern | Callable[[Message[Any]], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class PushDown:
    """Where a filter is evaluated."""

    target: Target
    pushed: str | None
    """The filter for the service, as JSON or a selector; None if it evaluates nothing."""
    scope: str | None = None
    """SNS: the policy's scope."""
    local: _Filter | None = None
    """The filter that is still evaluated here; None if the service's decision is exact."""
    reason: str

    def explain(self) -> str:
        """One sentence for people."""
        if self.pushed is None:
            return f"{self.target}: evaluated here, as {self.reason}."
        place = "evaluated there" if self.local is None else "sorted out there, and evaluated here"
        return f"{self.target}: {place}, as {self.reason}."


def push_down(filter: _Filter, target: Target) -> PushDown:  # noqa: A002 - the library's term
    """How much of a filter the target's service evaluates; raises `ConfigurationError` if it is not a filter."""
    as_predicate(filter)
    if not isinstance(filter, (FilterPolicy, EventPattern)):
        return _here(filter, target, "a predicate is code")
    return _TARGETS[target](filter, target)


def _here(condition: _Filter, target: Target, reason: str) -> PushDown:
    return PushDown(target=target, pushed=None, local=condition, reason=reason)


def _to_sns(condition: FilterPolicy | EventPattern, target: Target) -> PushDown:
    if isinstance(condition, FilterPolicy):
        return PushDown(target=target, pushed=condition.text, scope=condition.scope, reason="it is a filter policy")
    pattern = json.loads(condition.text)
    if set(pattern) != {"detail"}:
        return _here(condition, target, "SNS filters on attributes or body, not on type and source")
    if _uses_absence(pattern):
        return _here(
            condition, target, "SNS passes only bodies that are JSON objects, even if a condition is on an absent field"
        )
    text = json.dumps(pattern["detail"], ensure_ascii=False)
    try:
        FilterPolicy(text, scope="MessageBody")
    except InvalidPattern as error:
        return _here(condition, target, f"SNS refuses it: {error.reason}")
    return PushDown(target=target, pushed=text, scope="MessageBody", reason="its detail is a policy on the body")


def _to_eventbridge(condition: FilterPolicy | EventPattern, target: Target) -> PushDown:
    if isinstance(condition, EventPattern):
        return PushDown(target=target, pushed=condition.text, reason="it is an event pattern")
    return _body_under("detail", condition, target, "an event has no attributes that patterns see by type")


def _to_lambda(condition: FilterPolicy | EventPattern, target: Target) -> PushDown:
    key = _BODY_KEYS[target]
    if isinstance(condition, EventPattern):
        pattern = json.loads(condition.text)
        if set(pattern) != {"detail"} or _uses_absence(pattern):
            return _here(
                condition, target, "Lambda deletes what its filter refuses, and this one does not say the same there"
            )
        return PushDown(
            target=target,
            pushed=json.dumps({key: pattern["detail"]}, ensure_ascii=False),
            reason="it is on the body only",
        )
    return _body_under(key, condition, target, "Lambda does not tell the types of attributes apart")


def _body_under(key: str, condition: FilterPolicy, target: Target, why_not_attributes: str) -> PushDown:
    if condition.scope == "MessageAttributes":
        return _here(condition, target, why_not_attributes)
    policy = json.loads(condition.text or "{}")
    if not policy or _uses_absence(policy):
        return _here(condition, target, "it is about absence, which a body that is no object would have there too")
    pushed = json.dumps({key: policy}, ensure_ascii=False)
    return PushDown(target=target, pushed=pushed, reason="a policy on the body is a pattern on it")


def _uses_absence(pattern: Any) -> bool:
    if isinstance(pattern, dict):
        return pattern.get("exists") is False or any(_uses_absence(each) for each in pattern.values())
    return isinstance(pattern, list) and any(_uses_absence(each) for each in pattern)


# JMS selectors. Attributes travel as text in headers, arrays as JSON, so a selector can sort out, but not decide.

_HEADER_NAME: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"


def _to_jms(condition: FilterPolicy | EventPattern, target: Target) -> PushDown:
    if isinstance(condition, EventPattern) or condition.scope == "MessageBody":
        return _here(condition, target, "a selector sees headers, not the body")
    policy = json.loads(condition.text or "{}")
    clauses = [clause for name, matchers in policy.items() if (clause := _clause(name, matchers)) is not None]
    if not clauses:
        return _here(condition, target, "no header can tell")
    reason = "headers are text, and a selector does not know a number or an array in one"
    return PushDown(target=target, pushed=" AND ".join(clauses), local=condition, reason=reason)


def _clause(name: str, matchers: Any) -> str | None:
    """A necessary condition of the filter, as far as a selector can express it."""
    if (
        name == "$or"
        or not name
        or name[0] not in _HEADER_NAME
        or not all(each.isalnum() or each == "_" for each in name)
    ):
        return None
    if not name.isascii():
        return None
    terms = [_term(name, each) for each in matchers]
    if any(term is None for term in terms):
        return f"{name} IS NOT NULL"
    absent = any(isinstance(each, dict) and each.get("exists") is False for each in matchers)
    if absent:
        terms.append(f"{name} IS NULL")
    return "(" + " OR ".join([*dict.fromkeys(term for term in terms if term), f"{name} LIKE '[%'"]) + ")"


def _term(name: str, matcher: Any) -> str | None:
    """A condition for one matcher, "" where it needs none, None if only presence can be expressed."""
    match matcher:
        case str():
            return f"{name} = {_quoted(matcher)}" if "." not in matcher and ":" not in matcher else None
        case {"exactly": str() as text}:
            return f"{name} = {_quoted(text)}"
        case {"prefix": str() as text}:
            return f"{name} LIKE {_quoted(_escaped(text) + '%')} ESCAPE '\\'"
        case {"suffix": str() as text}:
            return f"{name} LIKE {_quoted('%' + _escaped(text))} ESCAPE '\\'"
        case {"exists": False}:
            return ""
    return None


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _escaped(text: str) -> str:
    return "".join(f"\\{each}" if each in "\\%_" else each for each in text)


_TARGETS: Final[dict[str, Callable[[FilterPolicy | EventPattern, Target], PushDown]]] = {
    "sns": _to_sns,
    "eventbridge": _to_eventbridge,
    "jms": _to_jms,
    "lambda-sqs": _to_lambda,
    "lambda-kinesis": _to_lambda,
    "lambda-mq": _to_lambda,
    "lambda-kafka": _to_lambda,
}


def pushed_down(filter: _Filter) -> Iterator[PushDown]:  # noqa: A002 - the library's term
    """How the filter is pushed down to each target."""
    for target in _TARGETS:
        yield push_down(filter, target)  # type: ignore[arg-type]  # the keys are the targets
