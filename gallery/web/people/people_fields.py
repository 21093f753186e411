"""Fields of the requests about people, as pydantic models."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from ...identities.known_people import EnrolmentOptions
from ...keeping.decision_file import MOST_ROWS, MOST_TEXT, check_name
from ..models import CheckedFields, Id, ImageBytes, Text

MOST_IMAGES = 16  # of a track
Name = Annotated[str, Field(max_length=2 * MOST_TEXT), AfterValidator(lambda text: check_name("name", text))]
DecisionId = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
Rows = Annotated[list[Id], Field(min_length=1, max_length=MOST_ROWS)]
Rate = Annotated[float, Field(gt=0, lt=1)]


class DecisionFields(CheckedFields):
    """What every decision has."""

    who: Name = Field(description="name of the person who decides; it is kept with the decision")
    id: DecisionId | SkipJsonSchema[None] = Field(
        None, description="32 random hexadecimal digits; a decision that is sent again with its id is taken once"
    )


class AnswerFields(DecisionFields):
    """Fields of /people/decide."""

    answer: Literal["same", "different", "unsure"] = Field(
        description="same: the rows show one person; different: two people; unsure: the pair is not asked about again"
    )
    rows: Annotated[list[Id], Field(min_length=2, max_length=MOST_ROWS)] = Field(
        description="ids of two rows; for same, of two or more"
    )


class MergeFields(DecisionFields):
    """Fields of /people/merge."""

    rows: Annotated[list[Id], Field(min_length=2, max_length=MOST_ROWS)] = Field(
        description="one row of each person; all rows of these become one person"
    )


class SplitFields(DecisionFields):
    """Fields of /people/split."""

    rows: Rows = Field(description="rows of one person, who is not the one of the other rows in their group")


class MoveFields(DecisionFields):
    """Fields of /people/move."""

    rows: Rows = Field(description="rows that show the person of `to`, and not that of the other rows in their group")
    to: Id = Field(description="a row of the person they are moved to")


class NameFields(DecisionFields):
    """Fields of /people/name."""

    row: Id = Field(description="a row of the person")
    name: Name = Field(description="the person's name from now on")


class UndoFields(DecisionFields):
    """Fields of /people/undo."""

    of: DecisionId = Field(description="id of the decision that is taken back; an undo can be taken back, too")


class IdentifyFields(CheckedFields):
    """Fields of /identify: images or rows of one person."""

    image: Annotated[list[ImageBytes], BeforeValidator(lambda value: value if isinstance(value, list) else [value])] = (
        Field([], max_length=MOST_IMAGES, description="one image, or several of one track, in a form only")
    )
    rows: Annotated[list[Id], BeforeValidator(lambda value: value if isinstance(value, list) else [value])] = Field(
        [], max_length=MOST_IMAGES, description="rows of the gallery, in place of images; they do not count as enrolled"
    )
    camera: Text | SkipJsonSchema[None] = Field(None, description="name of the camera that took the images, if known")
    far: Rate = Field(0.01, description="share of new people that may be called known")
    miss: Rate = Field(0.05, description="share of known people that may be called new")
    ask: Rate = Field(0.1, description="share of new people for whom the answer is at least ask")


class PersonFields(DecisionFields):
    """Fields of /enrol in a form: images of a new person."""

    image: Annotated[list[ImageBytes], BeforeValidator(lambda value: value if isinstance(value, list) else [value])] = (
        Field(min_length=1, max_length=MOST_IMAGES, description="one image of the person, or several")
    )
    name: Name = Field(description="name of the person; nobody in the gallery has it yet")
    camera: Text | SkipJsonSchema[None] = Field(None, description="name of the camera that took the images, if known")


class RegroupFields(CheckedFields):
    """Fields of /people/regroup."""

    threshold: Rate | SkipJsonSchema[None] = Field(
        None, description="distance, 0 to 1, up to which two groups merge: larger = fewer people; left out: the default"
    )
    trial: bool = Field(False, description="only return what it would give")
    who: Name | SkipJsonSchema[None] = Field(
        None, description="name of the person who decides; may be left out of a trial"
    )

    @model_validator(mode="after")
    def _check_who(self) -> RegroupFields:
        if self.who is None and not self.trial:
            raise ValueError("who: this field is required, unless trial is true")
        return self


class EnrolFields(CheckedFields):
    """Fields of /enrol in JSON: who counts as known."""

    least: Annotated[int, Field(ge=1, le=1000)] = Field(
        EnrolmentOptions.least, description="good crops that a known person needs"
    )
    templates: Annotated[int, Field(ge=1, le=100)] = Field(
        EnrolmentOptions.templates, description="most crops kept of a person"
    )
    confirmed: bool = Field(False, description="only rows that somebody has confirmed")
    expire_after: Annotated[float, Field(gt=0, allow_inf_nan=False)] | SkipJsonSchema[None] = Field(
        None, description="seconds before the newest row; older rows do not count"
    )
