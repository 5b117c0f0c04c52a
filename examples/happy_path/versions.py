"""The four versions of the workflow, as definitions that run side by side."""

from __future__ import annotations

from typing import Final

from eip.patterns.process_manager import Process, Steps
from eip.retry import Backoff
from examples.happy_path.model import Photo
from examples.happy_path.steps import PhotoSteps

__all__ = ["NAME", "VERSIONS", "definitions"]

NAME: Final = "photo"
VERSIONS: Final = (1, 2, 3, 4)
_PATIENT: Final = Backoff(cap=60.0, max_attempts=20)
"""A store or a judge that is away for some minutes rejects no photo."""
_LEAST_SIDE: Final = 800
"""Pixels."""
_TYPES: Final = ("JPEG", "PNG", "WEBP")


def definitions(steps: PhotoSteps) -> dict[int, Process[Photo]]:
    """All versions by their number; instances keep the one that they began with."""

    def moderated(photos: Steps[Photo]) -> Steps[Photo]:
        refused = Steps[Photo]().fail(_unsafe_reason, name="unsafe")
        return photos.step(steps.moderate, retry=_PATIENT).choice([(is_unsafe, refused)], name="moderation result")

    def checked(photos: Steps[Photo]) -> Steps[Photo]:
        small = Steps[Photo]().fail(_small_reason, name="too small")
        other = Steps[Photo]().fail(_type_reason, name="wrong type")
        return photos.step(steps.check_dimensions, retry=_PATIENT).choice(
            [(is_too_small, small), (is_of_another_type, other)], name="dimensions"
        )

    def by_place(photos: Steps[Photo]) -> Steps[Photo]:
        crowded = Steps[Photo]().fail("people are in the photo", name="people")
        labelled = Steps[Photo]().step(steps.find_labels, retry=_PATIENT).choice([(has_people, crowded)], name="labels")
        return photos.step(steps.look_up_place, retry=_PATIENT).choice(
            [(is_park, moderated(Steps[Photo]())), (is_restaurant, labelled)],
            otherwise=Steps[Photo]().fail(_place_reason, name="unsupported place"),
            name="place type",
        )

    def version(number: int, before: Steps[Photo]) -> Process[Photo]:
        body = before.step(steps.resize, compensate=steps.remove_sizes, retry=_PATIENT).step(
            steps.publish, retry=_PATIENT
        )
        failed = Steps[Photo]().step(steps.record_fail_state, retry=_PATIENT)
        return Process(NAME, version=number, state=Photo).catch(body, failed=failed, name="photo")

    return {
        1: version(1, Steps[Photo]()),
        2: version(2, moderated(Steps[Photo]())),
        3: version(3, moderated(checked(Steps[Photo]()))),
        4: version(4, by_place(checked(Steps[Photo]()))),
    }


def is_unsafe(photo: Photo) -> bool:
    return bool(photo.unsafe)


def is_too_small(photo: Photo) -> bool:
    return min(photo.width, photo.height) < _LEAST_SIDE


def is_of_another_type(photo: Photo) -> bool:
    return photo.format not in _TYPES


def is_park(photo: Photo) -> bool:
    return photo.place_type == "park"


def is_restaurant(photo: Photo) -> bool:
    return photo.place_type == "restaurant"


def has_people(photo: Photo) -> bool:
    return any(each.name == "Person" for each in photo.labels)


def _unsafe_reason(photo: Photo) -> str:
    return f"not fit to be shown: {', '.join(each.name for each in photo.unsafe)}"


def _small_reason(photo: Photo) -> str:
    return f"too small: {photo.width} x {photo.height}, at least {_LEAST_SIDE} pixels each way"


def _type_reason(photo: Photo) -> str:
    return f"{photo.format} is not accepted: {', '.join(_TYPES)} are"


def _place_reason(photo: Photo) -> str:
    return f"no photos of a {photo.place_type} are shown"
