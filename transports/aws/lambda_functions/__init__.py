"""AWS Lambda in a topology: functions, and the event source mappings that feed them.

Topology(
QueueSpec("orders"),
FunctionSpec("billing", handler="billing.app.handler"),
EventSourceMappingSpec(function="billing", queue="orders", max_concurrency=10),
)
"""

from eip.transports.aws.lambda_functions.functions import FunctionSpec as FunctionSpec
from eip.transports.aws.lambda_functions.mappings import EventSourceMappingSpec as EventSourceMappingSpec

__all__ = ["EventSourceMappingSpec", "FunctionSpec"]
