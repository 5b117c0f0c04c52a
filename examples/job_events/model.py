"""The business events: what other services hear of, in the terms of the business and not of the database."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from eip import Message

__all__ = ["JobCreated", "JobDeleted", "JobEvent", "JobSalaryUpdated", "Salary", "message_of"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Salary(_Value):
    """What a job pays a year."""

    amount: Decimal = Field(ge=0, max_digits=12, decimal_places=2)
    currency: str = Field(pattern="^[A-Z]{3}$")


class _Event(_Value):
    id: str
    """The same each time the change is read: origin and position."""
    position: str
    """Of the change in its database: compared as text, a later one is greater."""
    job_id: int
    occurred_at: datetime


class JobCreated(_Event):
    """A job is offered."""

    type: Literal["JobCreated"] = "JobCreated"
    title: str
    employer: str
    city: str
    salary: Salary

    @property
    def subject(self) -> str:
        """For people."""
        return f"Job {self.job_id} created: {self.title}, {self.employer}"


class JobSalaryUpdated(_Event):
    """An offered job pays something else from now on."""

    type: Literal["JobSalaryUpdated"] = "JobSalaryUpdated"
    before: Salary
    salary: Salary

    @property
    def subject(self) -> str:
        """For people."""
        return f"Job {self.job_id} salary: {self.before.amount} -> {self.salary.amount} {self.salary.currency}"


class JobDeleted(_Event):
    """A job is offered no more."""

    type: Literal["JobDeleted"] = "JobDeleted"

    @property
    def subject(self) -> str:
        """For people."""
        return f"Job {self.job_id} deleted"


JobEvent: TypeAlias = Annotated[JobCreated | JobSalaryUpdated | JobDeleted, Field(discriminator="type")]


def message_of(event: JobEvent) -> Message[JobEvent]:
    """The event as it is published: in order per job, and under an id that makes a second publication a duplicate."""
    return Message(
        event,
        id=event.id,
        type=event.type,
        source="com.example.agency.jobs",
        group_id=f"JOB-{event.job_id}",
        deduplication_id=event.id,
        created_at=event.occurred_at.timestamp(),
        attributes={"eventType": event.type},
        headers={"subject": event.subject[:100]},
    )
