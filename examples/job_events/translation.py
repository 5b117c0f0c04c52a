"""The anti-corruption layer (Evans, "Domain-Driven Design", chapter 14): row changes in, business events out.

Only this module knows both the agency's old table and the events. What nobody asked to hear of makes no event.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from examples.job_events.changes import Change, Row
from examples.job_events.model import JobCreated, JobDeleted, JobEvent, JobSalaryUpdated, Salary

__all__ = ["UntranslatableChange", "translate"]


_Model = TypeVar("_Model", bound=BaseModel)


class UntranslatableChange(Exception):
    """A row that is no job; its text names the columns, not their contents."""


class _JobRow(BaseModel):
    """A row of the agency's table; the recruiters' notes in it are nobody's business."""

    model_config = ConfigDict(str_strip_whitespace=True)

    job_no: int
    job_ttl: str = Field(min_length=1)
    empl_nm: str = Field(min_length=1)
    loc_txt: str = Field(min_length=1)
    sal_minor: int = Field(ge=0, lt=10**12)
    sal_ccy: str = Field(pattern="^[A-Z]{3}$")

    @property
    def salary(self) -> Salary:
        return Salary(amount=Decimal(self.sal_minor).scaleb(-2), currency=self.sal_ccy)


class _JobKey(BaseModel):
    job_no: int


def translate(change: Change, origin: str) -> JobEvent | None:
    """The event of a change, None where it is none; raises `UntranslatableChange`.

    A job whose row could not be understood so far, and now can, is created by that.
    """
    event = {"id": f"{origin}:{change.position}", "position": str(change.position), "occurred_at": change.committed_at}
    if change.after is None:
        return JobDeleted(**event, job_id=_read(_JobKey, change.before).job_no)
    after = _read(_JobRow, change.after)
    before = None
    if change.before is not None:
        try:
            before = _read(_JobRow, change.before)
        except UntranslatableChange:
            before = None
    if before is None:
        return JobCreated(
            **event,
            job_id=after.job_no,
            title=after.job_ttl,
            employer=after.empl_nm,
            city=after.loc_txt,
            salary=after.salary,
        )
    if before.salary != after.salary:
        return JobSalaryUpdated(**event, job_id=after.job_no, before=before.salary, salary=after.salary)
    return None


def _read(model: type[_Model], row: Row | None) -> _Model:
    try:
        return model.model_validate(row or {})
    except ValidationError as error:
        wrong = ", ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise UntranslatableChange(wrong) from None  # its text holds the input
