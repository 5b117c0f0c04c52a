"""Writes the golden vectors of the current version."""

from __future__ import annotations

import json
from pathlib import Path

from tests.wire.forms import FORMS, written
from tests.wire.messages import MESSAGES

if __name__ == "__main__":
    made = {form: {name: written(form, message) for name, message in MESSAGES.items()} for form in FORMS}
    held = {form: {name: wire for name, wire in named.items() if wire is not None} for form, named in made.items()}
    path = Path(__file__).parent / "vectors" / "v1.json"
    path.write_text(json.dumps(held, indent=1, ensure_ascii=False) + "\n")
