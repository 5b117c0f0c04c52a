"""The consumer: takes messages from a channel, has them handled, settles them (pattern "Event-Driven Consumer").

Delivery is at-least-once: handlers must cope with a message that comes twice, or be wrapped in an
idempotent receiver. The order of work never varies: receive, handle, send the results, acknowledge.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import get_args

import anyio
from typing_extensions import override

from eip._checks import check_duration, check_integer, check_one_of, check_type
from eip.channels import Bus, Delivery, Queue, Receiver, Sender, Source, Stream, Topic
from eip.channels.addresses import ReturnAddresses
from eip.clock import Duration
from eip.errors import ConfigurationError
from eip.health import Health, HealthTracker
from eip.retry import Backoff
from eip.runtime._connecting import close, connect
from eip.runtime._session import Session, current
from eip.runtime._settings import GroupFailure, OnExpired, Settings, Stats
from eip.runtime.handlers import AnyHandler, handler_of, name_of, returns_messages
from eip.runtime.service import Service

__all__ = ["Consumer", "current_delivery"]


class Consumer(Service):
    """Runs a handler over a channel's messages until stopped.

    At most ``concurrency`` messages are handled at once, and no more are fetched than can start. Messages of one group
    are handled in order, one at a time. Leases are kept from receive until the message is settled.

    A handler that raises has its message tried again with backoff; `Reject` sends it to the dead-letter channel at
    once, `Park` its whole group, `Retry` chooses the delay. What cannot be decoded goes to the dead-letter channel with
    its raw body; without such a channel it stays where it is and comes again. Nothing is acknowledged unhandled, save
    what has expired.

    Packs (see `eip.patterns.Packer`) are unpacked unasked, and their messages handled one by one: as many at once as
    ``concurrency`` says, whatever the number of packs. A pack is one delivery: it is acknowledged when all of it is
    done, and ``max_processing`` is for the whole of it.

    Args:
        source: a queue, a subscription or a stream's group.
        handler: ``async def handle(message)``, or ``def`` to run in a thread; see `eip.runtime.handlers` for its forms.
        concurrency: messages handled at once; most threads of a ``def`` handler.
        polls: how many polls wait for messages at once, as far as ``concurrency`` leaves room for what they may bring.
            With 1, a message that arrives while an answer is on its way waits for the next poll, and where polls are
            billed (SQS) a free slot waits up to 50 ms for others, a fifth of ``concurrency`` and ten at most, so that
            one poll asks for them all. Each poll is billed, also while nothing comes.
        output: where messages that the handler returns are sent, before the received one is acknowledged.
        replies: sends them to the received message's return address instead, where it has one.
        dead_letters: where what can never be handled goes; default: the channel's own dead-letter queue.
        retry: the delays between attempts, and after how many attempts to give up. Where the channel has a limit of
            receives, that is a limit of attempts too, and the consumer dead-letters at the last one itself, with the
            error as reason. Of a message group, each receive by another process counts as ``1 + local_retries``
            attempts, unless the message came behind another: the handler never runs more often than allowed.
        on_group_failure: what becomes of a message group whose head failed ``1 + local_retries`` times in a row:
            ``"block"`` gives the group back, tail first, and dead-letters the head only at the channel's last receive;
            ``"dead_letter_and_continue"`` dead-letters the head; ``"park_group"`` dead-letters the head and what
            follows in its group, until `unpark` or the end of `run`.
        local_retries: attempts at a group's head in this process, after the first, while its group's leases are kept;
            they are attempts like any other.
        on_expired: ``"drop"`` acknowledges a message past its expiry, ``"dead_letter"`` keeps it there, ``"handle"``
            lets the handler have it.
        max_processing: seconds from receive after which the handler is cancelled and has failed; at most the channel's
            longest lease.
        grace: seconds that handlers have to finish after `stop`.
        name: for logs and errors; default: the source's.
        dead_letter: the earlier name of ``dead_letters``; it goes with the next release.

    Raises:
        TypeError: an argument of the wrong type.
        ConfigurationError: a value out of range, or a handler whose annotations show that it cannot work.
    """

    def __init__(
        self,
        source: Source,
        handler: AnyHandler,
        *,
        concurrency: int = 10,
        polls: int = 1,
        output: Sender | None = None,
        replies: ReturnAddresses | None = None,
        dead_letters: Sender | None = None,
        retry: Backoff | None = None,
        on_group_failure: GroupFailure = "block",
        local_retries: int = 3,
        on_expired: OnExpired = "drop",
        max_processing: Duration = 300.0,
        grace: Duration = 20.0,
        name: str | None = None,
        dead_letter: Sender | None = None,
    ) -> None:
        self._source, self._handler = _source(source), handler
        dead_letters = dead_letters or dead_letter
        self._dead_letters = check_type("dead_letters", dead_letters, Sender, "a sender", optional=True)
        self.name = name or source.name
        self._settings = Settings(
            name=self.name,
            handler=handler_of(handler),
            handler_name=name_of(handler),
            concurrency=check_integer("concurrency", concurrency, least=1),
            polls=check_integer("polls", polls, least=1),
            output=check_type("output", output, Sender, "a sender", optional=True),
            replies=check_type("replies", replies, ReturnAddresses, "ReturnAddresses", optional=True),
            retry=check_type("retry", retry, Backoff, "a Backoff", optional=True) or Backoff(),
            on_group_failure=check_one_of("on_group_failure", on_group_failure, get_args(GroupFailure)),
            local_retries=check_integer("local_retries", local_retries, least=0),
            on_expired=check_one_of("on_expired", on_expired, get_args(OnExpired)),
            max_processing=check_duration(
                "max_processing", max_processing, positive=True, most=source.limits.max_lease
            ),
            grace=check_duration("grace", grace),
        )
        if output is None and replies is None and returns_messages(handler):
            raise ConfigurationError(
                f"{name_of(handler)} returns messages by its annotation: give the consumer output=... or replies=..."
            )
        self._running = False
        self._session: Session | None = None
        self._stop = asyncio.Event()
        self._health = HealthTracker()
        self.stats = Stats()
        """What it counted so far."""
        self.ready = asyncio.Event()
        self.started = self.ready
        """The earlier name of `ready`."""
        self._ended = asyncio.Event()

    @property
    def grace(self) -> float:
        """Seconds that handlers have to finish after `stop`."""
        return self._settings.grace

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

    @override
    def health(self) -> Health:
        """Whether its channel answers and no message group is held up by its head; if not, since when and why."""
        session = self._session
        if session is not None:
            return session.health()
        state = "connecting" if self._running else "not running"
        found = self._health.health()
        return replace(found, ok=False, reason=found.reason or state)

    @override
    async def run(self) -> None:
        """Consume until `stop`. Cancelled, it drains with no grace.

        While the service cannot be reached it tries again, with a line in the log. What connecting raises otherwise,
        as for a channel that does not exist, is raised here.
        """
        if self._running:
            raise ConfigurationError(f"{self.name} is running already")
        self._running = True
        self._ended.clear()
        try:
            receiver = await connect(self._receiver, self._stop, health=self._health, consumer=self.name)
            if receiver is not None:
                await self._consume(receiver)
        finally:
            self._running = False
            self._stop.clear()
            self._ended.set()

    def _receiver(self) -> Receiver:
        receiver = self._source.receiver(capacity=self._settings.concurrency)
        if self._dead_letters is not None:
            receiver.dead_letters = self._dead_letters
        return receiver

    async def _consume(self, receiver: Receiver) -> None:
        channel = self._source if isinstance(self._source, Queue) else self._source.retry_queue
        self._health.watched = receiver.health
        try:
            self._session = Session(self._settings, receiver, self.stats, self._health, channel=channel)
            self.ready.set()
            if self._stop.is_set():
                self._session.stop()
            await self._session.run()
        finally:
            self._session = self._health.watched = None
            self.ready.clear()
            with anyio.CancelScope(shield=True):
                await close(receiver)

    @override
    async def stop(self, *, grace: Duration | None = None) -> None:
        """End `run` and wait for it: polling ends, handlers have their grace, acks are flushed, the rest is released.

        Before `run`, it lets the next `run` return at once. Idempotent; not to be awaited inside its own handler. A
        handler that does not end even when cancelled is named in the log, and `run` ends without it.

        Args:
            grace: seconds that handlers have to finish; default: the consumer's.
        """
        limit = None if grace is None else check_duration("grace", grace)
        self._stop.set()
        if self._session is not None:
            self._session.stop(limit)
        if self._running:
            await self._ended.wait()

    def __repr__(self) -> str:
        state = "running" if self._session is not None else "connecting" if self._running else "stopped"
        return f"<Consumer {self.name} {state} in_flight={self.stats.in_flight}>"


def current_delivery() -> Delivery:
    """The delivery that the running handler was called for: its receive count, its lease.

    Raises `LookupError` outside of a consumer's handler.
    """
    return current.get()


def _source(given: object) -> Source:
    """The source, where it is one."""
    if isinstance(given, Source):
        return given
    for kind, what in ((Topic, "subscription"), (Bus, "subscription"), (Stream, "group")):
        if isinstance(given, kind):
            raise TypeError(f"source must be what consumers share: give it {given.name}.{what}(name), got {given!r}")
    raise TypeError(f"source must be a queue, a subscription or a stream's group, got {given!r}")
