"""Native ids: what a service takes passes unchanged, anything else is mapped, and no two ids meet."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eip._ids import MAPPED_PREFIX, from_native_id, to_native_id

ALPHABET = string.ascii_letters + string.digits + string.punctuation
TAKEN = re.compile(f"[{re.escape(ALPHABET)}]{{1,128}}")


@pytest.mark.parametrize("text", ["a", "order-7", ALPHABET, "x" * 128, "eip", "eip.sha256", "EIP.SHA256."])
def test_what_the_service_takes_passes_unchanged(text):
    assert to_native_id(text) == text


@pytest.mark.parametrize("text", ["", "order 7", "Müller", "\N{PARTY POPPER}", "x" * 129, "\ud800", "a\n", "\0"])
def test_what_the_service_refuses_is_mapped(text):
    """Fault 4: a group id with a space, an umlaut, an emoji, nothing at all, or 129 characters."""
    assert TAKEN.fullmatch(to_native_id(text))
    assert from_native_id(to_native_id(text), text) == text


def test_the_mapping_is_the_same_in_every_version():
    assert to_native_id("order 7") == "eip.sha256.0fc89f8ae19394b48debd6353bb9ad3393f3bc791931519f19d176a7e5513ebc"


def test_a_text_that_looks_mapped_is_mapped():
    forged = to_native_id("order 7")
    assert to_native_id(forged) != forged
    assert to_native_id(MAPPED_PREFIX) != MAPPED_PREFIX


@given(st.text(max_size=200), st.text(max_size=200))
def test_no_two_ids_meet(one, other):
    assert TAKEN.fullmatch(to_native_id(one))
    assert (to_native_id(one) == to_native_id(other)) == (one == other)


@pytest.mark.parametrize(
    ("native", "sent", "expected"),
    [
        (None, None, None),
        (None, "g", "g"),
        ("g", None, "g"),
        ("g", "g", "g"),
        ("g", "forged", "g"),
        (to_native_id("order 7"), "order 7", "order 7"),
        (to_native_id("order 7"), None, to_native_id("order 7")),
        (to_native_id("order 7"), "order 8", to_native_id("order 7")),
    ],
)
def test_the_service_s_own_id_wins_over_a_forged_one(native, sent, expected):
    """Fault 9c: an envelope that names another group than the queue does."""
    assert from_native_id(native, sent) == expected
