"""Layouts of invoices, made up: each has the lines of its pages, and the flaws of its analysis.

`recordings` makes pictures of them, and what Textract would say of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

__all__ = ["LAYOUTS", "Field", "Layout", "Part"]


@dataclass(frozen=True, slots=True)
class Field:
    """A label with the value beside it: a KEY and a VALUE block.

    Args:
        label: as printed.
        value: as printed; None: the VALUE block is missing from the response.
        ticked: of a box that stands in the place of the value.
        confidence: in percent.
        circular: the blocks refer to each other as children, too.
    """

    label: str
    value: str | None = ""
    ticked: bool | None = None
    confidence: float = 98.0
    circular: bool = False

    @property
    def text(self) -> str:
        """The line, as it is printed."""
        return " ".join(filter(None, (self.label, self.value, {True: "[x]", False: "[ ]", None: ""}[self.ticked])))


Part: TypeAlias = str | Field
"""A line of a page."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A document.

    Args:
        title: for people.
        pages: their lines, from top to bottom; none: a response without blocks.
        status: of the job that analyses it.
    """

    title: str
    pages: tuple[tuple[Part, ...], ...]
    status: Literal["SUCCEEDED", "FAILED"] = "SUCCEEDED"


def _one(title: str, *parts: Part) -> Layout:
    return Layout(title, (parts,))


LAYOUTS: Final[dict[str, Layout]] = {
    "alpha-card": _one(
        "Credit card: new balance total, m/d/yyyy",
        "Alpha Credit Card",
        Field("Account Number:", "4400 1234"),
        Field("Previous Balance", "$310.00"),
        Field("New Balance Total", "$1,284.17"),
        Field("Payment Due Date:", "7/9/2026"),
        "Make your check payable to: Alpha Card Services",
    ),
    "bravo-electric": _one(
        "Electricity: total due, Mon d, yyyy, payee without a colon",
        "Bravo Electric",
        Field("Total Due", "$86.40"),
        Field("Pay on or before", "Jun 4, 2026"),
        "Checks are payable to Bravo Electric Company",
    ),
    "charlie-water": _one(
        "Water: the amount in the line after its label",
        "Charlie Water District",
        "Total current charges",
        "$64.20",
        Field("Payment due", "Dec 24, 2026"),
        "Payable to: Charlie Water District",
    ),
    "delta-cable": _one(
        "Cable: please pay",
        "Delta Cable",
        Field("PLEASE PAY:", "89.99"),
        Field("PAYMENT DUE", "12/01/2026"),
        "PAYABLE TO: DELTA CABLE",
    ),
    "echo-gas": _one(
        "Gas: two amounts; the order of the labels decides, not of the lines",
        "Echo Gas",
        Field("Please pay", "$10.00"),
        Field("Total current charges", "$15.00"),
        Field("Total due", "$25.00"),
        Field("Payment due", "8/15/2026"),
        Field("Pay on or before", "8/1/2026"),
        "payable to:Echo Gas",
    ),
    "foxtrot-phone": _one(
        "Telephone: no due date",
        "Foxtrot Phone",
        Field("Total due:", "$41.05"),
        "Please make payable to Foxtrot Phone",
    ),
    "golf-club": Layout(
        "Golf club: two pages",
        (
            ("Golf Club", "Payable to: The Golf Club, Ltd.", Field("Member", "Ada Putter")),
            ("Golf Club, page 2", Field("Total Due", "$2,400.00"), Field("Payment due date", "Mar 1, 2027")),
        ),
    ),
    "hotel-linen": _one(
        "Linen: the same label three times, first without a value",
        "Hotel Linen",
        Field("Total due", ""),
        Field("Total due (EUR)", "$512.00"),
        Field("Total due (after June)", "$530.00"),
        Field("Payment due", "6/30/2026"),
        "payable to Hotel Linen & Sons",
    ),
    "india-insurance": _one(
        "Insurance: labels and values of several words",
        "India Insurance",
        Field("Your NEW BALANCE TOTAL as of today", "$ 12,345.67"),
        Field("Please note the PAYMENT DUE DATE", "Sep 5 , 2026"),
        "Please make all checks payable to: India Insurance Mutual Society",
    ),
    "juliet-rentals": _one(
        "Rentals: boxes to tick",
        "Juliet Rentals",
        Field("Pay by direct debit", ticked=True),
        Field("Please pay in instalments", ticked=False),
        Field("Please pay", "$700.00"),
        Field("Payment due", "1/2/2027"),
        "payable to Juliet Rentals",
    ),
    "kilo-freight": _one(
        "Freight: a smudge on the amount",
        "Kilo Freight",
        Field("Total due", "$7,710.00", confidence=31.5),
        Field("Payment due", "7/7/2026"),
        "payable to Kilo Freight",
    ),
    "lima-law": _one(
        "Law firm: the value of the amount is missing",
        "Lima Law",
        Field("Total due", None),
        Field("Payment due", "7/7/2026"),
        "payable to Lima Law",
    ),
    "mike-media": _one(
        "Media: blocks that refer to each other in a circle",
        "Mike Media",
        Field("Total due", "$99.00", circular=True),
        Field("Payment due", "Jul 7, 2026", circular=True),
        "payable to Mike Media",
    ),
    "november-notes": _one("A letter", "Dear Sir or Madam,", "we have moved.", "Yours, November"),
    "oscar-office": _one(
        "Office supplies: a due date that is none",
        "Oscar Office",
        Field("Total due", "$18.30"),
        Field("Payment due", "upon receipt"),
        "payable to Oscar Office",
    ),
    "papa-print": _one(
        "Printer: nobody to pay to",
        "Papa Print",
        Field("Total due", "$22.00"),
        Field("Payment due", "7/7/2026"),
        "Checks are payable to:",
    ),
    "quebec-blank": Layout("A blank page: no blocks at all", ()),
    "romeo-torn": Layout("Torn: the analysis fails", (("Ro",),), status="FAILED"),
}
"""By name."""
