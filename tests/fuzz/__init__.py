"""Fuzz tests: whatever a stranger sends is that message's own failure, and costs bounded time.

    @fuzz(mutated([valid, other]))
    def test_reading_never_fails_otherwise(raw): ...

`make test` runs a short, repeatable number of examples. ``FUZZ=20000`` looks for new ones, as many per test.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

__all__ = ["bounded_time", "fuzz", "mutated", "odd_json", "odd_text"]

BUDGET = int(os.environ.get("FUZZ", "0"))
"""Examples of each test; 0: the short run."""

ODD_TEXTS = ("", " ", "\0", "\ufeff", "\uffff", "\N{PARTY POPPER}", "M\u00fcller", "a\nb:c", "x" * 300, "9" * 5_000)
ODD_PIECES = (
    *(b"null", b"NaN", b"1e400", b"-0", b"007", b"1e999999999", b"9" * 5_000, b"[" * 300, b'{"a":' * 300, b"[]", b"{}"),
    *(b'"\\ud800"', b"\xff", b"\0", b"\xfe\xff", b"\x1f\x8b\x08", b'"', b"\\", b",", b":", b"eip", b"\r\n", b"true"),
)

odd_text: st.SearchStrategy[str] = st.sampled_from(ODD_TEXTS) | st.text(max_size=40)
"""Text with what services refuse: nothing at all, control characters, noncharacters, and too much of it."""

_scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**63, -(2**70), 10**30, 10**400])
    | st.floats()
    | odd_text
)


def odd_json(*keys: str) -> st.SearchStrategy[Any]:
    """JSON values of any shape, with integers beyond 64 bits, NaN and odd text; objects have mostly these keys."""
    names = st.sampled_from(keys) | odd_text if keys else odd_text
    return st.recursive(_scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=6))


@st.composite
def mutated(draw: st.DrawFn, seeds: Sequence[bytes], changes: int = 4) -> bytes:
    """One of the seeds with up to so many pieces cut out, doubled, flipped, or replaced by odd ones."""
    raw = bytearray(draw(st.sampled_from(list(seeds))))
    for _ in range(draw(st.integers(0, changes))):
        start = draw(st.integers(0, len(raw)))
        end = min(len(raw), start + draw(st.integers(0, 12)))
        match draw(st.integers(0, 3)):
            case 0:
                del raw[start:end]
            case 1:
                raw[start:start] = raw[start:end]
            case 2:
                raw[start:end] = draw(st.sampled_from(ODD_PIECES))
            case _:
                raw[start:end] = draw(st.binary(max_size=8))
    return bytes(raw)


def fuzz(*strategies: st.SearchStrategy[Any], short: int = 150) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Run a test with examples of the strategies: ``short`` repeatable ones, or ``FUZZ`` new ones."""

    def decorate(test: Callable[..., Any]) -> Callable[..., Any]:
        how = settings(
            max_examples=BUDGET or short,
            derandomize=not BUDGET,
            deadline=None,
            suppress_health_check=[
                HealthCheck.too_slow,
                HealthCheck.function_scoped_fixture,
                HealthCheck.data_too_large,
            ],
        )
        decorated: Callable[..., Any] = how(given(*strategies)(test))
        return decorated

    return decorate


@contextmanager
def bounded_time(seconds: float = 2.0) -> Iterator[None]:
    """Fail where what is inside takes longer, in processor time: other programs do not count."""
    before = time.process_time()
    yield
    took = time.process_time() - before
    assert took < seconds, f"took {took:.2f} s, more than {seconds}"
