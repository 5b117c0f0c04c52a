"""The rules of matching, word for word: slow and obviously right; what the compiled matcher is compared with."""

from __future__ import annotations

import itertools
import json
from typing import Any

from eip.matching._values import address, number


def rules(pattern: dict[str, Any]) -> list[dict[str, list[Any]]]:
    found: list[dict[str, list[Any]]] = []
    _write(found, (), pattern)
    return found


def _write(found: list[dict[str, list[Any]]], path: tuple[str, ...], pattern: dict[str, Any]) -> None:
    for name, value in pattern.items():
        if name == "$or":
            before = [dict(rule) for rule in found] or [{}]
            found[:] = []
            for branch in value:
                copies = [dict(rule) for rule in before]
                _write(copies, path, branch)
                found.extend(copies)
        elif isinstance(value, dict):
            _write(found, (*path, name), value)
        else:
            if not found:
                found.append({})
            for rule in found:
                rule[".".join((*path, name))] = value


def leaves(event: Any) -> list[tuple[str, Any, dict[int, int]]]:
    numbers = itertools.count()

    def walk(path: tuple[str, ...], value: Any, membership: dict[int, int]) -> list[tuple[str, Any, dict[int, int]]]:
        if isinstance(value, dict):
            return [leaf for name, each in value.items() for leaf in walk((*path, name), each, membership)]
        if isinstance(value, list):
            array = next(numbers)
            return [
                leaf
                for index, each in enumerate(value)
                for leaf in walk(
                    path, each, {**membership, array: index} if isinstance(each, (dict, list)) else membership
                )
            ]
        return [(".".join(path), value, membership)]

    return walk((), event, {})


def matches(pattern: dict[str, Any], event: Any) -> bool:
    found = leaves(event)
    return any(_rule(sorted(rule.items()), found, {}) for rule in rules(pattern))


def _rule(rule: list[tuple[str, list[Any]]], found: list[Any], constraint: dict[int, int]) -> bool:
    if not rule:
        return True
    (path, matchers), *rest = rule
    consistent = [
        (value, membership)
        for at, value, membership in found
        if at == path and all(constraint.get(array, index) == index for array, index in membership.items())
    ]
    for value, membership in consistent:
        if any(passes(matcher, value) for matcher in matchers) and _rule(rest, found, {**constraint, **membership}):
            return True
    return not consistent and {"exists": False} in matchers and _rule(rest, found, constraint)


def same(wanted: Any, value: Any) -> bool:
    if type(wanted) is bool or type(value) is bool or wanted is None or value is None:
        return wanted is value
    if isinstance(wanted, str) or isinstance(value, str):
        return type(wanted) is type(value) and wanted == value
    return number(json.dumps(wanted)) == number(json.dumps(value))


def passes(matcher: Any, value: Any) -> bool:
    if not isinstance(matcher, dict):
        if isinstance(matcher, str) and isinstance(value, str) and address(matcher) is not None:
            return address(matcher) == address(value)
        return same(matcher, value)
    ((operator, operand),) = matcher.items()
    if operator == "exists":
        return bool(operand)
    if operator == "anything-but":
        if isinstance(operand, dict):
            ((inner, texts),) = operand.items()
            return not any(passes({inner: text}, value) for text in (texts if isinstance(texts, list) else [texts]))
        return not any(same(each, value) for each in (operand if isinstance(operand, list) else [operand]))
    if operator == "numeric":
        if isinstance(value, (bool, str)) or value is None:
            return False
        comparisons = {"=": "__eq__", "<": "__lt__", "<=": "__le__", ">": "__gt__", ">=": "__ge__"}
        pairs = zip(operand[::2], operand[1::2], strict=True)
        return all(getattr(float(value), comparisons[sign])(float(limit)) for sign, limit in pairs)
    if not isinstance(value, str):
        return False
    if operator == "prefix":
        return value.startswith(operand)
    if operator == "suffix":
        return value.endswith(operand)
    if operator == "equals-ignore-case":
        return len(value) == len(operand) and all(
            b in (a.lower(), a.upper()) for a, b in zip(operand, value, strict=True)
        )
    if operator == "exactly":
        return bool(value == operand)
    assert operator == "wildcard"
    return _wildcard(operand, value)


def _wildcard(text: str, value: str) -> bool:
    if not text:
        return not value
    if text[0] == "*":
        return any(_wildcard(text[1:], value[at:]) for at in range(len(value) + 1))
    if text[0] == "\\":
        return value[:1] == text[1] and _wildcard(text[2:], value[1:])
    return value[:1] == text[0] and _wildcard(text[1:], value[1:])
