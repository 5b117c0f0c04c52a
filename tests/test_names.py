"""Names of channels: checked wherever one is taken, before anything is asked of a service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from eip.errors import AddressRefused, ConfigurationError
from eip.topology import BusSpec, QueueSpec, RuleSpec, StreamSpec, SubscriptionSpec, TopicSpec
from eip.transports.activemq import ActiveMQTransport
from eip.transports.aws import AwsTransport
from eip.transports.memory import MemoryTransport

TRANSPORTS: dict[str, Callable[[], Any]] = {
    "memory": MemoryTransport,
    "aws": lambda: AwsTransport(region="us-east-1", account="1" * 12),
    "activemq": lambda: ActiveMQTransport("stomp://127.0.0.1:1"),
}
SPECS: dict[str, Callable[[Any], Any]] = {
    "queue": QueueSpec,
    "queue-dead-letters": lambda name: QueueSpec("q", dead_letters=name),
    "topic": TopicSpec,
    "subscription": lambda name: SubscriptionSpec("t", name),
    "subscription-topic": lambda name: SubscriptionSpec(name, "s"),
    "stream": StreamSpec,
    "bus": BusSpec,
    "rule": lambda name: RuleSpec("b", name),
    "rule-bus": lambda name: RuleSpec(name, "r"),
}
ODD = {"empty": "", "blank": " ", "NUL": "a\0b", "surrogate": "\ud800", "long": "x" * 10_240, "line": "a\nb"}


def takers(transport: Any) -> dict[str, Callable[[Any], Any]]:
    """Whatever takes a name."""
    found = {kind: getattr(transport, kind) for kind in transport.kinds}
    for kind in transport.kinds:
        if kind in ("topic", "bus"):
            found[f"{kind}'s subscription"] = found[kind]("c").subscription
        elif kind == "stream":
            found["stream's group"] = found[kind]("c").group
    return found


@pytest.mark.parametrize("name", ODD.values(), ids=ODD)
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_odd_name_is_refused_at_once_in_a_short_text(transport, name):
    """Fault 34: accepted by the embedded transport, refused late by a service, or shown in all of its length."""
    made = TRANSPORTS[transport]()
    for what, take in takers(made).items():
        with pytest.raises(ConfigurationError) as raised:
            take(name)
        assert "name" in str(raised.value), what
        assert len(str(raised.value)) < 500, what
    with pytest.raises(AddressRefused) as refused:
        made.resolve(name)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("name", [None, 42, b"q", ["q"]])
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_name_that_is_no_text_is_a_type_error(transport, name):
    """Fault 34."""
    made = TRANSPORTS[transport]()
    for take in takers(made).values():
        with pytest.raises(TypeError, match="name must be a str"):
            take(name)
    with pytest.raises(TypeError, match="address must be a str"):
        made.resolve(name)


@pytest.mark.parametrize("spec", SPECS)
def test_what_is_declared_has_a_name(spec):
    """Fault 34: found when it was applied."""
    for name in ODD.values():
        with pytest.raises(ConfigurationError):
            SPECS[spec](name)
    for wrong in (42, b"q"):
        with pytest.raises(TypeError):
            SPECS[spec](wrong)


async def test_names_that_people_give_are_names():
    async with MemoryTransport() as memory:
        for name in ("orders", "JobEvents.fifo", "order 7", "Übergabe", "a/b", "東京", "x" * 512):
            assert memory.queue(name).name == name


@pytest.mark.parametrize("options", [{"fifo": "x"}, {"fifo": 1}, {"content_based_deduplication": "yes"}])
async def test_flags_of_memory_channels_are_bools(options):
    """Fault 34: a text was taken for true."""
    (flag,) = options
    async with MemoryTransport() as memory:
        for make in (memory.queue, memory.topic):
            with pytest.raises(TypeError, match=f"{flag} must be a bool"):
                make("c", **options)
        with pytest.raises(TypeError, match="dead_letters must be"):
            memory.queue("q", dead_letters="dead", max_receive_count=3)
