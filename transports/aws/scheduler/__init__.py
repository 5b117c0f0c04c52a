"""Amazon EventBridge Scheduler: schedules of messages, and of topologies."""

from __future__ import annotations

from eip.transports.aws.scheduler.messages import EventBridgeSchedules as EventBridgeSchedules

__all__ = ["EventBridgeSchedules"]
