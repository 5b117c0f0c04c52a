"""The consumer: takes messages from a channel, has them handled, settles them (pattern "Event-Driven Consumer").

Delivery is at-least-once: handlers must bear a message twice, or be wrapped in an idempotent receiver. The order of
work never varies: receive, handle, send the results, acknowledge.
"""

from __future__ import annotations

import asyncio
from typing import TypeVar, get_args

from eip._runtime.session import Session, current
from eip._runtime.settings import GroupFailure, OnExpired, Settings, Stats
from eip.addresses import ReturnAddresses
from eip.channels import Delivery, Queue, Sender, Source
from eip.clock import Duration, seconds
from eip.errors import ConfigurationError
from eip.handler import AnyHandler, handler_of
from eip.retry import Backoff

__all__ = ["Consumer", "current_delivery"]

_Choice = TypeVar("_Choice")
_LONGEST = 12 * 3600.0
"""SQS ends a lease 12 hours after the receive, whatever the extensions."""


class Consumer:
    """Runs a handler over a channel's messages until stopped.

    At most ``concurrency`` messages are handled at once, and no more are fetched than can start. Messages of one group
    are handled in order, one at a time. Leases are kept from receive until the message is settled.

    A handler that raises has its message tried again with backoff; `Reject` sends it to the dead-letter channel at
    once, `Park` its whole group, `Retry` chooses the delay. What cannot be decoded goes to the dead-letter channel with
    its raw body; without such a channel it stays where it is and comes again. Nothing is acknowledged unhandled, save
    what has expired.

    Packs (see `eip.patterns.batching`) are unpacked unasked, and their messages handled one by one: as many at once as
    ``concurrency`` says, whatever the number of packs. A pack is one delivery: it is acknowledged when all of it is
    done, and ``max_processing`` is for the whole of it.

    Args:
        source: a queue, a subscription or a stream's group.
        handler: ``async def handle(message)``; see `eip.handler` for the forms it may have.
        concurrency: messages handled at once.
        output: where messages that the handler returns are sent, before the received one is acknowledged.
        replies: sends them to the received message's return address instead, where it has one.
        dead_letter: where what can never be handled goes; default: the channel's own dead-letter queue.
        retry: the delays between attempts, and after how many receives to give up.
        on_group_failure: what becomes of a message group whose head failed ``1 + local_retries`` times in a row:
            ``"block"`` gives the group back, tail first, and dead-letters the head only at the channel's last receive;
            ``"dead_letter_and_continue"`` dead-letters the head; ``"park_group"`` dead-letters the head and what
            follows in its group, until `unpark` or the end of `run`.
        local_retries: attempts at a group's head in this process, after the first, while its group's leases are kept.
        on_expired: ``"drop"`` acknowledges a message past its expiry, ``"dead_letter"`` keeps it there, ``"handle"``
            lets the handler have it.
        max_processing: seconds from receive after which the handler is cancelled and has failed; at most 12 hours.
        grace: seconds that handlers have to finish after `stop`.
        name: for logs and errors; default: the source's.

    Raises:
        ConfigurationError: options that cannot be.
    """

    def __init__(
        self,
        source: Source,
        handler: AnyHandler,
        *,
        concurrency: int = 10,
        output: Sender | None = None,
        replies: ReturnAddresses | None = None,
        dead_letter: Sender | None = None,
        retry: Backoff | None = None,
        on_group_failure: GroupFailure = "block",
        local_retries: int = 3,
        on_expired: OnExpired = "drop",
        max_processing: Duration = 300.0,
        grace: Duration = 20.0,
        name: str | None = None,
    ) -> None:
        self._source, self._handler = source, handler
        self._dead_letter = dead_letter
        self._settings = Settings(
            name=name or source.name,
            handler=handler_of(handler),
            concurrency=concurrency,
            output=output,
            replies=replies,
            retry=retry or Backoff(),
            on_group_failure=_one_of("on_group_failure", on_group_failure, get_args(GroupFailure)),
            local_retries=local_retries,
            on_expired=_one_of("on_expired", on_expired, get_args(OnExpired)),
            max_processing=seconds(max_processing),
            grace=seconds(grace),
        )
        if concurrency < 1 or local_retries < 0 or self._settings.grace < 0:
            raise ConfigurationError("concurrency is at least 1; local_retries and grace are not negative")
        if not 0 < self._settings.max_processing <= _LONGEST:
            raise ConfigurationError("max_processing is more than 0 and at most 12 hours")
        self._session: Session | None = None
        self._stop_wanted = False
        self.stats = Stats()
        """What it counted so far."""
        self.started = asyncio.Event()
        """Set while it runs: connected, and polling."""
        self._ended = asyncio.Event()

    @property
    def name(self) -> str:
        """What logs and errors call it."""
        return self._settings.name

    @property
    def source(self) -> Source:
        """Where its messages come from."""
        return self._source

    @property
    def handler(self) -> AnyHandler:
        """What handles them, as given."""
        return self._handler

    @property
    def output(self) -> Sender | None:
        """Where what the handler returns is sent."""
        return self._settings.output

    @property
    def parked(self) -> frozenset[str]:
        """The message groups parked in this run."""
        return frozenset(self._session.parked) if self._session is not None else frozenset()

    def unpark(self, group: str) -> None:
        """Let the group's messages be handled again."""
        if self._session is not None:
            self._session.parked.discard(group)

    async def run(self) -> None:
        """Consume until `stop`; raises what connecting to the channel raises. Cancelled, it drains with no grace."""
        if self._session is not None:
            raise ConfigurationError(f"{self.name} is running already")
        self._ended.clear()
        try:
            async with self._source.receiver(capacity=self._settings.concurrency) as receiver:
                if self._dead_letter is not None:
                    receiver.dead_letters = self._dead_letter
                channel = self._source if isinstance(self._source, Queue) else self._source.retry_queue
                self._session = Session(self._settings, receiver, self.stats, channel=channel)
                if self._stop_wanted:
                    self._session.stop()
                self.started.set()
                await self._session.run()
        finally:
            self._session, self._stop_wanted = None, False
            self.started.clear()
            self._ended.set()

    async def stop(self) -> None:
        """End `run` and wait for it: polling ends, handlers have their grace, acks are flushed, the rest is released.

        Before `run`, it lets the next `run` return at once. Idempotent; not to be awaited inside its own handler.
        """
        self._stop_wanted = True
        if self._session is not None:
            self._session.stop()
            await self._ended.wait()

    def __repr__(self) -> str:
        state = "running" if self._session is not None else "stopped"
        return f"<Consumer {self.name} {state} in_flight={self.stats.in_flight}>"


def current_delivery() -> Delivery:
    """The delivery that the running handler was called for: its receive count, its lease.

    Raises `LookupError` outside of a consumer's handler.
    """
    return current.get()


def _one_of(option: str, value: _Choice, choices: tuple[_Choice, ...]) -> _Choice:
    if value not in choices:
        raise ConfigurationError(f"{option} is one of {', '.join(map(repr, choices))}, not {value!r}")
    return value
