"""Compatibility of two versions of a service: which consumer or producer breaks, and why.

    found = compare(old, new)                       # AsyncAPI 3 documents, e.g. of `eip.app.asyncapi.asyncapi_document`
    for each in found:
        print(each)                                 # consumers of topic orders, OrderPlaced: /cents is required ...

Those who read what the service sends were written for the old schema: whatever the new one allows must be accepted by
the old one. Those who send to it likewise: whatever the old schema allows must be accepted by the new one. Where the
documents of the others are at hand, `compare_with` compares with what they themselves say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from eip.schemas._flows import Action, Document, Flow
from eip.schemas._subset import Difference, Subset

__all__ = ["Break", "compare", "compare_with"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """Somebody who worked with the old version and does not with the new one."""

    side: Literal["consumer", "producer"]
    """Who breaks: one who receives what the service sends, or who sends what it receives."""
    who: str
    """In words, or by the title of its document."""
    channel: str
    message: str
    kind: str
    """``removed``: the message is not sent or taken any more. Of a field: ``missing``, ``optional``, ``type``,
    ``enum``, ``format``, ``pattern``, ``limit``, ``closed``, or ``unknown`` where it cannot be decided."""
    path: str
    """Of the field, as a JSON pointer; empty: of the message itself."""
    reason: str

    def __str__(self) -> str:
        """One line."""
        field = f"{self.path} " if self.path else ""
        return f"{self.who} of {self.channel}, {self.message}: {field}{self.reason}"


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Break]:
    """The changes of a service's new version that break others.

    Args:
        old: the AsyncAPI 3 document of the version that runs; or the JSON Schema of a body.
        new: that of the version to come.

    Returns:
        What breaks; empty: nothing does.

    Raises:
        ConfigurationError: a malformed document.
    """
    before, after = Document(old), Document(new)
    for_consumers, for_producers = Subset(after.schemas, before.schemas), Subset(before.schemas, after.schemas)
    found: list[Break] = []
    for key, flow in before.flows.items():
        who = "consumers" if flow.action == "send" else "producers"
        now = after.flows.get(key)
        if now is None:
            if not _takes_all(after, flow):
                found.append(_break(flow, who, _REMOVED[flow.action]))
        elif flow.action == "send":
            found += (_break(flow, who, each) for each in for_consumers.differences(now.payload, flow.payload))
        else:
            found += (_break(flow, who, each) for each in for_producers.differences(flow.payload, now.payload))
    return list(dict.fromkeys(found))


def compare_with(new: Mapping[str, Any], other: Mapping[str, Any]) -> list[Break]:
    """The messages that one of two services does not understand of the other.

    Args:
        new: the AsyncAPI 3 document of this service.
        other: that of a service which it shares channels with.

    Returns:
        What breaks at the other service.

    Raises:
        ConfigurationError: a malformed document.
    """
    ours, theirs = Document(new), Document(other)
    sent, taken = Subset(ours.schemas, theirs.schemas), Subset(theirs.schemas, ours.schemas)
    found: list[Break] = []
    for flow in theirs.flows.values():
        for mine in _counterparts(ours, flow):
            if flow.action == "receive":
                differences = sent.differences(mine.payload, flow.payload)
            else:
                differences = taken.differences(flow.payload, mine.payload)
            found += (_break(flow, theirs.title, each, side=_SIDES[mine.action]) for each in differences)
    return list(dict.fromkeys(found))


_REMOVED: dict[Action, Difference] = {
    "send": Difference("removed", "", "is not sent any more"),
    "receive": Difference("removed", "", "is not taken any more"),
}
_SIDES: dict[Action, Literal["consumer", "producer"]] = {"send": "consumer", "receive": "producer"}


def _break(flow: Flow, who: str, why: Difference, *, side: Literal["consumer", "producer"] | None = None) -> Break:
    return Break(
        side=side or _SIDES[flow.action],
        who=who,
        channel=flow.channel,
        message=flow.message,
        kind=why.kind,
        path=why.path,
        reason=why.text,
    )


def _takes_all(document: Document, flow: Flow) -> bool:
    """Whether a message that is received no longer by its name is received as any message."""
    found = document.flows.get((flow.action, flow.channel, "any message", flow.subscription))
    return flow.action == "receive" and found is not None and found.payload in (True, {}, None)


def _counterparts(document: Document, flow: Flow) -> Iterator[Flow]:
    """The flows that one service sends and the other receives, both ways."""
    for each in document.flows.values():
        if (each.channel, each.message) == (flow.channel, flow.message) and each.action != flow.action:
            yield each
