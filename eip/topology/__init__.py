"""Topology: channels and what connects them, declared as values, compared with what exists, and made.

    topology = Topology(
        QueueSpec("orders"),                                    # with a dead-letter queue, orders-dead
        TopicSpec("JobEvents.fifo"),
        SubscriptionSpec("JobEvents.fifo", "inventory", filter=FilterPolicy({"eventType": ["JobCreated"]})),
    )
    print(await topology.plan(transport))                       # create / change / same / drift
    await topology.apply(transport)                             # idempotent; deletes nothing unless asked to

A subscription has a queue of its own. Where the service needs it, the queue's policy lets exactly that topic send. A
rule of an event bus has a queue of its own too, or targets: `TargetSpec`, at most five.
"""

from eip.topology.archives import Archives as Archives
from eip.topology.archives import ArchiveStatus as ArchiveStatus
from eip.topology.archives import HasArchives as HasArchives
from eip.topology.archives import ReplayState as ReplayState
from eip.topology.archives import ReplayStatus as ReplayStatus
from eip.topology.events import ArchiveSpec as ArchiveSpec
from eip.topology.events import BusSpec as BusSpec
from eip.topology.events import RuleSpec as RuleSpec
from eip.topology.plan import Action as Action
from eip.topology.plan import Container as Container
from eip.topology.plan import Plan as Plan
from eip.topology.plan import Provisioner as Provisioner
from eip.topology.plan import Resource as Resource
from eip.topology.plan import Step as Step
from eip.topology.resources import DriverOptions as DriverOptions
from eip.topology.resources import DriverResource as DriverResource
from eip.topology.resources import QueueSpec as QueueSpec
from eip.topology.resources import StreamSpec as StreamSpec
from eip.topology.resources import SubscriptionSpec as SubscriptionSpec
from eip.topology.resources import TopicSpec as TopicSpec
from eip.topology.targets import TargetSpec as TargetSpec
from eip.topology.topology import Topology as Topology

__all__ = [
    "Action",
    "ArchiveSpec",
    "ArchiveStatus",
    "Archives",
    "BusSpec",
    "Container",
    "DriverOptions",
    "DriverResource",
    "HasArchives",
    "Plan",
    "Provisioner",
    "QueueSpec",
    "ReplayState",
    "ReplayStatus",
    "Resource",
    "RuleSpec",
    "Step",
    "StreamSpec",
    "SubscriptionSpec",
    "TargetSpec",
    "TopicSpec",
    "Topology",
]
