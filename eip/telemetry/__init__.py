"""Telemetry: usage counts, metrics, traces, and the current message's ids in log lines.

`eip.telemetry.metrics` and `eip.telemetry.traces` need the extra ``otel``.
"""

from eip.telemetry.logs import MessageContextFilter as MessageContextFilter
from eip.telemetry.logs import add_message_context as add_message_context
from eip.telemetry.meter import Call as Call
from eip.telemetry.meter import Meter as Meter
from eip.telemetry.meter import Usage as Usage
from eip.telemetry.meter import UsageMeter as UsageMeter

__all__ = ["Call", "MessageContextFilter", "Meter", "Usage", "UsageMeter", "add_message_context"]
