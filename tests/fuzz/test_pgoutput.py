"""pgoutput: whatever a message holds, it is changes or a `CaptureError`, and the decoder goes on."""

from __future__ import annotations

import struct

import pytest

from examples.job_events.changes import CaptureError, Change
from examples.job_events.pgoutput import Committed, Decoder
from tests.fuzz import fuzz, mutated


def _row(*values: str | None) -> bytes:
    parts = [b"n" if each is None else b"t" + struct.pack("!I", len(each)) + each.encode() for each in values]
    return struct.pack("!H", len(values)) + b"".join(parts)


RELATION = (
    b"R"
    + struct.pack("!I", 7)
    + b"public\0tbl_job\0f"
    + struct.pack("!H", 2)
    + b"\1job_no\0"
    + struct.pack("!Ii", 23, -1)
    + b"\0note\0"
    + struct.pack("!Ii", 25, -1)
)
BEGIN = b"B" + struct.pack("!QqI", 100, 1_000_000, 5)
COMMIT = b"C" + struct.pack("!BQQq", 0, 100, 110, 1_000_000)
TABLE = struct.pack("!I", 7)
INSERT = b"I" + TABLE + b"N" + _row("1", None)
UPDATE = b"U" + TABLE + b"O" + _row("1", "large") + b"N" + struct.pack("!H", 2) + b"t\0\0\0\x011" + b"u"
DELETE = b"D" + TABLE + b"O" + _row("1", "large")
KEY_ONLY = b"D" + TABLE + b"K" + _row("1", None)
EMITTED = b"M" + struct.pack("!BQ", 1, 90) + b"slot\0" + struct.pack("!I", 13) + b'{"job_no": 1}'
TRUNCATE = b"T" + struct.pack("!IBI", 1, 0, 7)


def _session() -> Decoder:
    decoder = Decoder(key="job_no", snapshot="slot")
    for each in (RELATION, BEGIN):
        assert not list(decoder.decode(each))
    return decoder


@fuzz(mutated([RELATION, BEGIN, COMMIT, INSERT, UPDATE, DELETE, KEY_ONLY, EMITTED, TRUNCATE]), short=400)
def test_a_message_is_changes_or_an_error_of_the_capture(raw: bytes) -> None:
    """Fault 24: never struct.error."""
    decoder = _session()
    try:
        found = list(decoder.decode(raw))
    except CaptureError:
        pass
    else:
        assert all(isinstance(each, Change | Committed) for each in found)
    fresh = _session()
    assert [each.before for each in fresh.decode(DELETE) if isinstance(each, Change)] == [
        {"job_no": "1", "note": "large"}
    ]


def test_what_did_not_change_is_taken_from_the_old_row() -> None:
    (change,) = _session().decode(UPDATE)
    assert isinstance(change, Change)
    assert change.after == {"job_no": "1", "note": "large"}


@pytest.mark.parametrize("size", range(1, len(UPDATE)))
def test_a_message_that_ends_too_early_is_an_error(size: int) -> None:
    with pytest.raises(CaptureError):
        list(_session().decode(UPDATE[:size]))
