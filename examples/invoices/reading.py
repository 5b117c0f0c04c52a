"""From the text of a document to an invoice: payee, amount, due date. The labels are those of the article."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Final, NamedTuple, TypeVar

from eip import clock
from examples.invoices.form import Form, Pair

__all__ = ["MIN_CONFIDENCE", "Invoice", "read_invoice"]

MIN_CONFIDENCE: Final = 50.0
"""Percent; what was read with less certainty counts as not found."""

_AMOUNT_LABELS: Final = ("total due", "new balance total", "total current charges", "please pay")
_DUE_DATE_LABELS: Final = ("pay on or before", "payment due date", "payment due")
_ACCOUNT_LABELS: Final = ("account number",)
_PAYEE: Final = re.compile(r"payable to\s*:?(.*)", re.IGNORECASE | re.DOTALL)
_MAX_CHARACTERS: Final = 200
"""Of a text that is kept."""

_AMOUNT: Final = re.compile(r"(?:\d{1,3}(?:,\d{3})+|\d{1,15})(?:\.\d{1,4})?", re.ASCII)
_SLASHED: Final = re.compile(r"(\d{1,2})\s*/\s*(\d{1,2})\s*/\s*(\d{4})", re.ASCII)
_NAMED: Final = re.compile(r"([A-Za-z]{3,9})\.?\s*(\d{1,2})\s*,?\s+(\d{4})", re.ASCII)
_MONTHS: Final = (
    "january february march april may june july august september october november december".split()  # noqa: SIM905
)
_T = TypeVar("_T")


class Invoice(NamedTuple):
    """What was found of an invoice."""

    payee: str | None
    amount: Decimal | None
    due_date: date | None
    """Today, where the document has none."""
    memo: str | None
    """So that the payee knows whose payment it is; not required."""
    problems: tuple[str, ...]
    """Why a person has to look at it; empty: all that is required was found."""


def read_invoice(form: Form, *, min_confidence: float = MIN_CONFIDENCE) -> Invoice:
    """Find what is required for a payment.

    Args:
        form: of the document.
        min_confidence: percent; values that were read with less count as not found.
    """
    problems: list[str] = []
    amount = _amount(form, min_confidence, problems)
    payee = _payee(form.lines, problems)
    due = _due_date(form.pairs, min_confidence, problems)
    account = _labelled(form.pairs, _ACCOUNT_LABELS)
    memo = None if account is None else f"Account Number: {account.value}"[:_MAX_CHARACTERS]
    return Invoice(payee, amount, due, memo, tuple(problems))


def _amount(form: Form, min_confidence: float, problems: list[str]) -> Decimal | None:
    found = _labelled(form.pairs, _AMOUNT_LABELS)
    if found is None:
        text = _next_line(form.lines, _AMOUNT_LABELS)
    elif found.confidence < min_confidence:
        problems.append(f"the amount was read with a confidence of {found.confidence:.0f} % only")
        return None
    else:
        text = found.value
    if text is None:
        problems.append("no amount was found")
        return None
    digits = text.strip().removeprefix("$").strip()
    if not _AMOUNT.fullmatch(digits):
        problems.append(f"not an amount: {text[:_MAX_CHARACTERS]!r}")
        return None
    return Decimal(digits.replace(",", ""))


def _payee(lines: Sequence[str], problems: list[str]) -> str | None:
    """The text after "payable to" in the first line that holds it."""
    found = next(filter(None, map(_PAYEE.search, lines)), None)
    payee = "" if found is None else found[1].strip()
    if not payee:
        problems.append("no payee was found")
        return None
    return payee[:_MAX_CHARACTERS]


def _due_date(pairs: Sequence[Pair], min_confidence: float, problems: list[str]) -> date | None:
    found = _labelled(pairs, _DUE_DATE_LABELS)
    if found is None:
        return datetime.fromtimestamp(clock.now(), UTC).date()
    if found.confidence < min_confidence:
        problems.append(f"the due date was read with a confidence of {found.confidence:.0f} % only")
        return None
    due = _date(found.value)
    if due is None:
        problems.append(f"not a due date: {found.value[:_MAX_CHARACTERS]!r}")
    return due


def _labelled(pairs: Sequence[Pair], labels: Sequence[str]) -> Pair | None:
    """The first pair with the first of the labels, in their order, that stands somewhere with a value."""
    return _first(pair for label in labels for pair in pairs if pair.value and label in _plain(pair.label))


def _next_line(lines: Sequence[str], labels: Sequence[str]) -> str | None:
    """The line after the first that is a label."""
    return _first(after for line, after in pairwise(lines) if _plain(line) in labels)


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).removesuffix(":").rstrip()


def _date(text: str) -> date | None:
    """``m/d/yyyy`` or ``Mon d, yyyy``, the month's name in three letters or in full; None for anything else."""
    text = text.strip()
    slashed, named = _SLASHED.fullmatch(text), _NAMED.fullmatch(text)
    if slashed is not None:
        month, day, year = map(int, slashed.groups())
    elif named is not None and (number := _month(named[1])):
        month, day, year = number, int(named[2]), int(named[3])
    else:
        return None
    try:
        return date(year, month, day)
    except ValueError:  # February 30
        return None


def _month(name: str) -> int:
    """Return the number of a month, 1 to 12, or 0 if no month has that name."""
    return _first(number for number, month in enumerate(_MONTHS, 1) if month.startswith(name.lower())) or 0


def _first(found: Iterator[_T]) -> _T | None:
    return next(found, None)
