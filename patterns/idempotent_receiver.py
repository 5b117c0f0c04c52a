"""Idempotent Receiver (Hohpe & Woolf, chapter 10): a message that comes again is not handled again.

A message is claimed before it is handled, for a lease that is renewed meanwhile, and noted as done afterwards:

    nothing known  -> claimed, handled, done
    claimed        -> deferred until the lease ends: `Retry`, neither handled nor lost
    done           -> not handled; what the handler returned the first time is returned once more

Delivery stays at-least-once. What is exact is the store's part: of two handlers at most one holds the claim, and only
who holds it can note the message as done. A handler whose process dies, or stands still for longer than its lease, has
its message handled again, so a crash never loses one as a "duplicate"; its effects up to then may show twice. While the
store fails nothing is handled: the message is tried again. Clocks of processes on one store need to agree
within seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from eip import clock
from eip._logging import get_logger
from eip.clock import Duration, seconds
from eip.envelope import load_message
from eip.errors import ConfigurationError, DecodeError, Retry, StoreError
from eip.health import Health, HealthTracker
from eip.message import Message
from eip.patterns._claim_renewer import ClaimRenewer
from eip.patterns._idempotency_key import idempotency_key
from eip.patterns._idempotency_lease import Claim, ClaimLostError, State, part_name
from eip.patterns._records import Records
from eip.patterns.diagram import with_diagram
from eip.runtime.consumer import current_delivery
from eip.runtime.handlers import AnyHandler, Handler, Result, messages_of, middleware
from eip.stores.base import Store

__all__ = ["IdempotentReceiver", "idempotent"]

_log = get_logger("eip.idempotent")

_DAY_S: Final = 86_400.0
_LOOK_S: Final = 5.0
"""Seconds between looks at a claim of another handler, which may give it back, or be done, before it ends."""
_AFTER_S: Final = 0.25
"""Seconds after the end of a lease, at which a deferred message comes again."""


def idempotent(
    store: Store,
    *,
    key: Callable[[Message[Any]], str | None] | None = None,
    lease: Duration = 60.0,
    window: Duration = 15 * _DAY_S,
    scope: str = "",
    replays: bool = False,
) -> IdempotentReceiver:
    """Handle each message once, however often it is delivered; wraps a handler: ``idempotent(store)(handler)``.

    Args:
        store: what was handled, shared by all processes that handle it.
        key: what makes two messages the same; default: the message's id. Where it gives None the message is rejected.
        lease: seconds (or timedelta) after which the message of a process that died is handled by another; renewed
            every third of it while the handler runs, so it need not be as long as the longest handling.
        window: seconds (or timedelta) that a message is known after it was handled; default 15 days, a day more than
            SQS keeps a message. Longer than the channel's retention, or what was kept that long is handled twice.
        scope: sets handlers that share a store apart, e.g. two subscribers of one topic; default: none.
        replays: whether what a replay brings (`eip.patterns.replay`) is handled again, once per replay; otherwise it is
            a duplicate like any other, for as long as the window.

    Raises:
        ConfigurationError: a window that does not exceed the lease.
    """
    return IdempotentReceiver(store, key=key, lease=lease, window=window, scope=scope, replays=replays)


def _deferred(state: State) -> Retry:
    """Puts a message off that another handler has.

    Waiting does not use up receive attempts where a consumer keeps the message's lease: a message whose first handler
    was killed could otherwise be dead-lettered without ever being handled. Then it also looks more often, as the other
    handler may give its claim back, or be done, before it ends. AWS Lambda keeps no lease: each look is a receive.
    """
    left = max(state.until - clock.now(), 0.0) + _AFTER_S
    try:
        current_delivery()
    except LookupError:
        return Retry("another handler has it", delay=left)
    return Retry("another handler has it", delay=min(left, _LOOK_S), counted=False)


class IdempotentReceiver:
    """The middleware that `idempotent` gives; counts what it kept from being handled."""

    def __init__(
        self,
        store: Store,
        *,
        key: Callable[[Message[Any]], str | None] | None,
        lease: Duration,
        window: Duration,
        scope: str,
        replays: bool,
    ) -> None:
        self._store, self._key, self._scope, self._replays = store, key, scope, replays
        self._lease, self._window = seconds(lease), seconds(window)
        if not 0 < self._lease < self._window:
            raise ConfigurationError("a lease is more than 0 seconds, and the window longer than the lease")
        self._tracker = HealthTracker()
        self._renewer = ClaimRenewer(self._lease, self._tracker)
        self.duplicates = 0
        """Messages that were done already."""
        self.deferred = 0
        """How often a message was put off because another handler had it."""
        self.taken_over = 0
        """Handlings whose claim another took over: their lease had ended."""

    def __call__(self, handler: AnyHandler) -> Handler:
        """The handler, wrapped."""
        return middleware(self._wrap)(handler)

    def _wrap(self, handle: Handler) -> Handler:

        async def once(message: Message[Any]) -> Result:
            key = self._key_of(message)
            claim = Claim(self._store, key, self._lease)
            known = await claim.take()
            if known is None:
                try:
                    return await self._handle(claim, handle, message)
                except ClaimLostError:
                    self.taken_over += 1
                    _log.warning("claim_lost", message_id=message.id, owner=claim.owner)
                known = await self._known(key)
            return await self._known_already(key, known)

        return with_diagram(once, "idempotent_receiver", inside=handle)

    def health(self) -> Health:
        """Whether the store took the latest renewal of a claim; if not, since when and why."""
        return self._tracker.health()

    def _key_of(self, message: Message[Any]) -> str:
        key = idempotency_key(message, self._key, replays=self._replays)
        return f"{self._scope}:{key}" if self._scope else key

    async def _known(self, key: str) -> State:
        found = await Records(self._store, State).read(key)
        if found is None:
            raise Retry("its claim ended while it was handled")
        return found.value

    async def _known_already(self, key: str, state: State) -> list[Message[Any]]:
        """What the handler returned for a message that is done; raises `Retry` for one that is being handled."""
        if state.results is None:
            self.deferred += 1
            raise _deferred(state)
        self.duplicates += 1
        if state.results == 0:
            return []
        parts = await self._store.parts(key)
        names = [part_name(state.owner, number) for number in range(min(state.results, len(parts) + 1))]
        if not parts.keys() >= set(names):
            raise StoreError("the store lost what the handler returned")
        try:
            return [load_message(parts[each]) for each in names]
        except DecodeError as error:
            raise StoreError(f"what the handler returned cannot be read: {error}", transient=False) from error

    async def _handle(self, claim: Claim, handle: Handler, message: Message[Any]) -> Result:
        """Have a claimed message handled and note it as done; gives the claim back where that fails."""
        try:
            results = messages_of(await self._renewer.handle(claim, handle, message))
            await claim.complete(results, self._window)
        except ClaimLostError:
            raise
        except BaseException:
            await claim.release()
            raise
        return results
