"""Replay of a topic's archive: its messages of the past, to one of its subscriptions once more.

    TopicSpec("rides.fifo", options=[SnsOptions(archive=timedelta(days=30))])    # declared before
    replay = await start_topic_replay(aws.topic("rides.fifo"), "billing", start=yesterday)
    async for state in replay.watch():
        print(state)

SNS does it on FIFO topics: in order within each group, as far as the subscription's filter lets them pass, while new
messages wait behind them. A replayed message has the id that it had, so that an idempotent receiver takes it for a
duplicate. Source: "Message archiving and replay for FIFO topics" (SNS Developer Guide), 2026.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol, runtime_checkable

from eip._checks import check_instant, check_name
from eip._logging import get_logger
from eip.channels import Topic
from eip.clock import Duration, Instant, seconds
from eip.errors import ConfigurationError, TransportError
from eip.topology.archives import ReplayState

__all__ = ["HasTopicReplay", "TopicReplay", "start_topic_replay"]

_log = get_logger("eip.replay")


@runtime_checkable
class HasTopicReplay(Protocol):
    """A topic whose service replays its archive to a subscription."""

    async def start_replay(self, subscription: str, *, start: float, end: float | None) -> None:
        """Begin, or begin again in place of the replay that there is; times are seconds since the epoch."""
        ...

    async def replay_state(self, subscription: str) -> ReplayState | None:
        """How the subscription's replay is; None: there is none."""
        ...

    async def stop_replay(self, subscription: str) -> None:
        """End it; messages that are published from now on go on to the subscription."""
        ...


class TopicReplay:
    """A replay to a subscription, started here or elsewhere; a subscription has one at a time.

    Args:
        topic: the archive's.
        subscription: its name.

    Raises:
        ConfigurationError: a topic whose service replays nothing.
    """

    def __init__(self, topic: Topic, subscription: str) -> None:
        if not isinstance(topic, HasTopicReplay):
            raise ConfigurationError(f"{topic.name} ({type(topic).__name__}) replays nothing to its subscriptions")
        self._topic: HasTopicReplay = topic
        self.subscription = check_name(subscription, "subscription")

    async def state(self) -> ReplayState | None:
        """How it is now; None: there is none. Raises `ChannelNotFound` for a subscription that is not there."""
        return await self._topic.replay_state(self.subscription)

    async def watch(self, *, interval: Duration = 5.0) -> AsyncIterator[ReplayState | None]:
        """How it is, each ``interval`` seconds (or timedelta), until it is over; the last one tells how it ended."""
        while True:
            state = await self.state()
            yield state
            if state is None or state.over:
                return
            await asyncio.sleep(seconds(interval))

    async def wait(self, *, interval: Duration = 5.0) -> None:
        """Return when it is over, asking each ``interval`` seconds; raises `TransportError` where it failed."""
        if [each async for each in self.watch(interval=interval)][-1] is ReplayState.FAILED:
            raise TransportError(f"the replay to {self.subscription} failed")

    async def start(self, first: float, last: float | None) -> None:
        """Begin, with times in seconds since the epoch; see `start_topic_replay`."""
        await self._topic.start_replay(self.subscription, start=first, end=last)

    async def cancel(self) -> None:
        """End it; what was replayed already stays replayed."""
        await self._topic.stop_replay(self.subscription)

    def __repr__(self) -> str:
        return f"<TopicReplay {self.subscription}>"


async def start_topic_replay(
    topic: Topic, subscription: str, *, start: Instant, end: Instant | None = None
) -> TopicReplay:
    """Have the topic's messages since then sent to a subscription once more.

    Args:
        topic: a FIFO topic that is declared with an archive.
        subscription: the name of one of its subscriptions; the replay that it has is replaced.
        start: the time when a message was published counts: a datetime with a time zone, or seconds since the epoch.
        end: the same; default: until now, and on.

    Raises:
        ConfigurationError: a window that is none, a topic without an archive, a service that replays nothing.
        ChannelNotFound: no such subscription.
        TransportError: the service failed.
    """
    replay = TopicReplay(topic, subscription)
    first, last = check_instant("start", start), None if end is None else check_instant("end", end)
    if last is not None and first >= last:
        raise ConfigurationError(f"start must be before end, got {start!r} and {end!r}")
    await replay.start(first, last)
    _log.info("topic_replay_started", topic=topic.name, subscription=subscription)
    return replay
