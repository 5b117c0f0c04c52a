"""Amazon's services: queues (SQS), topics (SNS), buses (EventBridge), streams (Kinesis); see `AwsTransport`.

Needs the extra ``aws`` (aioboto3) or ``aiobotocore``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eip._lazy import export_lazily

if TYPE_CHECKING:
    from eip.transports.aws.api_destinations import ApiDestinationSpec as ApiDestinationSpec
    from eip.transports.aws.api_destinations import ApiKey as ApiKey
    from eip.transports.aws.api_destinations import BasicAuth as BasicAuth
    from eip.transports.aws.api_destinations import ConnectionSpec as ConnectionSpec
    from eip.transports.aws.api_destinations import OAuth as OAuth
    from eip.transports.aws.bus_options import BusAccess as BusAccess
    from eip.transports.aws.bus_options import EventBridgeOptions as EventBridgeOptions
    from eip.transports.aws.endpoint_subscriptions import EndpointSubscriptionSpec as EndpointSubscriptionSpec
    from eip.transports.aws.endpoint_subscriptions import HttpDelivery as HttpDelivery
    from eip.transports.aws.eventbridge.bus import EventBridgeBus as EventBridgeBus
    from eip.transports.aws.kinesis import KinesisStream as KinesisStream
    from eip.transports.aws.kinesis import ReadRate as ReadRate
    from eip.transports.aws.lambda_functions import EventSourceMappingSpec as EventSourceMappingSpec
    from eip.transports.aws.lambda_functions import FunctionSpec as FunctionSpec
    from eip.transports.aws.options import DeliveryLogging as DeliveryLogging
    from eip.transports.aws.options import KinesisOptions as KinesisOptions
    from eip.transports.aws.options import SnsOptions as SnsOptions
    from eip.transports.aws.options import SqsOptions as SqsOptions
    from eip.transports.aws.schedules import ScheduleGroupSpec as ScheduleGroupSpec
    from eip.transports.aws.schedules import ScheduleSpec as ScheduleSpec
    from eip.transports.aws.sns.topic import SnsTopic as SnsTopic
    from eip.transports.aws.sns_http import SnsHttpSubscription as SnsHttpSubscription
    from eip.transports.aws.sqs.queue import SqsQueue as SqsQueue
    from eip.transports.aws.transport import AwsTransport as AwsTransport

__all__ = [
    "ApiDestinationSpec",
    "ApiKey",
    "AwsTransport",
    "BasicAuth",
    "BusAccess",
    "ConnectionSpec",
    "DeliveryLogging",
    "EndpointSubscriptionSpec",
    "EventBridgeBus",
    "EventBridgeOptions",
    "EventSourceMappingSpec",
    "FunctionSpec",
    "HttpDelivery",
    "KinesisOptions",
    "KinesisStream",
    "OAuth",
    "ReadRate",
    "ScheduleGroupSpec",
    "ScheduleSpec",
    "SnsHttpSubscription",
    "SnsOptions",
    "SnsTopic",
    "SqsOptions",
    "SqsQueue",
]

# A Lambda function that only handles messages loads no SDK.
export_lazily(
    __name__,
    {
        "AwsTransport": f"{__name__}.transport",
        "EventBridgeBus": f"{__name__}.eventbridge.bus",
        **dict.fromkeys(
            ("ApiDestinationSpec", "ApiKey", "BasicAuth", "ConnectionSpec", "OAuth"), f"{__name__}.api_destinations"
        ),
        **dict.fromkeys(("EndpointSubscriptionSpec", "HttpDelivery"), f"{__name__}.endpoint_subscriptions"),
        **dict.fromkeys(("BusAccess", "EventBridgeOptions"), f"{__name__}.bus_options"),
        **dict.fromkeys(("EventSourceMappingSpec", "FunctionSpec"), f"{__name__}.lambda_functions"),
        "KinesisStream": f"{__name__}.kinesis",
        "ReadRate": f"{__name__}.kinesis",
        **dict.fromkeys(("DeliveryLogging", "KinesisOptions", "SnsOptions", "SqsOptions"), f"{__name__}.options"),
        "SnsHttpSubscription": f"{__name__}.sns_http",
        **dict.fromkeys(("ScheduleGroupSpec", "ScheduleSpec"), f"{__name__}.schedules"),
        "SnsTopic": f"{__name__}.sns.topic",
        "SqsQueue": f"{__name__}.sqs.queue",
    },
)
