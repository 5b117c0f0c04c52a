"""Amazon EventBridge: event buses, their rules and archives."""

from __future__ import annotations

from eip.transports.aws.eventbridge.bus import EventBridgeBus as EventBridgeBus

__all__ = ["EventBridgeBus"]
