"""Client spans of the calls that bypass the SDK, as its instrumentations make them: they do not see these calls.

A poll that brings nothing has none: it would be a trace of its own, every few seconds. OpenTelemetry is not imported
here: where the program has not imported it, no tracer provider is set.

Source: OpenTelemetry semantic conventions 1.45, "AWS SDK client spans" and "RPC client spans".
"""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from eip._aws.protocols import ServiceError

__all__ = ["Caller", "spanned"]

_POLLS: Final = {"ReceiveMessage": "Messages", "GetRecords": "Records"}
"""Calls that are made again and again, and what they bring."""
_ABOUT: Final = {
    "QueueUrl": "aws.sqs.queue.url",
    "TopicArn": "aws.sns.topic.arn",
    "StreamName": "aws.kinesis.stream_name",
}
"""Parameters that are attributes."""


class Caller:
    """The maker of the calls.

    Args:
        service: the SDK's id of it, e.g. ``SQS``.
        region: where it is.
        host: its name or address.
        port: its TCP port.
    """

    def __init__(self, service: str, region: str, host: str, port: int) -> None:
        self._service = service.replace(" ", "")
        self._fixed: dict[str, Any] = {
            "rpc.system.name": "aws-api",
            "cloud.region": region,
            "server.address": host,
            "server.port": port,
        }
        self.headers: Mapping[str, str] = {}
        """Of the answer that came last: of the call that has just ended, as nothing else runs in between."""

    def record(
        self, api: Any, operation: str, parameters: Mapping[str, Any], begun: int, error: Exception | None
    ) -> None:
        """Make the span of a call that has ended.

        Args:
            api: the module ``opentelemetry.trace``.
            operation: the call's.
            parameters: as given.
            begun: nanoseconds since the epoch.
            error: how it failed.
        """
        attributes = self._fixed | {"rpc.method": f"{self._service}/{operation}"}
        attributes |= {name: parameters[key] for key, name in _ABOUT.items() if key in parameters}
        if "TableName" in parameters:
            attributes["aws.dynamodb.table_names"] = [parameters["TableName"]]
        if (error is None or isinstance(error, ServiceError)) and (seen := self.headers.get("x-amzn-requestid")):
            attributes["aws.request_id"] = seen
        if isinstance(error, ServiceError):
            attributes |= {"rpc.response.status_code": error.code, "http.response.status_code": error.status}
        tracer = api.get_tracer("eip.aws")
        name = f"{self._service}.{operation}"
        span = tracer.start_span(name, kind=api.SpanKind.CLIENT, attributes=attributes, start_time=begun)
        if error is not None:
            span.set_attribute("error.type", error.code if isinstance(error, ServiceError) else type(error).__name__)
            span.set_status(api.Status(api.StatusCode.ERROR, str(error)))
        span.end()


def _tracing() -> Any:
    """The module ``opentelemetry.trace`` where a tracer provider is set, or else None."""
    api: Any = sys.modules.get("opentelemetry.trace")
    if api is None or isinstance(api.get_tracer_provider(), (api.ProxyTracerProvider, api.NoOpTracerProvider)):
        return None
    return api


async def spanned(
    caller: Caller,
    operation: str,
    parameters: dict[str, Any],
    call: Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]],
) -> dict[str, Any]:
    """The answer of the call, with a span where a tracer provider is set."""
    api = _tracing()
    if api is None:
        return await call(operation, parameters)
    begun = time.time_ns()
    try:
        answer = await call(operation, parameters)
    except Exception as error:
        caller.record(api, operation, parameters, begun, error)
        raise
    if operation not in _POLLS or answer.get(_POLLS[operation]):
        caller.record(api, operation, parameters, begun, None)
    return answer
