"""Makes what a topology declares on Amazon's services, and compares it with what there is: one step per resource."""

from __future__ import annotations

from collections.abc import Iterable

from eip.topology import (
    ArchiveSpec,
    BusSpec,
    Container,
    DriverResource,
    QueueSpec,
    Resource,
    RuleSpec,
    Step,
    StreamSpec,
    SubscriptionSpec,
    TopicSpec,
)
from eip.topology.archives import archive_step
from eip.transports.aws._client.service_client import ServiceClient
from eip.transports.aws.api_destinations import ApiDestinationSpec, ConnectionSpec
from eip.transports.aws.arns import Arns
from eip.transports.aws.endpoint_subscriptions import EndpointSubscriptionSpec
from eip.transports.aws.eventbridge import provisioning as eventbridge
from eip.transports.aws.eventbridge._api_destinations import (
    provision_api_destination,
    provision_connection,
    undeclared_api_destinations,
)
from eip.transports.aws.eventbridge._buses import provision_bus, undeclared_access
from eip.transports.aws.eventbridge.archives import EventBridgeArchives
from eip.transports.aws.kinesis.provision import provision_stream
from eip.transports.aws.lambda_functions.functions import FunctionSpec
from eip.transports.aws.lambda_functions.mappings import EventSourceMappingSpec
from eip.transports.aws.lambda_functions.provisioning import (
    provision_function,
    provision_mapping,
    undeclared_mappings,
)
from eip.transports.aws.scheduler.provisioning import provision_group, provision_schedule, undeclared_schedules
from eip.transports.aws.schedules import ScheduleGroupSpec, ScheduleSpec
from eip.transports.aws.sns import provisioning as sns
from eip.transports.aws.sqs.provisioning import provision_queue

__all__ = ["find_undeclared", "provision"]


async def provision(client: ServiceClient, arns: Arns, resource: Resource, *, apply: bool) -> Iterable[Step]:
    """The steps for one resource, done where ``apply`` is set; see `eip.topology.Provisioner.provision`."""
    match resource:
        case QueueSpec():
            step = await provision_queue(client, arns, resource, apply=apply)
        case TopicSpec():
            step = await sns.provision_topic(client, arns, resource, apply=apply)
        case SubscriptionSpec():
            step = await sns.provision_subscription(client, arns, resource, apply=apply)
        case StreamSpec():
            step = await provision_stream(client, resource, apply=apply)
        case BusSpec():
            step = await provision_bus(client, arns, resource, apply=apply)
        case RuleSpec():
            return await eventbridge.provision_rule(client, arns, resource, apply=apply)
        case ArchiveSpec():
            step = await archive_step(EventBridgeArchives(client, arns, resource.bus), resource, apply=apply)
        case DriverResource():
            return await _provision_own(client, arns, resource, apply=apply)
    return [step]


async def _provision_own(client: ServiceClient, arns: Arns, resource: DriverResource, *, apply: bool) -> Iterable[Step]:
    """The steps for what only this driver knows; none for what another one does."""
    steps: Iterable[Step]
    match resource:
        case ConnectionSpec():
            steps = [await provision_connection(client, resource, apply=apply)]
        case ApiDestinationSpec():
            steps = [await provision_api_destination(client, resource, apply=apply)]
        case FunctionSpec():
            steps = [await provision_function(client, resource, apply=apply)]
        case EventSourceMappingSpec():
            steps = [await provision_mapping(client, arns, resource, apply=apply)]
        case ScheduleGroupSpec():
            steps = await provision_group(client, arns, resource, apply=apply)
        case ScheduleSpec():
            steps = await provision_schedule(client, arns, resource, apply=apply)
        case EndpointSubscriptionSpec():
            steps = await sns.provision_endpoint(client, arns, resource, apply=apply)
        case _:
            steps = []
    return steps


async def find_undeclared(
    client: ServiceClient, arns: Arns, container: Container, declared: frozenset[str], *, delete: bool
) -> Iterable[Step]:
    """The steps for what exists and is not declared; see `eip.topology.Provisioner.undeclared`."""
    match container:
        case TopicSpec():
            return await sns.undeclared_subscriptions(client, arns, container, declared, delete=delete)
        case BusSpec():
            rules = await eventbridge.undeclared_rules(client, arns, container, declared, delete=delete)
            return [*rules, *await undeclared_access(client, container, delete=delete)]
        case ConnectionSpec():
            return await undeclared_api_destinations(client, container, declared, delete=delete)
        case ScheduleGroupSpec():
            return await undeclared_schedules(client, arns, container, declared, delete=delete)
        case FunctionSpec():
            return await undeclared_mappings(client, container, declared, delete=delete)
        case _:
            return []
