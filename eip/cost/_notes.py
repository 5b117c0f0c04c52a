"""Remarks on the alternatives, in a sentence each."""

from __future__ import annotations

from collections.abc import Iterator

from eip.cost.alternatives import Alternative
from eip.cost.profile import Profile
from eip.cost.services import quota

__all__ = ["notes"]


def notes(profile: Profile, found: list[Alternative]) -> Iterator[str]:
    """Whether packing and filters pay, and what to do where nothing fits."""
    fitting = {each.name: each for each in found if each.fits}
    yield from _on_packing(profile, fitting)
    for plain in (each for name, each in fitting.items() if f"{name}, filtered" in fitting):
        filtered = fitting[f"{plain.name}, filtered"]
        saved = 1 - filtered.received / plain.received
        if saved > 0:
            dollars = plain.monthly - filtered.monthly
            yield (
                f"Filters in the service save {saved:.0%} of what consumers are woken for, and ${dollars:,.2f} of "
                f"${plain.monthly:,.2f} a month ({plain.name})."
            )
            break
    if not fitting:
        yield "Nothing fits as it is: see why, and relax the profile (claim check, retention by archive, replay)."


def _on_packing(profile: Profile, fitting: dict[str, Alternative]) -> Iterator[str]:
    pairs = [
        (name, plain, fitting[f"{name}, packed"]) for name, plain in fitting.items() if f"{name}, packed" in fitting
    ]
    paying = [each for each in pairs if each[2].monthly < 0.9 * each[1].monthly]
    if paying:
        name, plain, packed = min(paying, key=lambda each: each[2].monthly)
        yield f"Packing pays here: {name} costs ${packed.monthly:,.2f} instead of ${plain.monthly:,.2f} a month."
        return
    full = quota("sqs", "unit_bytes") / quota("sqs", "batch")
    why = "too few come in the time they may wait for a pack"
    if pairs:
        why = "what it saves is less than a tenth"
    if profile.size > full:
        why = f"ten messages of {full:,.0f} bytes fill a billed unit of SQS and SNS already"
    yield f"Packing does not pay here: {why}."
