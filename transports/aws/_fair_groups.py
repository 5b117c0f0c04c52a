"""Group ids on standard queues and topics: they order nothing, but keep one group from holding up the others.

A partition or an emulator without fair queues refuses them: noticed once, and the messages are sent again without. The
envelope has the group, so that nothing is lost.

Source: "Amazon SQS fair queues" (developer guide, 2026).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from eip._ids import to_native_id
from eip._logging import get_logger
from eip.errors import EipError
from eip.message import Message
from eip.transports.aws._batch_dispatcher import Outcome
from eip.transports.aws._entry_queue import Entry

__all__ = ["FairGroups"]

_log = get_logger("eip.aws")


class FairGroups:
    """Whether the messages of one standard channel carry their group.

    Args:
        name: the channel's, for the log.
        sent: False: they never do.
    """

    def __init__(self, name: str, *, sent: bool) -> None:
        self._name, self._sent = name, sent

    def ids(self, message: Message[Any]) -> dict[str, str]:
        """The parameters that carry the message's group; none where it has none, or the channel takes none."""
        if message.group_id is None or not self._sent:
            return {}
        return {"MessageGroupId": to_native_id(message.group_id)}

    async def send(
        self,
        entries: Sequence[Entry],
        call: Callable[[Sequence[Entry]], Awaitable[Sequence[Outcome]]],
        without_group: Callable[[Entry], Entry],
    ) -> Sequence[Outcome]:
        """Send the entries; those that the service refuses for their group once more, and all later ones, without it.

        Args:
            entries: of one call.
            call: sends them.
            without_group: makes an entry again, once `ids` gives no group any more.
        """
        try:
            outcomes = await call(entries)
        except EipError as error:
            if not _refuses_groups(error):
                raise
            outcomes = [error] * len(entries)
        refused = [place for place, outcome in enumerate(outcomes) if outcome and _refuses_groups(outcome)]
        if not any("MessageGroupId" in entries[place].payload for place in refused):
            return outcomes
        if self._sent:
            _log.warning("fair_queues_refused", channel=self._name, error=str(outcomes[refused[0]]))
        self._sent = False
        sent = await call([without_group(entries[place]) for place in refused])
        found = dict(zip(refused, sent, strict=True))
        return [found.get(place, outcome) for place, outcome in enumerate(outcomes)]


def _refuses_groups(error: Exception) -> bool:
    text = str(error)
    named = "MessageGroupId" in text or "queue type" in text or "topic type" in text
    return named and not getattr(error, "transient", False)
