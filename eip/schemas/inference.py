"""Drafts of schemas from samples of what somebody else sends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from eip.errors import ConfigurationError
from eip.schemas.catalog import DRAFT

__all__ = ["infer_schema"]

_MAX_ENUMERATED: Final = 5
"""Different strings that are taken for the values of an enumeration, where each was seen several times."""
_MIN_SAMPLES: Final = 20
"""Fewer samples do not show an enumeration."""


def infer_schema(samples: Iterable[Any]) -> dict[str, Any]:
    """A draft of the JSON Schema that all samples (bodies, or whole events) fulfil.

    Keys that every sample has are required; types are those that were seen; a few strings that came again and again
    are an enumeration. A draft is for a person to look at: what no sample shows is not in it.

    Raises:
        ConfigurationError: no samples.
    """
    values = list(samples)
    if not values:
        raise ConfigurationError("a schema is inferred from at least one sample")
    return {"$schema": DRAFT, **_infer(values)}


def _infer(values: Sequence[Any]) -> dict[str, Any]:
    objects = [each for each in values if isinstance(each, Mapping)]
    arrays = [each for each in values if isinstance(each, (list, tuple))]
    kinds = sorted({_kind(each) for each in values})
    if "integer" in kinds and "number" in kinds:
        kinds.remove("integer")
    schema: dict[str, Any] = {"type": kinds[0] if len(kinds) == 1 else kinds}
    if objects:
        schema |= _infer_object(objects)
    if arrays and (items := [item for each in arrays for item in each]):
        schema["items"] = _infer(items)
    if kinds == ["string"] and (found := _enumeration(values)):
        schema["enum"] = found
    return schema


def _infer_object(objects: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    seen: dict[str, list[Any]] = {}
    for each in objects:
        for key, value in each.items():
            seen.setdefault(key, []).append(value)
    required = [key for key, found in seen.items() if len(found) == len(objects)]
    return {"properties": {key: _infer(found) for key, found in seen.items()}, "required": required}


def _enumeration(texts: Sequence[str]) -> list[str]:
    different = set(texts)
    plenty = len(texts) >= _MIN_SAMPLES and len(different) <= _MAX_ENUMERATED
    return sorted(different) if plenty and all(texts.count(each) > 1 for each in different) else []


_KINDS: Final = ((bool, "boolean"), (int, "integer"), (str, "string"), (Mapping, "object"), ((list, tuple), "array"))


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    return next((name for kind, name in _KINDS if isinstance(value, kind)), "number")
