"""What only EventBridge knows of a declared bus: encryption, logging, and who may put events on it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from eip._checks import check_one_of, check_type
from eip.errors import ConfigurationError
from eip.topology import DriverOptions

__all__ = ["BusAccess", "EventBridgeOptions", "LogLevel"]

LogLevel: TypeAlias = Literal["OFF", "ERROR", "INFO", "TRACE"]
_LEVELS: Final[tuple[LogLevel, ...]] = ("OFF", "ERROR", "INFO", "TRACE")
_ACCOUNT: Final = re.compile(r"[0-9]{12}")
_ORGANIZATION: Final = re.compile(r"o-[a-z0-9]{10,32}")
_STATEMENT_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,60}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BusAccess:
    """Others who may put events on a bus: accounts, or all accounts of an organization.

    Args:
        name: of the statement in the bus's policy, unique for the bus.
        accounts: numbers of 12 digits.
        organization: its id, ``o-...``.
        sources: only events whose source is one of these; default: any.
        detail_types: only events whose detail-type is one of these; default: any.

    Raises:
        ConfigurationError: no accounts and no organization, or a value that is none.
    """

    name: str
    accounts: Sequence[str] = field(default=(), hash=False)
    organization: str | None = None
    sources: Sequence[str] = field(default=(), hash=False)
    detail_types: Sequence[str] = field(default=(), hash=False)

    def __post_init__(self) -> None:
        """Validate the parameters."""
        if not _STATEMENT_ID.fullmatch(self.name):
            raise ConfigurationError(f"name must be 1 to 60 letters, digits, - and _, got {self.name!r}")
        for parameter in ("accounts", "sources", "detail_types"):
            check_type(parameter, getattr(self, parameter), (list, tuple), "a list of strings")
        for account in self.accounts:
            if not _ACCOUNT.fullmatch(account):
                raise ConfigurationError(f"accounts must be numbers of 12 digits, got {account!r}")
        if self.organization is not None and not _ORGANIZATION.fullmatch(self.organization):
            raise ConfigurationError(f"organization must be an id such as o-a1b2c3d4e5, got {self.organization!r}")
        if bool(self.accounts) == (self.organization is not None):
            raise ConfigurationError(f"access {self.name}: give either accounts or an organization")

    def statement(self, bus: Any, partition: Any) -> dict[str, Any]:
        """The statement of the bus's policy.

        Args:
            bus: its ARN, or what makes it in a template.
            partition: of the ARNs of accounts.
        """
        conditions = {
            "aws:PrincipalOrgID": [self.organization] if self.organization else [],
            "events:source": list(self.sources),
            "events:detail-type": list(self.detail_types),
        }
        equal = {key: each[0] if len(each) == 1 else each for key, each in conditions.items() if each}
        made: dict[str, Any] = {
            "Sid": f"eip-{self.name}",
            "Effect": "Allow",
            "Principal": {"AWS": [_root(partition, each) for each in self.accounts]} if self.accounts else "*",
            "Action": "events:PutEvents",
            "Resource": bus,
        }
        return made | ({"Condition": {"StringEquals": equal}} if equal else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class EventBridgeOptions(DriverOptions):
    """Of a bus on EventBridge; what is not given stays as it is.

    Args:
        description: for people, at most 512 characters.
        encryption: a KMS key: its id, ARN or ``alias/...``; ``""``: EventBridge's own. Its policy must let
            ``events.amazonaws.com`` use it; declare the bus with ``dead_letters=True``.
        log_level: of the bus's logs. Where they go is set up in CloudWatch Logs ("vended logs").
        log_details: whether the logs have the events' details.
        access: who else may put events on the bus, one statement of its policy each; statements of others stay.

    Raises:
        ConfigurationError: a value out of range.
    """

    description: str | None = None
    encryption: str | None = None
    log_level: LogLevel | None = None
    log_details: bool = False
    access: Sequence[BusAccess] = field(default=(), hash=False)

    def __post_init__(self) -> None:
        """Validate the parameters."""
        if len(self.description or "") > 512:
            raise ConfigurationError(f"description must have at most 512 characters, got {len(self.description or '')}")
        check_one_of("log_level", self.log_level, (None, *_LEVELS))
        if self.log_details and self.log_level in (None, "OFF"):
            raise ConfigurationError(f"log_details needs a log_level, got log_level={self.log_level!r}")
        check_type("access", self.access, (list, tuple), "a list of BusAccess")
        names = [check_type("access", each, BusAccess, "a list of BusAccess").name for each in self.access]
        if len(set(names)) != len(names):
            raise ConfigurationError(f"access must have each name once, got {', '.join(names)}")

    @property
    def log_config(self) -> Mapping[str, str] | None:
        """As the service has it; None: not declared."""
        if self.log_level is None:
            return None
        return {"IncludeDetail": "FULL" if self.log_details else "NONE", "Level": self.log_level}


def _root(partition: Any, account: str) -> Any:
    if isinstance(partition, str):
        return f"arn:{partition}:iam::{account}:root"
    return {"Fn::Sub": f"arn:${{AWS::Partition}}:iam::{account}:root"}
