"""Content Enricher (Hohpe & Woolf, chapter 8): a message gets what its sender did not have."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias, get_args

from eip._checks import check_one_of
from eip.clock import Duration, seconds
from eip.errors import ConfigurationError, Reject, Retry
from eip.message import Message
from eip.patterns._functions import function_of
from eip.patterns.diagram import condition_text, with_diagram
from eip.runtime.handlers import Handler

__all__ = ["OnMissing", "content_enricher"]

OnMissing: TypeAlias = Literal["dead_letter", "retry", "handle"]


def content_enricher(
    look_up: Callable[[Any], Any],
    *,
    into: str | None = None,
    merge: Callable[[Any, Any], Any] | None = None,
    on_missing: OnMissing = "dead_letter",
    timeout: Duration | None = None,
) -> Handler:
    """A handler that returns each message with what ``look_up`` finds added to its body; id and envelope stay.

        content_enricher(customer_of, into="customer", timeout=2, on_missing="retry")

    Args:
        look_up: what is to be added to a message, or None where it cannot be found; plain or async, of a message or of
            a validated body.
        into: the field of the body that takes it; default: its own fields become the body's, over those of that name.
        merge: makes the new body of the old one and what was found, instead.
        on_missing: what becomes of a message for which nothing is found: ``"dead_letter"``, ``"retry"`` (later), or
            ``"handle"``: it goes on as it is.
        timeout: seconds for each look-up; after that it has failed and is retried with the message. Default: none.

    Raises:
        ConfigurationError: an invalid option.
        TypeError: from the handler, for a body or a finding that is not a mapping, where no ``merge`` is given.
    """
    check_one_of("on_missing", on_missing, get_args(OnMissing))
    if into is not None and merge is not None:
        raise ConfigurationError("into and merge exclude each other: give one of them")
    find = function_of(look_up)
    combine = merge or _merge_into(into)
    limit = None if timeout is None else seconds(timeout)

    async def enriched(message: Message[Any]) -> Message[Any]:
        async with asyncio.timeout(limit):
            found = await find(message)
        if found is not None:
            return message.with_body(combine(message.body, found))
        if on_missing == "handle":
            return message
        reason = f"{condition_text(look_up)} found nothing to enrich the message with"
        raise Retry(reason) if on_missing == "retry" else Reject(reason)

    return with_diagram(enriched, f"content_enricher {condition_text(look_up)}")


def _merge_into(field: str | None) -> Callable[[Any, Any], Any]:
    def merged(body: Any, found: Any) -> Any:
        added = found if field is None else {field: found}
        if not isinstance(body, Mapping) or not isinstance(added, Mapping):
            kinds = f"{type(body).__name__} and {type(added).__name__}"
            raise TypeError(f"only mappings are merged by themselves, not {kinds}; give merge=")
        return {**body, **added}

    return merged
