"""Callbacks: a customer's URL is called once their RFQ is complete, again until it has answered, or is given up.

The scatter-gather calls `Callbacks.announce` at least once for a complete RFQ, whatever process dies. That sends a
message to a queue; its consumer calls the URL. A failed call comes again with growing pauses, and ends in the queue of
dead letters, from which operations can redrive it. So a receiver may be called twice: ``webhook-id`` is the RFQ's id.

``python -m examples.rfq.callbacks FILE CUSTOMER`` prints the key that a customer verifies signatures with.
"""

from __future__ import annotations

import argparse
import base64
import json
import secrets
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from eip import Backoff, Consumer, Message, Queue, Reject, Retry, clock
from eip.errors import ConfigurationError
from eip.patterns.scatter_gather import Gathered
from eip.stores import Store
from examples.rfq.documents import result_document
from examples.rfq.store import RETENTION, Rfq
from examples.rfq.webhooks import Answer, UrlRefused, UrlRules, WebhookFailed, post, secret_of, signed

__all__ = ["MAX_ATTEMPTS", "CallbackCalls", "CallbackOptions", "Callbacks", "load_secret"]

MAX_ATTEMPTS: Final = 10
"""Calls until one is given up: with these pauses, after about half an hour."""
_RETRY_BACKOFF: Final = Backoff(base=5.0, cap=600.0, max_attempts=MAX_ATTEMPTS)
_MAX_RETRY_AFTER_S: Final = 600.0
_CONCURRENCY: Final = 100
_GONE: Final = 410
_SECRET_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class CallbackOptions:
    """What a service needs that calls URLs."""

    rules: UrlRules
    """Which URLs may be called."""
    secret: bytes
    """What the customers' keys are made of."""
    retry: Backoff = _RETRY_BACKOFF
    """The pauses between attempts."""


class _Callback(BaseModel):
    url: str
    base: str
    """Of the links in what is sent: the service as the customer called it."""


class Callbacks:
    """Which RFQs have a callback, and the queue of those that are due.

    Args:
        queue: of messages that name a complete RFQ.
        store: the RFQs' callbacks, shared by all processes.
        options: which URLs customers may name; None: none.
    """

    def __init__(self, queue: Queue, store: Store, options: CallbackOptions | None) -> None:
        self._queue, self._store, self._options = queue, store, options

    def check(self, url: str) -> None:
        """Raise `UrlRefused` for a URL that would not be called."""
        if self._options is None:
            raise UrlRefused("this service calls no URLs; ask for the result instead")
        self._options.rules.check(url)

    async def register(self, rfq: str, url: str, *, base: str, eta: float) -> None:
        """Note the URL of an RFQ, before anybody is asked."""
        value = _Callback(url=url, base=base).model_dump_json().encode()
        await self._store.put(_key(rfq), value, expires_at=eta + RETENTION)

    async def announce(self, gathered: Gathered) -> None:
        """Have the URL of a complete RFQ called."""
        await self._queue.send(Message({"rfq": gathered.id}, type="RfqComplete", id=f"callback-{gathered.id}"))

    async def of(self, rfq: str) -> _Callback | None:
        """The callback of an RFQ."""
        found = await self._store.get(_key(rfq))
        return None if found is None else _Callback.model_validate_json(found.value)


class CallbackCalls(Consumer):
    """Calls the URLs; a service.

    Args:
        queue: see `Callbacks`.
        callbacks: the URLs.
        get: gives an RFQ.
        options: the rules of now, not of when the RFQ was accepted.
    """

    def __init__(
        self,
        queue: Queue,
        callbacks: Callbacks,
        *,
        get: Callable[[str], Awaitable[Rfq | None]],
        options: CallbackOptions,
    ) -> None:
        super().__init__(queue, self._call, concurrency=_CONCURRENCY, retry=options.retry)
        self._callbacks, self._get, self._options = callbacks, get, options

    async def _call(self, message: Message[dict[str, Any]]) -> None:
        identity = str(message.body["rfq"])
        rfq, callback = await self._get(identity), await self._callbacks.of(identity)
        if rfq is None or callback is None:
            raise Reject("the RFQ, or its callback, is not known any more")
        try:
            target = self._options.rules.check(callback.url)
        except UrlRefused as error:
            raise Reject(f"its URL may not be called: {error}") from None
        at = int(clock.now())
        whole = {"type": "rfq.complete", "timestamp": at, "data": result_document(callback.base, rfq)}
        body = json.dumps(whole).encode()
        secret = secret_of(self._options.secret, rfq.request.customer)
        headers = {"Content-Type": "application/json", **signed(secret, identity=identity, at=at, body=body)}
        _judge(await post(target, body, headers, self._options.rules))


def _judge(answer: Answer) -> None:
    """Raise what becomes of a call that was not accepted."""
    if answer.status == _GONE:
        raise Reject("the receiver wants no calls any more: 410")
    if answer.retry_after.isdecimal() and not answer.accepted:
        raise Retry(f"the receiver answered {answer.status}", delay=min(float(answer.retry_after), _MAX_RETRY_AFTER_S))
    if not answer.accepted:
        raise WebhookFailed(f"the receiver answered {answer.status}")


def _key(rfq: str) -> str:
    return f"callback {rfq}"


def load_secret(file: Path) -> bytes:
    """What customers' keys are made of; raises `ConfigurationError` for a file that holds none."""
    try:
        secret = bytes.fromhex(file.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{file} is no secret file: {error}") from None
    if len(secret) < _SECRET_BYTES:
        raise ConfigurationError(f"{file} is no secret file: it must hold {2 * _SECRET_BYTES} hexadecimal digits")
    return secret


def main() -> int:
    """Print a customer's key; the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m examples.rfq.callbacks", description="A customer's key.")
    parser.add_argument("file", type=Path, help="the secret file; made where there is none")
    parser.add_argument("customer", help="the customer's name, as in their requests")
    options = parser.parse_args()
    try:
        if not options.file.exists():
            options.file.touch(mode=0o600)
            options.file.write_text(secrets.token_hex(_SECRET_BYTES) + "\n", encoding="ascii")
        key = secret_of(load_secret(options.file), options.customer.strip())
    except (ConfigurationError, OSError) as error:
        print(f"no key: {error}", file=sys.stderr)
        return 1
    print(f"whsec_{base64.b64encode(key).decode()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
