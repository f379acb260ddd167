"""What the user says of a file; everything left out is recognised from the file itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Layout = Literal["auto", "wide", "long"]


@dataclass(frozen=True, slots=True)
class FileOptions:
    """How to read files.

    prefix       stands before each tag; {stem}, {name} and {parent} are those of the file
    tz           zone of times without an offset: an IANA name, or an offset as +01:00; None: UTC
    layout       wide: a column a tag; long: a row a sample
    delimiter    of a CSV file
    decimal      "." or ",": the mark in its numbers
    encoding     of its text
    time_column  the column with the times
    time_format  as for strptime, or iso, s, ms, us, ns (since 1970)
    nulls        further words that stand for no value; an empty cell, nan and null always do
    texts        columns (wide) or tags as the file has them (long) that are text, whatever they look like
    """

    prefix: str = ""
    tz: str | None = None
    layout: Layout = "auto"
    delimiter: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    time_column: str | None = None
    time_format: str | None = None
    nulls: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
