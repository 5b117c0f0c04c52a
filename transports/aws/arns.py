"""ARNs: how Amazon's services write the names of queues, topics, buses, streams, rules and archives."""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple, TypeAlias

from eip._checks import check_type
from eip.errors import AddressRefused, ConfigurationError, StateError

__all__ = ["Arns", "ChannelArn", "Kind"]

Kind: TypeAlias = Literal["queue", "topic", "bus", "stream"]

_SERVICES: Final[dict[Kind, tuple[str, str]]] = {
    "queue": ("sqs", ""),
    "topic": ("sns", ""),
    "bus": ("events", "event-bus/"),
    "stream": ("kinesis", "stream/"),
}
"""The service of each kind of channel, and what its ARNs have before the name."""
_NAMES: Final[dict[Kind, re.Pattern[str]]] = {
    "queue": re.compile(r"[A-Za-z0-9_-]{1,251}(?:\.fifo)?"),
    "topic": re.compile(r"[A-Za-z0-9_-]{1,251}(?:\.fifo)?"),
    "bus": re.compile(r"[A-Za-z0-9._/-]{1,256}"),
    "stream": re.compile(r"[A-Za-z0-9_.-]{1,128}"),
}
_ALPHABETS: Final[dict[Kind, str]] = {
    "queue": "letters, digits, - and _, and .fifo at the end",
    "topic": "letters, digits, - and _, and .fifo at the end",
    "bus": "letters, digits, and ._-/",
    "stream": "letters, digits, and ._-",
}
_ARN: Final = re.compile(
    r"arn:(aws[a-z-]*):(sqs|sns|events|kinesis):([a-z0-9-]+):([0-9]{12}):(event-bus/|stream/|)(.+)"
)
_KINDS: Final[dict[tuple[str, str], Kind]] = {place: kind for kind, place in _SERVICES.items()}
_ACCOUNT: Final = re.compile(r"[0-9]{12}")


class ChannelArn(NamedTuple):
    """The parts of a channel's ARN."""

    partition: str
    region: str
    account: str
    kind: Kind
    name: str


class Arns:
    """Makes and reads the ARNs of one account and region.

    Args:
        partition: e.g. ``aws``, ``aws-cn``.
        region: e.g. ``eu-central-1``.
        account: 12 digits; None: not known yet.

    Raises:
        ConfigurationError: an account that is not 12 digits.
    """

    def __init__(self, partition: str, region: str, account: str | None = None) -> None:
        if account is not None and not _ACCOUNT.fullmatch(account):
            raise ConfigurationError(f"account must be 12 digits, got {account!r}")
        self.partition, self.region = partition, region
        self._account = account

    @property
    def account(self) -> str:
        """The account's number; raises `StateError` while it is not known."""
        if self._account is None:
            raise StateError("use the transport inside its `async with`: the account is not known before")
        return self._account

    @account.setter
    def account(self, account: str) -> None:
        self._account = account

    @property
    def account_known(self) -> bool:
        """Whether the account's number was given or asked for."""
        return self._account is not None

    def of(self, kind: Kind, name: str) -> str:
        """The ARN of a channel's name in this account and region; an ARN of that kind is returned as it is.

        Raises:
            TypeError: the name is not a str.
            ConfigurationError: the service allows no such name.
        """
        check_type("name", name, str, "a str")
        service, prefix = _SERVICES[kind]
        if name.startswith("arn:"):
            found = self._parsed(name)
            if found is not None and found.kind == kind:
                return name
        elif _NAMES[kind].fullmatch(name):
            return self._arn(service, prefix + name)
        raise ConfigurationError(f"name must be an ARN or a {kind}'s name ({_ALPHABETS[kind]}), got {name[:300]!r}")

    def resource(self, service: str, resource: str) -> str:
        """The ARN of a resource of another service, in this account and region; ``resource`` in its notation."""
        return self._arn(service, resource)

    def archive(self, name: str) -> str:
        """The ARN of an archive."""
        return self._arn("events", f"archive/{name}")

    def rule(self, bus: str, name: str) -> str:
        """The ARN of a bus's rule."""
        return self._arn("events", f"rule/{name}" if bus == "default" else f"rule/{bus}/{name}")

    def is_own(self, arn: str) -> bool:
        """Whether the ARN is of this account and region."""
        return arn.startswith(f"arn:{self.partition}:") and arn.split(":")[3:5] == [self.region, self.account]

    def parse(self, address: str) -> ChannelArn:
        """The parts of a channel's ARN; raises `AddressRefused` for one of another partition or region, or for no ARN.

        Addresses come from strangers, in the return addresses of messages.
        """
        check_type("address", address, str, "a str")
        found = self._parsed(address)
        if found is None or (found.partition, found.region) != (self.partition, self.region):
            raise AddressRefused(address, reason="not the ARN of a queue, topic, bus or stream in this region")
        return found

    @staticmethod
    def _parsed(arn: str) -> ChannelArn | None:
        found = _ARN.fullmatch(arn)
        kind = None if found is None else _KINDS.get((found[2], found[5]))
        if found is None or kind is None or not _NAMES[kind].fullmatch(found[6]):
            return None
        return ChannelArn(found[1], found[3], found[4], kind, found[6])

    def _arn(self, service: str, resource: str) -> str:
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"
