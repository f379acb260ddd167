"""Results as pandas DataFrames: wide, with a column for each tag, or long, with a row for each sample.

The index is the time, named `ts`, in a zone. What the catalogue knows of the tags stands in `attrs`, as plain dicts by path, which survive `to_parquet`: `units`,
`descriptions`, `kinds`, `states`, and `mode`, `interval` and `tz` as they were asked for.

Everything goes by columns: a million samples become wide in a tenth of a second if the tags have them at the same times, and in less than half a second if not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from historian.client.ranges import RangeOptions, zone_name
from historian.client.results import TagList, tags_of
from historian.query.interval import parse_zone
from historian.schema.errors import BadInput
from historian.schema.samples import UNCERTAIN, Bools, Floats, Int16s, Int32s, Int64s

if TYPE_CHECKING:
    import pandas as pd

    from historian.schema.catalogue import Tag

#: of a wide frame: as much as 1.6 GB. Tags that never have a sample at the same time would else make more of little
MAX_CELLS = 200_000_000

#: the text of these modes names the state that a row is about
_BY_STATE = frozenset({"duration", "transitions"})


@dataclass(frozen=True, slots=True)
class Shape:
    """What a frame is to look like, of what was asked."""

    wide: bool = True
    states: bool = True
    quality: bool = False
    options: RangeOptions = field(default_factory=RangeOptions)

    def asked(self) -> RangeOptions:
        """The options of the range query. The zone is for the index too, so that it need not be one of buckets."""
        if not self.wide and self.quality:
            raise BadInput("quality= is for the wide form; the long one has it anyway")
        asked = self.options.copy()
        if "tz" in asked and asked.get("interval") is None and asked.get("origin") is None:
            del asked["tz"]
        return asked

    def frame(self, table: pa.Table) -> pd.DataFrame:
        """A table in the client's columns as a frame. Raises BadInput for a zone that is none, and for too many cells."""
        zone = zone_name(self.options.get("tz") or "UTC")
        parse_zone(zone)
        tags = tags_of(table.schema)
        columns = _Columns.of(table, tags)
        mode = self.options.get("mode", "raw")
        by_state = mode in _BY_STATE
        if not self.wide:
            frame = _long(columns, zone, states=self.states, by_state=by_state)
        elif by_state:
            frame = _wide_by_state(columns, zone)
        else:
            frame = _wide(columns, zone, states=self.states, quality=self.quality)
        interval = self.options.get("interval")
        frame.attrs = {
            "units": {tag.path: tag.unit for tag in tags if tag.unit is not None},
            "descriptions": {tag.path: tag.description for tag in tags if tag.description is not None},
            "kinds": {tag.path: tag.kind for tag in tags},
            "states": {tag.path: dict(tag.states) for tag in tags if tag.states},
            "mode": mode,
            "interval": None if interval is None else str(interval),
            "tz": zone,
        }
        return frame


@dataclass(frozen=True, slots=True)
class _Columns:
    """A result as numpy columns; `place` says where in `tags` the tag of each row is."""

    tags: TagList
    place: Int64s
    ts: Int64s
    value: Floats
    quality: Int16s
    text: pa.ChunkedArray | None

    @classmethod
    def of(cls, table: pa.Table, tags: TagList) -> _Columns:
        ids: Int32s = table.column("tag_id").to_numpy()
        known = np.array([tag.tag_id for tag in tags], np.int32)
        order = np.argsort(known)
        return cls(
            tags,
            order[np.searchsorted(known, ids, sorter=order)] if len(tags) else np.empty(0, np.int64),
            table.column("ts").cast(pa.int64()).to_numpy(),
            table.column("value").to_numpy(),
            table.column("quality").to_numpy(),
            table.column("text") if "text" in table.column_names else None,
        )

    def rows(self) -> list[Int64s]:
        """For each tag where its rows are."""
        # results come tag by tag: then this sorts what is sorted
        order = np.argsort(self.place, kind="stable")
        return np.split(order, np.searchsorted(self.place[order], np.arange(1, len(self.tags)))) if self.tags else []


