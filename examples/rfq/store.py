"""The state of the booking service, in SQLite: what it knows survives the process.

Writes are committed before they return (WAL; a crash of the process loses nothing, one of the machine at most the last
moments). They take some 50 microseconds, so they are made where they are called for, without a thread.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from examples.rfq.model import Quote, RideRequest

_SCHEMA = """
CREATE TABLE IF NOT EXISTS rfqs (
    id TEXT PRIMARY KEY,
    request TEXT NOT NULL,
    eta REAL NOT NULL,
    expected INTEGER,
    completed_at REAL
) STRICT;
CREATE INDEX IF NOT EXISTS running ON rfqs (eta) WHERE completed_at IS NULL;
CREATE TABLE IF NOT EXISTS quotes (
    rfq TEXT NOT NULL REFERENCES rfqs (id),
    unicorn TEXT NOT NULL,
    quote TEXT,
    arrived INTEGER PRIMARY KEY AUTOINCREMENT,
    UNIQUE (rfq, unicorn)
) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Rfq:
    """A request for quotes and how far it is."""

    id: str
    request: RideRequest
    eta: float
    """When it ends at the latest, seconds since the epoch."""
    expected: int | None
    """How many unicorns were asked; None until that is known."""
    completed_at: float | None
    responses: int
    """How many have answered, those that declined included."""


class Store:
    """The RFQs and their quotes."""

    def __init__(self, path: Path | str = ":memory:") -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("PRAGMA busy_timeout=5000")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def create(self, rfq: str, request: RideRequest, eta: float) -> None:
        """Note a new RFQ."""
        text = request.model_dump_json(by_alias=True)
        self._db.execute("INSERT INTO rfqs (id, request, eta) VALUES (?, ?, ?)", (rfq, text, eta))

    def asked(self, rfq: str, expected: int) -> None:
        """Note how many unicorns were asked."""
        self._db.execute("UPDATE rfqs SET expected = ? WHERE id = ? AND expected IS NULL", (expected, rfq))

    def answer(self, rfq: str, unicorn: str, quote: Quote | None) -> bool:
        """Note an answer (None: it declined); False where it came before, or too late."""
        text = None if quote is None else quote.model_dump_json()
        done = self._db.execute(
            "INSERT OR IGNORE INTO quotes (rfq, unicorn, quote)"
            " SELECT id, ?, ? FROM rfqs WHERE id = ? AND completed_at IS NULL",
            (unicorn, text, rfq),
        )
        return done.rowcount == 1

    def complete(self, rfq: str, at: float) -> bool:
        """Note that the RFQ is complete; False where it was."""
        done = self._db.execute("UPDATE rfqs SET completed_at = ? WHERE id = ? AND completed_at IS NULL", (at, rfq))
        return done.rowcount == 1

    def get(self, rfq: str) -> Rfq | None:
        """The RFQ, or None."""
        return next(self._select("WHERE id = ?", rfq), None)

    def running(self) -> list[Rfq]:
        """The RFQs that are not complete, the next to end first."""
        return list(self._select("WHERE completed_at IS NULL ORDER BY eta"))

    def quotes(self, rfq: str) -> list[Quote]:
        """The quotes of an RFQ, in the order of their arrival."""
        rows = self._db.execute("SELECT quote FROM quotes WHERE rfq = ? AND quote IS NOT NULL ORDER BY arrived", (rfq,))
        return [Quote.model_validate_json(text) for (text,) in rows]

    def _select(self, where: str, *parameters: object) -> Iterator[Rfq]:
        rows = self._db.execute(
            "SELECT id, request, eta, expected, completed_at,"
            f" (SELECT count(*) FROM quotes WHERE rfq = rfqs.id) FROM rfqs {where}",
            parameters,
        )
        for identity, request, eta, expected, completed_at, responses in rows:
            yield Rfq(identity, RideRequest(**json.loads(request)), eta, expected, completed_at, responses)
