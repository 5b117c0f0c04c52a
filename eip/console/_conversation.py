"""One conversation as a sequence: what was sent, who handled it, what failed; by correlation, trace or message id."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from eip import clock
from eip.app.journal import JournalEntry
from eip.console._identity import reason_of, source_of
from eip.console.letters import DeadLetters
from eip.console.redaction import Redaction
from eip.console.subject import Subject
from eip.message import Message

__all__ = ["conversation", "latest_conversations"]

_MAX_STEPS: Final = 200
_MAX_LISTED: Final = 50
_MAX_REASON: Final = 200


def conversation(subject: Subject, letters: DeadLetters, redaction: Redaction, id: str) -> dict[str, Any]:  # noqa: A002
    """The participants and steps of a conversation, the earliest first; those that this process knows of.

    Args:
        subject: whose journal.
        letters: the last looks at dead letters.
        redaction: masks what reasons tell.
        id: a correlation id, a trace id or a message's id.
    """
    readers = subject.all_readers()
    handlers = {each.consumer: each.handler for each in readers}
    failing = {each.source: each.handler for each in readers}
    entries = [] if subject.journal is None else subject.journal.of(id)
    steps = [_step(each, subject.name, handlers, redaction) for each in entries]
    steps += _failures(letters, failing, redaction, id)
    steps.sort(key=lambda each: float(each["at"]))
    participants = dict.fromkeys(name for each in steps for name in (each["from"], each["to"]))
    return {
        "id": id,
        "participants": list(participants),
        "steps": steps[:_MAX_STEPS],
        "is_cut": len(steps) > _MAX_STEPS,
        "kept": 0 if subject.journal is None else subject.journal.size,
    }


def latest_conversations(subject: Subject) -> list[dict[str, Any]]:
    """The conversations that something happened in last, the latest first."""
    found: dict[str, dict[str, Any]] = {}
    for each in [] if subject.journal is None else subject.journal.latest(subject.journal.size):
        key = each.correlation_id or each.message_id
        row = found.get(key)
        if row is None:
            if len(found) == _MAX_LISTED:
                break
            row = found[key] = {"id": key, "at": each.at, "type": each.message_type, "steps": 0, "failed": 0}
        row["steps"] += 1
        row["failed"] += each.error is not None
    return list(found.values())


def _step(entry: JournalEntry, app: str, handlers: Mapping[str, str], redaction: Redaction) -> dict[str, Any]:
    if entry.kind == "sent":
        start, end = app if entry.handler is None else handlers.get(entry.handler, entry.handler), entry.channel
    else:
        start, end = entry.channel, handlers.get(entry.channel, entry.handler or entry.channel)
    return {
        "at": entry.at - entry.seconds,
        "from": start,
        "to": f"{end} ()" if start == end else end,
        "kind": entry.kind,
        "type": entry.message_type or "message",
        "message_id": entry.message_id,
        "seconds": entry.seconds,
        "error": None if entry.error is None else redaction.text(entry.error),
    }


def _failures(
    letters: DeadLetters, handlers: Mapping[str, str], redaction: Redaction, wanted: str
) -> Iterator[dict[str, Any]]:
    """The dead letters of the conversation, as far as they were looked at."""
    for info in letters.queues():
        look = letters.last_look(info.name)
        for message in () if look is None else look.kept.values():
            if _is_of(message, wanted):
                source = source_of(message, info)
                yield {
                    "at": min(clock.now(), look.at) if look is not None else clock.now(),
                    "from": handlers.get(source, source) or "?",
                    "to": info.name,
                    "kind": "dead_letter",
                    "type": message.type or "message",
                    "message_id": message.id[:_MAX_REASON],
                    "seconds": None,
                    "error": redaction.text(reason_of(message))[:_MAX_REASON],
                }


def _is_of(message: Message[Any], wanted: str) -> bool:
    trace = (message.traceparent or "").split("-")
    return wanted in (message.id, message.correlation_id) or (len(trace) > 3 and trace[1] == wanted)