def _index(ts: Int64s, zone: str) -> pd.DatetimeIndex:
    import pandas as pd

    return pd.DatetimeIndex(ts.view("M8[us]"), name="ts").tz_localize("UTC").tz_convert(zone)


def _times(columns: _Columns, rows: list[Int64s]) -> tuple[Int64s, list[Int64s | slice]]:
    """The times of a wide frame, and for each tag which rows of the frame its samples are."""
    filled = [of_tag for of_tag in rows if len(of_tag)]
    if not filled:
        return np.empty(0, np.int64), [slice(0, 0)] * len(rows)
    first = columns.ts[filled[0]]
    if all(len(of_tag) == len(first) and np.array_equal(columns.ts[of_tag], first) for of_tag in filled[1:]) and (np.diff(first) > 0).all():
        # all at the same times, as buckets are: nothing has to be looked for
        return first, [slice(None) if len(of_tag) else slice(0, 0) for of_tag in rows]
    times = _distinct(columns.ts)
    return times, [np.searchsorted(times, columns.ts[of_tag]) for of_tag in rows]


def _distinct(ts: Int64s) -> Int64s:
    """Each time once, ascending. (numpy 2.3's own `unique` hashes, which takes thirty times as long where most are distinct.)"""
    times = np.sort(ts, kind="stable")
    return times[np.concatenate(([True], times[1:] != times[:-1]))] if len(times) else times


def _check_size(rows: int, columns: int) -> None:
    if rows * columns > MAX_CELLS:
        raise BadInput(
            f"the wide form would have {rows} rows of {columns} tags, for their samples are at different times; take wide=False, or a mode with an interval"
        )


def _wide(columns: _Columns, zone: str, *, states: bool, quality: bool) -> pd.DataFrame:
    import pandas as pd

    rows = columns.rows()
    times, places = _times(columns, rows)
    _check_size(len(times), len(columns.tags))
    found: dict[Any, Any] = {}
    for tag, of_tag, place in zip(columns.tags, rows, places, strict=True):
        qualities = columns.quality[of_tag]
        value = np.full(len(times), np.nan)
        value[place] = np.where(qualities >= UNCERTAIN, columns.value[of_tag], np.nan)
        name: Any = (tag.path, "value") if quality else tag.path
        if tag.kind == "text":
            found[name] = _texts(columns, of_tag, place, len(times))
        else:
            found[name] = _values(tag, value, states=states)
        if quality:
            code, absent = np.zeros(len(times), np.int16), np.ones(len(times), np.bool_)
            code[place], absent[place] = qualities, False
            found[tag.path, "quality"] = pd.arrays.IntegerArray(code, absent)
    frame = pd.DataFrame(dict(enumerate(found.values())), index=_index(times, zone), copy=False)
    frame.columns = _names(list(found), "of") if quality else pd.Index(list(found), name="tag")
    return frame


def _names(names: list[tuple[str, str]], second: str) -> pd.MultiIndex:
    import pandas as pd

    # from no tuples nothing is to be seen of how many levels there are
    return pd.MultiIndex.from_tuples(names, names=["tag", second]) if names else pd.MultiIndex.from_arrays([[], []], names=["tag", second])


def _texts(columns: _Columns, of_tag: Int64s, place: Int64s | slice, size: int) -> Any:
    """Texts as pandas' own strings; those of bad samples are missing."""
    import pandas as pd

    texts = np.full(size, None, object)
    if columns.text is not None and len(of_tag):
        taken = columns.text.take(pa.array(of_tag)).to_pandas().to_numpy(object)
        texts[place] = np.where(columns.quality[of_tag] >= UNCERTAIN, taken, None)
    return pd.array(texts, dtype="string")


