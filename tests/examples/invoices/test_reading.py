"""Reading invoices: the article's labels, on recorded layouts and on whatever else a response may hold."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from eip import clock
from eip.errors import Reject
from examples.happy_path.samples import jpeg, photo
from examples.invoices.form import Form, Pair, read_form
from examples.invoices.layouts import LAYOUTS
from examples.invoices.reading import Invoice, read_invoice
from examples.invoices.recordings import layout_of, recorded_blocks, scan

NOW = 1_780_000_000.0  # 2026-05-28

FOUND = {
    "alpha-card": ("Alpha Card Services", "1284.17", "2026-07-09", "Account Number: 4400 1234"),
    "bravo-electric": ("Bravo Electric Company", "86.40", "2026-06-04", None),
    "charlie-water": ("Charlie Water District", "64.20", "2026-12-24", None),
    "delta-cable": ("DELTA CABLE", "89.99", "2026-12-01", None),
    "echo-gas": ("Echo Gas", "25.00", "2026-08-01", None),
    "foxtrot-phone": ("Foxtrot Phone", "41.05", "2026-05-28", None),
    "golf-club": ("The Golf Club, Ltd.", "2400.00", "2027-03-01", None),
    "hotel-linen": ("Hotel Linen & Sons", "512.00", "2026-06-30", None),
    "india-insurance": ("India Insurance Mutual Society", "12345.67", "2026-09-05", None),
    "juliet-rentals": ("Juliet Rentals", "700.00", "2027-01-02", None),
    "mike-media": ("Mike Media", "99.00", "2026-07-07", None),
}
NOT_FOUND = {
    "kilo-freight": ["the amount was read with a confidence of 32 % only"],
    "lima-law": ["not an amount: 'Payment due 7/7/2026'"],
    "november-notes": ["no amount was found", "no payee was found"],
    "oscar-office": ["not a due date: 'upon receipt'"],
    "papa-print": ["no payee was found"],
    "quebec-blank": ["no amount was found", "no payee was found"],
    "romeo-torn": ["no amount was found", "no payee was found"],
}


def read(form: Form, **options: Any) -> Invoice:
    with clock.use_clock(lambda: NOW):
        return read_invoice(form, **options)


def form(*pairs: tuple[str, str], lines: tuple[str, ...] = ("payable to: P",)) -> Form:
    return Form(lines, tuple(Pair(label, value, 99.0) for label, value in pairs))


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_layout_is_read_from_its_recorded_analysis(name):
    found = read(read_form(recorded_blocks(name)))
    if name in NOT_FOUND:
        assert list(found.problems) == NOT_FOUND[name]
    else:
        payee, amount, due, memo = FOUND[name]
        assert found == (payee, Decimal(amount), date.fromisoformat(due), memo, ())


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_scan_is_known_by_what_is_in_it(name):
    assert layout_of(scan(name)) == name


def test_other_documents_have_no_recording_and_other_files_are_refused():
    assert layout_of(b"%PDF-1.7") == ""
    assert layout_of(jpeg(photo(width=40, height=40))) == ""
    for data in (b"", b"hello", b"\x89PNG\r\n\x1a\n\0\0", b"GIF89a" + bytes(100)):
        with pytest.raises(Reject, match="neither PDF"):
            layout_of(data)


def test_the_response_has_textracts_form():
    blocks = recorded_blocks("golf-club")
    by_id = {block["Id"]: block for block in blocks}
    assert len(by_id) == len(blocks)
    assert [block["Page"] for block in blocks if block["BlockType"] == "PAGE"] == [1, 2]
    keys = [block for block in blocks if block.get("EntityTypes") == ["KEY"]]
    for key in keys:
        related = {each["Type"]: [by_id[one]["BlockType"] for one in each["Ids"]] for each in key["Relationships"]}
        assert related["VALUE"] == ["KEY_VALUE_SET"]
        assert set(related["CHILD"]) == {"WORD"}
    boxes = [block for block in recorded_blocks("juliet-rentals") if block["BlockType"] == "SELECTION_ELEMENT"]
    assert [box["SelectionStatus"] for box in boxes] == ["SELECTED", "NOT_SELECTED"]
    ticked = {pair.label: pair.value for pair in read_form(recorded_blocks("juliet-rentals")).pairs}
    assert (ticked["Pay by direct debit"], ticked["Please pay in instalments"]) == ("X", "")


@pytest.mark.parametrize(
    ("text", "amount"),
    [("$1,234.50", "1234.50"), ("12", "12"), ("$ 7.00", "7.00"), ("0.00", "0.00"), ("1,000,000", "1000000")],
)
def test_an_amount_loses_its_dollar_and_its_commas(text, amount):
    assert read(form(("Total due", text))).amount == Decimal(amount)


@pytest.mark.parametrize(
    "text", ["see back", "-5.00", "$", "1.2.3", "1,23", "12 EUR", "١٢", "1e9", "NaN", "$$5", "9" * 40]
)
def test_what_is_no_amount_is_for_a_person(text):
    found = read(form(("Total due", text), ("Please pay", "$5.00")))
    assert (found.amount, found.problems) == (None, (f"not an amount: {text!r}",))


@pytest.mark.parametrize(
    ("text", "due"),
    [
        ("1/2/2027", "2027-01-02"),
        ("12/31/2026", "2026-12-31"),
        ("02/29/2028", "2028-02-29"),
        ("Jan 5, 2027", "2027-01-05"),
        ("SEPT 5 2026", "2026-09-05"),
        ("December 24,  2026", "2026-12-24"),
        ("May 1 , 2026", "2026-05-01"),
        ("02/30/2026", None),
        ("13/1/2026", None),
        ("1/2/27", None),
        ("Foo 1, 2026", None),
        ("Jan 32, 2026", None),
        ("2026-01-02", None),
        ("1/2/0000", None),
    ],
)
def test_due_dates_have_two_forms(text, due):
    found = read(form(("Total due", "1"), ("Payment due", text)))
    assert (found.due_date and found.due_date.isoformat(), bool(found.problems)) == (due, due is None)


def test_labels_decide_in_their_order_and_without_case():
    found = read(
        form(("PLEASE  PAY", "1"), ("TOTAL DUE now", "2"), ("Payment due", "1/1/2027"), ("Pay on or before", ""))
    )
    assert (found.amount, found.due_date) == (Decimal(2), date(2027, 1, 1))


@pytest.mark.parametrize(
    ("lines", "amount"),
    [
        (("TOTAL DUE", "$5"), "5"),
        (("Please pay:", "6.50"), "6.50"),
        (("the total due", "7"), None),
        (("Please pay",), None),
        (("x", "total current charges", "8", "Total due", "9"), "8"),
    ],
)
def test_a_line_that_is_a_label_has_the_amount_in_the_next(lines, amount):
    assert read(form(lines=lines)).amount == (amount and Decimal(amount))


@pytest.mark.parametrize(
    ("lines", "payee"),
    [
        (("Make it PAYABLE TO:Acme",), "Acme"),
        (("payable to Acme : Sons",), "Acme : Sons"),
        (("x", "payable to: First", "payable to: Second"), "First"),
        (("payable to:", "payable to: Second"), None),
        (("pay to the order of Acme",), None),
    ],
)
def test_the_payee_is_what_follows_in_the_first_line_that_holds_it(lines, payee):
    assert read(form(("Total due", "1"), lines=lines)).payee == payee


def test_how_sure_a_reading_must_be_can_be_set():
    form = read_form(recorded_blocks("kilo-freight"))
    assert read(form, min_confidence=0).amount == Decimal("7710.00")
    assert read(read_form(recorded_blocks("alpha-card")), min_confidence=99).problems[0].startswith("the amount")


def test_few_blocks_that_are_referred_to_often_make_no_large_form():
    word = {"Id": "w", "BlockType": "WORD", "Text": "total due " * 100_000}
    refers = [{"Type": "CHILD", "Ids": ["w"] * 10_000}, {"Type": "VALUE", "Ids": ["v"] * 10_000}]
    key = {"Id": "k", "BlockType": "KEY_VALUE_SET", "EntityTypes": ["KEY"], "Relationships": refers}
    value = {**key, "Id": "v", "EntityTypes": ["VALUE"]}
    (pair,) = read_form([word, key, value]).pairs
    assert (len(pair.label), len(pair.value)) == (1000, 10 * 1001 - 1)


JSON = some.recursive(
    some.none() | some.booleans() | some.floats() | some.integers() | some.text(max_size=8),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
FIELD_NAMES = ("Id", "BlockType", "EntityTypes", "Relationships", "Text", "Confidence", "SelectionStatus")


@given(name=some.sampled_from([*FOUND]), changes=some.lists(some.tuples(some.integers(0), JSON, JSON), max_size=8))
def test_whatever_is_wrong_with_blocks_they_are_read_or_passed_over(name, changes):
    blocks: list[Any] = json.loads(json.dumps(recorded_blocks(name)))
    for place, value, other in changes:
        block = blocks[place % len(blocks)]
        if isinstance(block, dict):
            block[FIELD_NAMES[place % len(FIELD_NAMES)]] = value
        if isinstance(block, dict) and "Relationships" in block and place % 3 == 0:
            block["Relationships"] = [{"Type": "CHILD", "Ids": [other, block.get("Id")]}, other]
        if place % 7 == 0:
            blocks[place % len(blocks)] = value
    assert isinstance(read(read_form(blocks)), Invoice)


@given(JSON)
def test_what_are_no_blocks_is_an_empty_form(blocks):
    assert read_form(blocks) == Form((), ())
