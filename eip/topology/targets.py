"""Where a rule of a bus sends events, declared as a value (EventBridge user guide, "Targets", November 2026)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Literal, TypeAlias, get_args

from eip.errors import ConfigurationError, InvalidPattern
from eip.matching import InputTransformer
from eip.topology.names import is_fifo

__all__ = ["TargetKind", "TargetSpec"]

TargetKind: TypeAlias = Literal[
    "queue", "topic", "bus", "stream", "function", "state_machine", "firehose", "api_destination"
]

_MAX_ID_CHARACTERS: Final = 64
_MAX_INPUT_CHARACTERS: Final = 8192
_KINDS: Final[tuple[TargetKind, ...]] = get_args(TargetKind)
_MAX_GROUP_ID_CHARACTERS: Final = 100
_OF_ONE_KIND: Final[Mapping[str, TargetKind]] = {
    "group_id": "queue",
    "partition_key": "stream",
    "headers": "api_destination",
    "query": "api_destination",
    "path_values": "api_destination",
}
_MAX_ATTEMPTS: Final = 185
_MIN_AGE: Final = timedelta(minutes=1)
_MAX_AGE: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSpec:
    """Where a rule sends events: exactly one queue, topic, bus, stream, function, and so on.

    Queues, topics, buses and streams are given by the name under which the topology declares them; any target by its
    ARN, those of other accounts always. The embedded bus has no functions, state machines, delivery streams and API
    destinations: such events go to the dead letters.

    The target gets the event itself, or at most one of these: a constant, a part of the event, or a template filled
    with parts of it. Such a text has no envelope: the consumer reads it as a foreign producer's message.

    Args:
        queue: a standard queue, or a FIFO queue with a ``group_id`` and content-based deduplication.
        topic: a standard topic: the way to more than five receivers.
        bus: another bus. Events keep their source, time and replay name, and are not forwarded a second time.
        stream: records are events.
        function: a Lambda function: its name, or its ARN, which may end in a version or an alias.
        state_machine: of Step Functions, standard or express: an execution is started, nobody waits for it.
        firehose: a delivery stream of Data Firehose.
        api_destination: an HTTP endpoint, `eip.transports.aws.ApiDestinationSpec`.
        input: JSON text that replaces every event (Input).
        input_path: a JSON path, e.g. ``"$.detail"`` (InputPath).
        input_paths: JSON paths by variable (InputPathsMap), with ``template``.
        template: text with ``<variable>`` placeholders (InputTemplate).
        max_attempts: retries of a delivery that failed transiently, 0 to 185.
        max_age: how long a delivery is retried, one minute to one day.
        dead_letters: the queue for what cannot be delivered; default: the rule's.
        group_id: the message group of all that the target gets: required for a FIFO queue; of a standard queue for
            fair queues.
        partition_key: a JSON path; default: the event's id. Streams only.
        headers: more HTTP headers, values or JSON paths. API destinations only, as the next two.
        query: more parameters of the query string.
        path_values: fill the ``*`` of the destination's URL, in their order.
        role: ARN of the role that EventBridge assumes. Default: none where a policy of the target serves (queues,
            topics and functions of this account); otherwise the rule has a role of its own, which may do exactly this.
        id: unique within the rule; default: kind and name.

    Raises:
        ConfigurationError: what PutTargets would refuse.
        InvalidPattern: an ``input`` that is not JSON, or a template that names no path.
    """

    queue: str | None = None
    topic: str | None = None
    bus: str | None = None
    stream: str | None = None
    input: str | None = None
    input_path: str | None = None
    input_paths: Mapping[str, str] = field(default_factory=dict, hash=False)
    template: str | None = None
    max_attempts: int = _MAX_ATTEMPTS
    max_age: timedelta = _MAX_AGE
    dead_letters: str | None = None
    group_id: str | None = None
    function: str | None = None
    state_machine: str | None = None
    firehose: str | None = None
    api_destination: str | None = None
    partition_key: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    query: Mapping[str, str] = field(default_factory=dict, hash=False)
    path_values: Sequence[str] = ()
    role: str | None = None
    id: str = ""

    def __post_init__(self) -> None:
        """Validate the parameters."""
        named = [kind for kind in _KINDS if getattr(self, kind) is not None]
        if len(named) != 1:
            raise ConfigurationError(
                f"a target must be exactly one of {', '.join(_KINDS)}, got {', '.join(named) or 'none'}"
            )
        if not 0 <= self.max_attempts <= _MAX_ATTEMPTS:
            raise ConfigurationError(f"max_attempts must be 0 to {_MAX_ATTEMPTS}, got {self.max_attempts}")
        if not _MIN_AGE <= self.max_age <= _MAX_AGE:
            raise ConfigurationError(f"max_age must be {_MIN_AGE} to {_MAX_AGE}, got {self.max_age}")
        self._check_fifo()
        self._check_kind()
        self._check_input()
        if not self.id:
            object.__setattr__(self, "id", _target_id(f"{self.kind}-{self.name}"))
        self.transformer()

    def _check_fifo(self) -> None:
        for parameter, name in (("topic", self.topic), ("dead_letters", self.dead_letters)):
            if name is not None and is_fifo(name):
                raise ConfigurationError(f"{parameter} must be standard: EventBridge sends to no FIFO {name!r}")
        if self.group_id is None and is_fifo(self.queue or ""):
            raise ConfigurationError(f"target {self.name}: group_id is required for a FIFO queue")
        if self.group_id is not None and not 0 < len(self.group_id) <= _MAX_GROUP_ID_CHARACTERS:
            raise ConfigurationError(
                f"target {self.name}: group_id must have 1 to {_MAX_GROUP_ID_CHARACTERS} characters, "
                f"got {len(self.group_id)}"
            )

    def _check_kind(self) -> None:
        """Validate the parameters that only one kind of target has."""
        for parameter, kind in _OF_ONE_KIND.items():
            value = getattr(self, parameter)
            if value and self.kind != kind:
                raise ConfigurationError(f"target {self.name}: {parameter} is for targets {kind}=..., got {value!r}")
        if self.role is not None and not self.role.startswith("arn:"):
            raise ConfigurationError(f"target {self.name}: role must be the ARN of a role, got {self.role!r}")

    def _check_input(self) -> None:
        if self.bus is not None and (self.input, self.input_path, self.template) != (None, None, None):
            raise ConfigurationError(
                f"target {self.name}: a bus gets events as they are; drop input, input_path, template"
            )
        if self.input_paths and self.template is None:
            raise ConfigurationError(f"target {self.name}: input_paths needs a template")
        if self.input is not None and not _is_json(self.input):
            raise InvalidPattern(f"JSON syntax error in input for target {self.name}.")
        for parameter, text in (("input", self.input), ("template", self.template)):
            if len(text or "") > _MAX_INPUT_CHARACTERS:
                raise ConfigurationError(
                    f"target {self.name}: {parameter} must have at most {_MAX_INPUT_CHARACTERS:,} characters, "
                    f"got {len(text or ''):,}"
                )

    @property
    def kind(self) -> TargetKind:
        """The kind of channel."""
        return next(kind for kind in _KINDS if getattr(self, kind) is not None)

    @property
    def name(self) -> str:
        """The channel's name."""
        return str(getattr(self, self.kind))

    def transformer(self, *, rule_name: str = "", rule_arn: str = "") -> InputTransformer | None:
        """Return the transformer that makes the target's text; None if the target gets the event itself."""
        if self.input is None and self.input_path is None and self.template is None:
            return None
        return InputTransformer(
            constant=self.input,
            path=self.input_path,
            paths=self.input_paths,
            template=self.template,
            target=self.id,
            rule_name=rule_name,
            rule_arn=rule_arn,
        )


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _target_id(text: str) -> str:
    """The text where it is a valid target id, otherwise as much of it as fits and a hash."""
    made = re.sub(r"[^A-Za-z0-9._-]", "-", text)
    if made == text and len(made) <= _MAX_ID_CHARACTERS:
        return made
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{made[: _MAX_ID_CHARACTERS - 9]}-{digest}"
