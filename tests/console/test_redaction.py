"""Values are masked by the names of their fields, whatever they are in."""

from __future__ import annotations

import pytest

from eip.console import Redaction
from eip.console.redaction import MASK
from eip.errors import ConfigurationError


@pytest.mark.parametrize("name", ["password", "PASSWORD", "userPassword", "api_key", "api-key", "accessToken", "cvv"])
def test_what_is_secret_by_name_is_masked_unasked(name):
    assert Redaction().value({"a": [{name: {"deep": 1}, "n": 2}]}) == {"a": [{name: MASK, "n": 2}]}


def test_other_names_can_be_given_and_none():
    value = {"password": 1, "iban_de": 2, "n": [3]}
    assert Redaction(["iban*"]).value(value) == {"password": 1, "iban_de": MASK, "n": [3]}
    assert Redaction(()).value(value) == value
    with pytest.raises(ConfigurationError, match="fields must be names"):
        Redaction([" "])


def test_what_is_nested_too_deep_is_masked_as_a_whole():
    value: object = "bottom"
    for _ in range(5000):
        value = [value]
    assert MASK in str(Redaction().value(value))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("password=hunter2&n=1", f"password={MASK}&n=1"),
        ('{"password": "a \\"quoted\\" one", "n": 1', f'{{"password": {MASK}, "n": 1'),
        ('{"password": "cut sho', f'{{"password": {MASK}'),
        ("<password>hunter2</password>", f"<password>{MASK}</password>"),
        ("Token: abc.def.ghi next", f"Token: {MASK} next"),
        ("card_number = 4111 1111", f"card_number = {MASK} 1111"),
        ("no field at all", "no field at all"),
        ("'secret': 'x y', 'n': 2", f"'secret': {MASK}, 'n': 2"),
    ],
)
def test_texts_are_masked_after_their_field_s_name(text, shown):
    assert Redaction().text(text) == shown


def test_a_hostile_text_takes_linear_time():
    text = "password" + "=" * 100_000 + '"' * 100_000 + "password" * 20_000
    assert len(Redaction().text(text)) <= len(text)


def test_an_edit_keeps_what_was_masked():
    redaction, original = Redaction(), {"n": 1, "card": {"card_number": "4111", "x": 1}, "list": [{"token": "a"}, {}]}
    edited = redaction.value(original)
    edited["n"] = 2
    assert redaction.restored(edited, original) == {**original, "n": 2}
    for wrong in ({"n": MASK}, {"other": {"token": MASK}}, [MASK], {"list": [{"token": MASK}]}):
        with pytest.raises(ValueError, match="write it"):
            redaction.restored(wrong, original)
