"""The view of a console, as plain data: for its pages, and for tests without HTTP."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from math import isfinite
from typing import Any, Final

from eip import clock
from eip.channels import Queue, without_dead_letter_headers
from eip.console._bodies import attributes_of, shown_body
from eip.console._costs import Costs
from eip.console._depths import Depth, Depths
from eip.console._flow import Flow, Node
from eip.console._identity import reason_of, source_of
from eip.console._rates import Rates
from eip.console.letters import DeadLetters, Look
from eip.console.redaction import Redaction
from eip.console.subject import Subject
from eip.health import Health
from eip.message import Message

__all__ = ["View"]

_PAGE: Final = 50
"""Letters of a page."""
_OUTCOMES: Final = ("handled", "retried", "dead_lettered")
_ENVELOPE: Final = (
    *("id", "type", "source", "correlation_id", "return_address", "group_id", "deduplication_id", "traceparent"),
    *("created_at", "expires_at"),
)
_MAX_TEXT: Final = 4000


class View:
    """Reads a subject: its flow with live figures, its dead letters, its cost.

    Args:
        subject: whose.
        redaction: masks values in bodies, attributes, reasons and states.
        depth_interval: seconds between looks at how full the queues are; each is a billed call on SQS.
        max_letters: as of `DeadLetters`.
    """

    def __init__(
        self,
        subject: Subject,
        redaction: Redaction | None = None,
        *,
        depth_interval: float = 5.0,
        max_letters: int = 10_000,
    ) -> None:
        self.subject, self.redaction = subject, redaction or Redaction()
        self.letters = DeadLetters(subject, self.redaction, max_letters=max_letters)
        self.costs = Costs(subject.transport)
        self._rates = Rates()
        self._depths = Depths(self._all_queues, depth_interval)
        self._flow: Flow | None = None

    def _all_queues(self) -> dict[str, Queue]:
        dead = {each.name: self.subject.transport.queue(each.name) for each in self.letters.queues()}
        return {**self.subject.queues(), **dead}

    # The flow.

    @property
    def flow(self) -> Flow:
        """The graph of channels and handlers."""
        if self._flow is None:
            self._flow = Flow(self.subject)
        return self._flow

    async def refresh(self) -> None:
        """Sample the counters, and ask the queues where it is time for that."""
        self._rates.sample(self.subject.all_families(), asyncio.get_running_loop().time())
        self.costs.sample()
        await self._depths.refresh()

    async def aclose(self) -> None:
        """End a look that is under way. Idempotent."""
        await self._depths.aclose()

    def state(self) -> dict[str, Any]:
        """An overview: figures by node of the flow, the health of the parts, how many dead letters there are."""
        parts = self.subject.all_parts()
        return {
            "at": clock.now(),
            "flow": self.flow.version,
            "nodes": {each.id: self._figures(each, parts) for each in self.flow.nodes},
            "parts": [{"name": name, **self._health(each)} for name, each in parts.items()],
            "dead_letters": {each.name: _depth(self._depths.found.get(each.name)) for each in self.letters.queues()},
        }

    def forget_depths(self) -> None:
        """Ask the queues at the next `refresh`: something was moved."""
        self._depths.forget()

    def _figures(self, node: Node, parts: dict[str, Health] | Any) -> dict[str, Any]:
        if node.kind == "handler":
            return self._handler_figures(node, parts)
        figures: dict[str, Any] = {"sent": self._rates.per_second("sent", node.name)}
        if node.kind == "queue":
            figures.update(_depth(self._depths.found.get(node.name)))
            dead = [each.name for each in self.letters.queues() if node.name in each.sources]
            totals = [depth.total for name in dead if (depth := self._depths.found.get(name)) is not None]
            known = [each for each in totals if each is not None]
            figures["dead"] = sum(known) if known else None
            figures["dead_letters"] = dead
        return figures

    def _handler_figures(self, node: Node, parts: dict[str, Health]) -> dict[str, Any]:
        consumer = node.consumer or ""
        health = parts.get(f"consumer {consumer}")
        duration = self._rates.duration(consumer)
        return {
            **{each: self._rates.per_second(each, consumer) for each in _OUTCOMES},
            **{f"{each}_total": self._rates.total(each, consumer) for each in _OUTCOMES},
            "in_flight": self._rates.total("in_flight", consumer),
            "p95": duration if duration is None or isfinite(duration) else -1,
            "backlog_age": None if health is None else health.backlog_age,
            "ok": None if health is None else health.ok,
            "reason": None if health is None else self._text(health.reason),
        }

    # Dead letters.

    def dead_letter_queues(self) -> list[dict[str, Any]]:
        """The queues of dead letters, with what the last look at each found."""
        found = []
        for each in self.letters.queues():
            look = self.letters.last_look(each.name)
            queue = self.subject.transport.queue(each.name)
            depth = _depth(self._depths.found.get(each.name))
            found.append(
                {
                    "queue": each.name,
                    "sources": each.sources,
                    **depth,
                    "peek_is_receive": queue.peek_is_receive,
                    "look": None if look is None else _look(look),
                }
            )
        return found

    def page(self, queue: str, *, group: str | None = None, text: str = "", page: int = 1) -> dict[str, Any]:
        """A page of the letters that the last look at a queue found.

        Args:
            queue: of dead letters.
            group: only those of this group.
            text: only those with it in their id, type or reason.
            page: from 1.

        Raises:
            LookupError: it is not a dead-letter queue.
        """
        self.letters.queue(queue)
        found = self.letters.letters(queue, group=group, text=text)
        pages = max(1, -(-len(found) // _PAGE))
        shown = min(max(page, 1), pages)
        return {
            "queue": queue,
            "count": len(found),
            "page": shown,
            "pages": pages,
            "letters": [asdict(each) for each in found[(shown - 1) * _PAGE : shown * _PAGE]],
        }

    async def letter(self, queue: str, key: str) -> dict[str, Any]:
        """A dead letter as a whole: envelope, attributes, body, and why it failed; redacted and bounded.

        Raises:
            LookupError: it is not there.
        """
        info, _ = self.letters.queue(queue)
        message = await self.letters.find(queue, key)
        sent = without_dead_letter_headers(message)
        body = await shown_body(sent, self.redaction)
        return {
            "queue": queue,
            "key": key,
            "failed_on": _cut(source_of(message, info)),
            "reason": self._text(reason_of(message)),
            "attempts": _cut(message.headers.get("dead-letter-count", "")),
            "stack": self._text(message.headers.get("dead-letter-stack")),
            "envelope": {name: _cut(value) for name in _ENVELOPE if (value := getattr(message, name)) is not None},
            "headers": self._headers(sent),
            "attributes": attributes_of(sent, self.redaction),
            "body": asdict(body),
        }

    def _headers(self, message: Message[Any]) -> dict[str, Any]:
        shown = {name: self.redaction.text(each) for name, each in message.headers.items()}
        return {_cut(name): _cut(each) for name, each in self.redaction.value(shown).items()}

    def _health(self, health: Health) -> dict[str, Any]:
        shown = {**asdict(health), "reason": self._text(health.reason)}
        return {name: value for name, value in shown.items() if value is not None}

    def _text(self, text: str | None) -> str | None:
        return None if text is None else _cut(self.redaction.text(text))


def _depth(depth: Depth | None) -> dict[str, Any]:
    """The depth of a queue, as figures; ``known``: whether it was read yet."""
    if depth is None:
        return {"known": False}
    age = None if depth.oldest_at is None else max(0.0, clock.now() - depth.oldest_at)
    return {
        "known": True,
        "ready": depth.ready,
        "delayed": depth.delayed,
        "leased": depth.leased,
        "total": depth.total,
        "age": age,
        "error": depth.error,
        "gone": depth.gone,
    }


def _look(look: Look) -> dict[str, Any]:
    return {
        "at": look.at,
        "count": len(look.letters),
        "is_complete": look.is_complete,
        "is_receive": look.is_receive,
        "groups": [asdict(each) for each in look.groups],
    }


def _cut(value: Any) -> Any:
    return f"{value[:_MAX_TEXT]}…" if isinstance(value, str) and len(value) > _MAX_TEXT else value
