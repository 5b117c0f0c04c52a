"""The services compared: units, quotas and differences, as data in the package's ``services.json``."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any, Final

from eip.codec import load_json

__all__ = ["NAMES", "facts", "quota", "title"]

NAMES: Final = ("sqs", "sns", "eventbridge", "kinesis", "mq")


@cache
def _services() -> dict[str, Any]:
    found: dict[str, Any] = load_json(files("eip.cost").joinpath("services.json").read_bytes())
    return found


def quota(service: str, name: str) -> int:
    """A number of the service."""
    return int(_services()[service][name])


def title(service: str) -> str:
    """Its common name."""
    return str(_services()[service]["title"])


def facts() -> dict[str, dict[str, str]]:
    """By what is compared, each service's answer: how they differ, before money."""
    compared: dict[str, dict[str, str]] = {}
    for name in NAMES:
        for topic, answer in _services()[name]["facts"].items():
            compared.setdefault(topic, {})[title(name)] = answer
    return compared
