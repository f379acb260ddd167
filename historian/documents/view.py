"""A saved trend view: what stands behind the # in the address of the trend page, under a title."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]


class View(BaseModel):
    """A trend view."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    version: Literal[1] = 1
    title: Title
    hash: Annotated[
        str,
        StringConstraints(pattern=r"^#[\x21-\x7e]*$", max_length=16_384),
        Field(description="The address of the view behind the path, as the page has it: #pen=…&span=…, percent-encoded"),
    ]
