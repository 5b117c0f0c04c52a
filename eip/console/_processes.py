"""State of services: processes, scheduled messages, and scatter-gathers in flight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, get_args

import orjson

from eip.codec import load_json
from eip.console._bodies import shown_body
from eip.console._services import gatherers_of, managers_of, named, schedulers_of
from eip.console.redaction import Redaction
from eip.console.subject import Subject
from eip.errors import ConfigurationError, EipError, error_text
from eip.patterns._records import unless_unreadable
from eip.patterns.process import Instance, Status
from eip.patterns.process_diagram import svg
from eip.patterns.scatter_gather import Gathered

__all__ = ["gatherings", "process", "process_svg", "processes", "scheduled"]

_MAX_LISTED: Final = 100
_MAX_STATE: Final = 16_384
"""Characters of a state shown."""
_MAX_BODY: Final = 2000
_MAX_FAMILY: Final = 200
"""Instances of a family shown: a map may have thousands of items."""


async def processes(
    subject: Subject, redaction: Redaction, *, process: str | None = None, status: str | None = None
) -> list[dict[str, Any]]:
    """The process managers, each with its latest instances.

    Args:
        subject: whose.
        redaction: masks what errors tell.
        process: only instances of this definition.
        status: only those in this status.

    Raises:
        ConfigurationError: there is no such status.
    """
    if status is not None and status not in get_args(Status):
        raise ConfigurationError(f"status must be one of {', '.join(get_args(Status))}, got {status!r}")
    found = []
    for name, manager in managers_of(subject).items():
        rows: dict[str, Any] = {"manager": name}
        try:
            instances = await manager.instances(process, status=status, limit=_MAX_LISTED)  # type: ignore[arg-type]
            rows["instances"] = [_row(_redacted(each, redaction)) for each in instances]
        except EipError as error:
            rows["error"] = error_text(error)
        found.append(rows)
    return found


async def process(subject: Subject, redaction: Redaction, manager: str, id: str) -> dict[str, Any]:  # noqa: A002
    """An instance with its history, its state and its children; raises `LookupError` where there is none."""
    found = named(managers_of(subject), manager)
    family = [_redacted(each, redaction) for each in (await found.family(id))[:_MAX_FAMILY]]
    instance = family[0]
    return {
        **_row(instance),
        "state": _state(instance, redaction),
        "history": [each.model_dump() for each in instance.history[-_MAX_LISTED:]],
        "children": [_row(each) for each in family[1:]],
    }


async def process_svg(subject: Subject, redaction: Redaction, manager: str, id: str) -> str:  # noqa: A002 - it is one
    """The picture of how an instance went; raises `LookupError` where it, or its definition, is not known."""
    found = named(managers_of(subject), manager)
    family = [_redacted(each, redaction) for each in (await found.family(id))[:_MAX_FAMILY]]
    return svg(found.definition(family[0]), family)


def _redacted(instance: Instance, redaction: Redaction) -> Instance:
    """The instance with masks in what its failures tell; its state is masked where it is shown."""

    def masked(text: str | None) -> str | None:
        return None if text is None else redaction.text(text)

    history = [each.model_copy(update={"detail": redaction.text(each.detail)}) for each in instance.history]
    texts = {name: masked(getattr(instance, name)) for name in ("error", "caught", "cancelled")}
    return instance.model_copy(update={**texts, "history": history})


def _row(instance: Instance) -> dict[str, Any]:
    names = ("id", "process", "version", "status", "step", "attempt", "started_at", "ended_at", "deadline")
    return {
        **{name: getattr(instance, name) for name in (*names, "waits_until", "cancelled", "branch")},
        "error": None if instance.error is None else instance.error[:_MAX_BODY],
        "can_cancel": not instance.ended and instance.cancelled is None,
        "can_retry": instance.status == "failed",
    }


def _state(instance: Instance, redaction: Redaction) -> str:
    shown = redaction.value(load_json(instance.state.encode()))
    text = orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode()
    return text if len(text) <= _MAX_STATE else f"{text[:_MAX_STATE]}…"


async def scheduled(subject: Subject, redaction: Redaction) -> list[dict[str, Any]]:
    """The schedulers, each with what it sends next."""
    found = []
    for name, scheduler in schedulers_of(subject).items():
        rows: dict[str, Any] = {"scheduler": name}
        try:
            pending = await scheduler.pending(limit=_MAX_LISTED)
        except EipError as error:
            rows["error"] = error_text(error)
        else:
            rows["messages"] = [
                {
                    "key": each.key,
                    "to": each.to,
                    "due": each.due,
                    "id": each.message.id,
                    "type": each.message.type,
                    "interval": each.interval,
                    "cron": each.cron,
                    "failures": each.failures,
                    "refused": None if each.refused is None else redaction.text(each.refused),
                    "body": (await shown_body(each.message, redaction)).text[:_MAX_BODY],
                }
                for each in pending
            ]
        found.append(rows)
    return found


async def gatherings(subject: Subject) -> list[dict[str, Any]]:
    """The scatter-gathers, each with its open requests."""
    found = []
    for name, gatherer in gatherers_of(subject).items():
        row: dict[str, Any] = {"name": name, "in_flight": gatherer.in_flight, "taken": gatherer.taken}
        row |= {"late": gatherer.late, "unknown": gatherer.unknown, "ambiguous": gatherer.ambiguous}
        try:
            row["requests"] = await _requests(gatherer.get, await gatherer.open_requests(limit=_MAX_LISTED))
        except EipError as error:
            row["error"] = error_text(error)
        found.append(row)
    return found


async def _requests(get: Callable[[str], Any], ids: list[str]) -> list[dict[str, Any]]:
    found = [await unless_unreadable(get(each)) for each in ids]
    return [_request(each) for each in found if each is not None]


def _request(gathered: Gathered) -> dict[str, Any]:
    request = gathered.request
    answered = {each.source for each in (*gathered.replies, *gathered.errors)}
    missing = None if gathered.names is None else sorted(gathered.names - answered)[:_MAX_LISTED]
    return {
        "id": gathered.id,
        "correlation_id": gathered.correlation_id,
        "type": None if request is None else request.type,
        "started_at": None if request is None else request.created_at,
        "deadline": None if request is None else request.expires_at,
        "expected": gathered.expected if gathered.names is None else len(gathered.names),
        "replies": len(gathered.replies),
        "errors": len(gathered.errors),
        "missing": missing,
    }
