"""The `[folder]` table of a worker's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from historian.ingest.files import FileOptions, Layout
from historian.ingest.files.layout import rendered_prefix
from historian.ingest.files.zones import zone
from historian.schema.errors import BadInput


class FolderConfig(BaseModel):
    """Where files are dropped, when they are complete, what becomes of them, and how they are read (as `historian import` has it).

    match     names of files to take, as shell patterns
    settle_s  a file is complete when its size and its time have not changed for so long, in seconds
    poll_s    pause between two looks into the folder, in seconds
    after     what becomes of a file whose samples are settled: move, to done/ in the folder; or delete
    """

    model_config = ConfigDict(extra="forbid")

    path: Path
    match: list[str] = Field(["*"], min_length=1)
    settle_s: float = Field(2.0, ge=0, le=86_400)
    poll_s: float = Field(1.0, ge=0.01, le=3600)
    after: Literal["move", "delete"] = "move"

    prefix: str = ""
    tz: str | None = None
    layout: Layout = "auto"
    delimiter: str | None = None
    decimal: Literal[".", ","] | None = None
    encoding: str | None = None
    time_column: str | None = None
    time_format: str | None = None
    nulls: list[str] = Field(default_factory=list)
    texts: list[str] = Field(default_factory=list)

    @field_validator("delimiter")
    @classmethod
    def _delimiter(cls, given: str | None) -> str | None:
        if given is None:
            return None
        given = {"tab": "\t", "\\t": "\t"}.get(given, given)
        if len(given) != 1 or given in '"\r\n' or not given.isascii():
            raise ValueError("is one character, or tab")
        return given

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            if self.tz is not None:
                zone(self.tz)
            rendered_prefix(self.prefix, self.path / "file.csv")
        except BadInput as error:
            raise ValueError(str(error).replace("--prefix", "prefix")) from None
        return self

    @property
    def options(self) -> FileOptions:
        return FileOptions(
            prefix=self.prefix,
            tz=self.tz,
            layout=self.layout,
            delimiter=self.delimiter,
            decimal=self.decimal,
            encoding=self.encoding,
            time_column=self.time_column,
            time_format=self.time_format,
            nulls=tuple(self.nulls),
            texts=tuple(self.texts),
        )
