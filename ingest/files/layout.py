"""Which column of a file is what, and the paths of its tags.

A long file has a row a sample, with columns for the tag, the time, the value and maybe the quality. A wide file has a column a tag beside the time.
Names count without regard to case, blanks and underscores.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from historian.ingest.files.options import Layout
from historian.ingest.files.times import is_time_type, looks_like_times
from historian.schema.errors import BadInput
from historian.schema.paths import path_fault

_TIMES = (
    *(
        "ts",
        "timestamp",
        "datetime",
        "time",
        "timeutc",
        "utctime",
        "timestamputc",
        "utc",
        "datetimeutc",
        "localtime",
        "date/time",
        "dateandtime",
    ),
    *("zeitstempel", "zeitpunkt", "zeit", "datum", "datumzeit", "datum/zeit", "date", "epoch", "t"),
)
_TAGS = (
    "tag",
    "tagname",
    "tagpath",
    "path",
    "pointname",
    "point",
    "series",
    "variable",
    "signal",
    "sensor",
    "metric",
    "channel",
    "item",
    "name",
)
_VALUES = ("value", "val", "wert", "messwert", "reading", "v")
_QUALITIES = ("quality", "qualität", "q", "opcquality", "status")


@dataclass(frozen=True, slots=True)
class Columns:
    """Positions of the columns. `values` are all those of tags in a wide file, and the one in a long file; then `tag` is not None."""

    time: int
    values: tuple[int, ...]
    tag: int | None = None
    quality: int | None = None
    ignored: tuple[str, ...] = ()

    @property
    def layout(self) -> Layout:
        return "wide" if self.tag is None else "long"


def columns_of(names: Sequence[str], head: pa.RecordBatch | None, layout: Layout, time_column: str | None) -> Columns:
    """What the columns are, by their names; if they do not tell the time, by their first rows. Raises BadInput."""
    plain = [_plain(name) for name in names]
    tag, value = _by_name(plain, _TAGS), _by_name(plain, _VALUES)
    is_long = layout == "long" or (layout == "auto" and tag is not None and value is not None)
    if is_long:
        if tag is None or value is None:
            what, known = ("tag", _TAGS) if tag is None else ("value", _VALUES)
            raise BadInput(f"a long file needs a column for the {what}, as {', '.join(known[:4])}; there are {_listed(names)}")
        quality = _by_name(plain, _QUALITIES)
        used = {tag, value, quality}
        time = _time(names, plain, head, time_column, used)
        ignored = tuple(name for n, name in enumerate(names) if n not in used | {time})
        return Columns(time, (value,), tag, quality, ignored)
    time = _time(names, plain, head, time_column, set())
    # as pandas writes its index, or a delimiter at the end of each line
    unnamed = tuple(f"number {n + 1}, which has no name" for n, name in enumerate(names) if not name and n != time)
    return Columns(time, tuple(n for n, name in enumerate(names) if name and n != time), ignored=unnamed)


def _time(names: Sequence[str], plain: list[str], head: pa.RecordBatch | None, wanted: str | None, used: set[int | None]) -> int:
    if wanted is not None:
        if wanted.strip() in names:
            return list(names).index(wanted.strip())
        found = [n for n, name in enumerate(plain) if name == _plain(wanted)]
        if len(found) != 1:
            raise BadInput(f"there is no time column {wanted!r}; there are {_listed(names)}")
        return found[0]
    free = [n for n in range(len(names)) if n not in used]
    if "date" in plain and "time" in plain:
        raise BadInput(
            "date and time stand in two columns; put them into one, as 2026-03-01 12:00:00, or say --time-column if one of them has both"
        )
    # a typed column is sure, a name is likely
    typed = [n for n in free if head is not None and is_time_type(head.column(n).type)]
    named = [n for known in _TIMES for n in free if plain[n] == known]
    for found in ([n for n in named if n in typed], typed if len(typed) == 1 else [], [] if typed else named):
        if found:
            return found[0]
    if head is not None and not typed:
        shaped = [n for n in free if looks_like_times(head.column(n))]
        if len(shaped) == 1:
            return shaped[0]
    raise BadInput(f"which column has the times? Say --time-column; there are {_listed(names)}")


def _plain(name: str) -> str:
    return re.sub(r"[\s_()\[\].-]", "", name).casefold()


def _by_name(plain: list[str], known: Sequence[str]) -> int | None:
    return next((plain.index(name) for name in known if name in plain), None)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name[:40]) for name in names[:12])
    return shown + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def rendered_prefix(template: str, path: Path) -> str:
    """The prefix for a file: {stem} is its name without suffixes, {name} with them, {parent} that of its directory. Raises BadInput."""
    known = {"stem": stem(path), "name": path.name, "parent": path.absolute().parent.name}

    def put(found: re.Match[str]) -> str:
        if found[1] not in known:
            raise BadInput(f"--prefix {template!r}: {found[0]} is not known; there are {{stem}}, {{name}} and {{parent}}")
        return known[found[1]]

    prefix = re.sub(r"\{(.*?)\}", put, template).strip("/")
    if prefix and (fault := path_fault(prefix)):
        raise BadInput(f"--prefix {template!r} cannot begin a tag: {fault}")
    return prefix


_SUFFIX = re.compile(r"(\.(csv|tsv|txt|parquet|pq|arrow|arrows|feather|ipc|gz|zst))+$", re.IGNORECASE)


def stem(path: Path) -> str:
    """The name of a file without the suffixes that say its format: pump.2026.csv.gz is pump.2026."""
    return _SUFFIX.sub("", path.name) or path.name


def column_path(prefix: str, name: str) -> str:
    """The tag of a column of a wide file. Raises BadInput for a name that cannot be one.

    Below a prefix a column is one level. Without one its name is the whole path, and so may have several.
    """
    if prefix and "/" in name:
        raise BadInput(
            f"column {name!r} cannot be a level of a tag path: it has a /, which parts levels; give it another name"
            " (without --prefix the names of columns are whole paths)"
        )
    path = f"{prefix}/{name}" if prefix else name
    if fault := path_fault(path):
        raise BadInput(
            f"column {name[:80]!r} cannot be {'a level of a tag path' if prefix else 'a tag path'}: {fault}; give it another name"
        )
    return path
