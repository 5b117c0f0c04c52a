"""Lambda functions, declared as values: how they run, and what they may do.

Their code comes by a deployment of its own, e.g. of the template that `eip.transports.aws.cloudformation.template`
makes; a topology compares and changes their settings, and gives each a role that may do exactly what is declared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import ClassVar, Final

from eip._checks import check_integer, check_type
from eip.errors import ConfigurationError
from eip.topology import DriverResource
from eip.transports.aws.policies import Used, used

__all__ = ["FunctionSpec"]

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HANDLER: Final = re.compile(r"[A-Za-z_][\w/.-]*\.[A-Za-z_]\w*")
_ACTION: Final = re.compile(r"[a-z0-9-]+:[A-Za-z]+")
"""No wildcard: an action is what is called."""
_MEMORY_MB: Final = (128, 10_240)
_MAX_TIMEOUT: Final = timedelta(minutes=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionSpec(DriverResource):
    """A function whose entry point is a `lambda_handler`.

    Args:
        name: of the function.
        handler: the entry point, ``module.attribute``.
        code: the folder with its code, for templates.
        runtime: of Lambda, e.g. ``python3.13``.
        memory: MB, 128 to 10,240; processor time grows with it.
        timeout: of an invocation, up to 15 minutes, in whole seconds.
        environment: variables.
        uses: what the handler sends to or stores in, as ``kind:name``: ``"topic:quotes"``, ``"queue:orders-dead"``,
            ``"bus:default"``, ``"stream:clicks"``, ``"table:jobs"`` (`DynamoStore`), ``"bucket:lake"``
            (`S3Objects`). Its role may do exactly what these take.
        allows: what else the handler calls by clients of its own: actions by ``kind:name`` or ARN, e.g.
            ``{"table:inventory": ["dynamodb:PutItem"]}``.
        tags: key and value; other tags of the function stay.

    Raises:
        ConfigurationError: what Lambda would refuse.
    """

    kind: ClassVar[str] = "function"
    rank: ClassVar[int] = 10

    name: str
    handler: str
    code: str = "."
    runtime: str = "python3.13"
    memory: int = 512
    timeout: timedelta = timedelta(seconds=30)
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)
    uses: Sequence[str] = field(default=(), hash=False)
    allows: Mapping[str, Sequence[str]] = field(default_factory=dict, hash=False)
    tags: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Validate the parameters."""
        check_type("name", self.name, str, "a string")
        if not _NAME.fullmatch(self.name):
            raise ConfigurationError(f"name must be 1 to 64 letters, digits, - and _, got {self.name[:80]!r}")
        if not _HANDLER.fullmatch(check_type("handler", self.handler, str, "a string")):
            raise ConfigurationError(f"handler must be module.attribute, got {self.handler[:80]!r}")
        least, most = _MEMORY_MB
        if not least <= check_integer("memory", self.memory, least=1) <= most:
            raise ConfigurationError(f"memory must be {least} to {most:,} MB, got {self.memory:,}")
        check_type("timeout", self.timeout, timedelta, "a timedelta")
        if not timedelta(seconds=1) <= self.timeout <= _MAX_TIMEOUT or self.timeout % timedelta(seconds=1):
            raise ConfigurationError(f"timeout must be 1 s to 15 minutes, in whole seconds, got {self.timeout}")
        self.used()
        self.allowed()

    def allowed(self) -> list[tuple[Used | str, Sequence[str]]]:
        """What its handler calls by itself: the resource, read, or its ARN, and the actions."""
        found: list[tuple[Used | str, Sequence[str]]] = []
        for resource, actions in self.allows.items():
            if isinstance(actions, str) or not actions or not all(_ACTION.fullmatch(each) for each in actions):
                raise ConfigurationError(f"allows must have actions such as dynamodb:PutItem, got {actions!r:.80}")
            found.append((resource if resource.startswith("arn:") else used(resource), actions))
        return found

    def used(self) -> list[Used]:
        """What it uses, read."""
        return [used(each) for each in self.uses]
