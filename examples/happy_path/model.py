"""What the two applications tell each other, and what the tables hold."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from pydantic import BaseModel, Field

__all__ = [
    "MAX_BYTES",
    "PLACES",
    "Label",
    "Photo",
    "PhotoPublished",
    "PhotoRejected",
    "PhotoUploaded",
    "Place",
    "Size",
]

MAX_BYTES: Final = 10 * 1024 * 1024
"""Of a photo: the largest of the article's are 9 MB."""

PlaceType: TypeAlias = Literal["park", "restaurant", "museum"]


class Place(BaseModel):
    """A place that photos can be taken of."""

    id: str
    name: str
    type: PlaceType


PLACES: Final = (
    Place(id="alder-park", name="Alder Park", type="park"),
    Place(id="lake-garden", name="Lake Garden", type="park"),
    Place(id="blue-spoon", name="The Blue Spoon", type="restaurant"),
    Place(id="clock-museum", name="Clock Museum", type="museum"),
)


class Label(BaseModel):
    """What somebody who looked at the photo found in it."""

    name: str
    confidence: float
    """In percent."""


class Size(BaseModel):
    """A photo as it is shown."""

    name: str
    key: str
    width: int
    height: int
    bytes: int


class PhotoUploaded(BaseModel):
    """From the front: a photo is in the object store."""

    photo: str = Field(max_length=64)
    place: str = Field(alias="placeId", max_length=64)
    bucket: str
    key: str

    model_config = {"populate_by_name": True, "serialize_by_alias": True}


class PhotoPublished(BaseModel):
    """From the workflow: the photo can be shown."""

    photo: str
    version: int
    sizes: list[Size]
    labels: list[Label] = []


class PhotoRejected(BaseModel):
    """From the workflow: the photo is not shown, and why."""

    photo: str
    version: int
    reason: str
    labels: list[Label] = []


class Photo(BaseModel):
    """The state of a workflow: what is known of a photo, and not the photo itself."""

    photo: str
    place: str
    bucket: str
    key: str
    format: str = ""
    width: int = 0
    height: int = 0
    place_type: str = ""
    unsafe: list[Label] = []
    labels: list[Label] = []
    sizes: list[Size] = []
