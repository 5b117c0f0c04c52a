"""Amazon SNS: topics."""

from __future__ import annotations

from eip.transports.aws.sns.topic import SnsTopic as SnsTopic

__all__ = ["SnsTopic"]
