"""Return addresses come from strangers: they are resolved only where an allow-list accepts them."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Final

from eip._logging import get_logger
from eip.channels import Sender, Transport
from eip.errors import AddressRefused, ConfigurationError

__all__ = ["ReturnAddresses"]

_log = get_logger("eip.addresses")
_MAX_ADDRESS_CHARACTERS: Final = 2048


class ReturnAddresses:
    """Resolves the return addresses of requests, where the allow-list lets them through.

    Args:
        transport: turns an address into a sender.
        prefix: what the names of reply queues begin with; those of the same account or broker are allowed.
        allow: more addresses, with ``*``, e.g. ``"arn:aws:sqs:eu-central-1:123456789012:rfq-*"``.
    """

    def __init__(self, transport: Transport, *, prefix: str | None = None, allow: Iterable[str] = ()) -> None:
        self._transport = transport
        self._prefix = prefix
        self._allow = (allow,) if isinstance(allow, str) else tuple(allow)
        if prefix == "" or any(not pattern.strip("*") for pattern in self._allow):
            raise ConfigurationError("this would let any stranger choose where replies go; name a prefix")
        if prefix is None and not self._allow:
            raise ConfigurationError("name the reply queues that may be answered: prefix=... or allow=...")
        self.refused = 0
        """How many addresses were refused so far."""

    def resolve(self, address: str) -> Sender:
        """The sender of an allowed address; a refused one is logged, counted and raises `AddressRefused`."""
        try:
            self._check(address)
            return self._transport.resolve(address)
        except AddressRefused as error:
            self.refused += 1
            _log.warning("return_address_refused", address=error.address, refused=self.refused)
            raise

    def _check(self, address: str) -> None:
        if len(address) > _MAX_ADDRESS_CHARACTERS or not address.isprintable():
            raise AddressRefused(address[:80], reason="not an address")
        allowed = list(self._allow)
        if self._prefix is not None:
            allowed.append(self._transport.queue_addresses(self._prefix))
        if not any(fnmatchcase(address, pattern) for pattern in allowed):
            raise AddressRefused(address)
