"""The options of a batch consumer, checked."""

from __future__ import annotations

from dataclasses import dataclass

from eip.channels import Sender
from eip.retry import Backoff
from eip.runtime.handlers import BatchForm

__all__ = ["BatchSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSettings:
    """The options of a batch consumer, see `BatchConsumer`; durations in seconds."""

    name: str
    source: str
    """The group, as dead letters name it."""
    handler: BatchForm
    handler_name: str
    size: int
    window: float
    output: Sender | None
    on_failure: Sender | None
    bisect: bool
    retry: Backoff
    max_age: float | None
    max_processing: float