def _values(tag: Tag, value: Floats, *, states: bool) -> Any:
    """A column of numbers as what they mean."""
    import pandas as pd

    missing = np.isnan(value)
    if tag.kind == "digital" and tag.states and states:
        codes, names = _named(tag.states, value, missing)
        return pd.Categorical.from_codes(codes, categories=pd.Index(names))
    if tag.kind in ("int", "digital") and _whole(value, missing):
        return pd.arrays.IntegerArray(np.where(missing, 0, value).astype(np.int64), missing)
    if tag.kind == "bool":
        return pd.arrays.BooleanArray(np.where(missing, 0, value) != 0, missing)
    return value


def _whole(value: Floats, missing: Bools) -> bool:
    """Whether all are integers: what is interpolated between integers is not."""
    return bool((missing | ((np.rint(value) == value) & (np.abs(value) <= 2**53))).all())


def _named(states: Mapping[str, str], value: Floats, missing: Bools) -> tuple[Int64s, list[str]]:
    """Which of these names each value has, -1 where it is missing. The states in the order of their codes; a code without a state is named by its number."""
    seen, which = np.unique(value[~missing], return_inverse=True)
    names = {name: n for n, name in enumerate(dict.fromkeys(states[code] for code in sorted(states, key=int)))}
    of_code = [names.setdefault(states.get(f"{code:.15g}", f"{code:.15g}"), len(names)) for code in seen.tolist()]
    codes = np.full(len(value), -1, np.int64)
    codes[~missing] = np.array(of_code, np.int64)[which] if of_code else 0
    return codes, list(names)


def _wide_by_state(columns: _Columns, zone: str) -> pd.DataFrame:
    """Columns (path, state). Where a tag has a row for a bucket, a state without one is none of it: 0."""
    import pandas as pd

    times = _distinct(columns.ts)
    found: dict[tuple[str, str], Floats] = {}
    for tag, of_tag in zip(columns.tags, columns.rows(), strict=True):
        if columns.text is None or not len(of_tag):
            continue
        state = columns.text.take(pa.array(of_tag)).combine_chunks().fill_null("").dictionary_encode()
        which = state.indices.to_numpy()
        place = np.searchsorted(times, columns.ts[of_tag])
        there = np.zeros(len(times), np.bool_)
        there[place] = True
        for n, name in enumerate(state.dictionary.to_pylist()):
            value = np.where(there, 0.0, np.nan)
            value[place[which == n]] = columns.value[of_tag[which == n]]
            found[tag.path, name] = value
    _check_size(len(times), len(found))
    frame = pd.DataFrame(dict(enumerate(found.values())), index=_index(times, zone), copy=False)
    frame.columns = _names(list(found), "state")
    return frame


def _long(columns: _Columns, zone: str, *, states: bool, by_state: bool) -> pd.DataFrame:
    import pandas as pd

    found: dict[str, Any] = {
        "tag": pd.Categorical.from_codes(columns.place, categories=pd.Index([tag.path for tag in columns.tags])),
        "value": columns.value,
        "quality": columns.quality,
    }
    if columns.text is not None:
        found["state" if by_state else "text"] = columns.text.to_pandas().array
    if states and not by_state and any(tag.kind == "digital" and tag.states for tag in columns.tags):
        found["state"] = _states(columns)
    return pd.DataFrame(found, index=_index(columns.ts, zone), copy=False)


def _states(columns: _Columns) -> Any:
    """The names of the states of digital tags, one set of categories for all."""
    import pandas as pd

    names: dict[str, int] = {}
    codes = np.full(len(columns.ts), -1, np.int64)
    for tag, of_tag in zip(columns.tags, columns.rows(), strict=True):
        if tag.kind == "digital" and tag.states:
            value = columns.value[of_tag]
            own, own_names = _named(tag.states, value, np.isnan(value))
            of_all = np.array([names.setdefault(name, len(names)) for name in own_names] or [0], np.int64)
            codes[of_tag] = np.where(own >= 0, of_all[own], -1)
    return pd.Categorical.from_codes(codes, categories=pd.Index(list(names)))
