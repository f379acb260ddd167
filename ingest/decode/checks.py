"""The rules for samples, whatever format they came in.

- The tag exists, or can be made: then its kind is text if a value is text, bool if all are true or false, and float otherwise. An int or digital tag has to be defined.
- The timestamp lies from 1970 to 2100, and within the window around this machine's clock if there is one.
- float takes numbers. int takes whole numbers up to ±2^53. bool takes true, false, 0 and 1. digital takes whole 32-bit numbers, and the names of its
  states. text takes text. Infinity is refused.
- No value, or NaN, is a bad sample: its quality is bad (0 to 63), and 0 where none is given. A quality is 0 to 255; 192 (good) where a value has none.
"""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from historian.ingest.decode.columns import BOOL, NOTHING, NUMBER, TEXT, Columns, Faults
from historian.ingest.decode.limits import DecodeLimits
from historian.schema.catalogue import KINDS, Catalogue, Kind, Tag
from historian.schema.errors import BadSamples, TooLarge
from historian.schema.paths import path_fault
from historian.schema.samples import BAD, GOOD, MAX_INT, MAX_QUALITY, UNCERTAIN, Bools, Int16s, Int64s, Samples

EARLIEST_US = 0
LATEST_US = 4_102_444_800_000_000  # 2100-01-01

_FLOAT, _INT, _BOOL, _DIGITAL, _TEXT = (KINDS.index(kind) for kind in ("float", "int", "bool", "digital", "text"))
_UNKNOWN = len(KINDS)
#: bytes of columns; more are checked in a thread. Numbers take 25 ns a row, texts as long as they are
_LARGE = 4 << 20


async def samples_of(columns: Columns, catalogue: Catalogue, limits: DecodeLimits) -> Samples:
    """The samples, once all are good; only then the tags that are missing are made. Raises BadSamples, TooLarge, Unavailable."""
    if len(columns) > limits.max_samples:
        raise TooLarge(f"{len(columns)} samples in a body; at most {limits.max_samples}: send it in parts, each with a seq of its own")
    if columns.paths is not None:
        if any(catalogue.get(path) is None for path in columns.paths):
            await catalogue.refresh()
        tags = [catalogue.get(path) for path in columns.paths]
    else:
        ids = np.unique(columns.tag[columns.tag >= 0]).tolist()
        if any(catalogue.by_id(tag_id) is None for tag_id in ids):
            await catalogue.refresh()
        tags = [catalogue.by_id(tag_id) for tag_id in ids]
        # from here on the positions in `tags`, as with paths
        codes = np.searchsorted(ids, columns.tag).astype(np.int32) if ids else columns.tag
        codes[columns.tag < 0] = -1
        columns.tag = codes
    if sum(tag is None for tag in tags) > limits.max_new_tags:
        # each is checked, and made, one by one
        raise TooLarge(
            f"{sum(tag is None for tag in tags)} tags that the catalogue does not have; at most {limits.max_new_tags} in a body: define them first"
        )
    faults = columns.faults
    _check_tags(columns, tags, limits, faults)
    kinds = _kinds(columns, tags)
    samples = await _checked_aside(columns, tags, kinds, limits, faults)
    faults.raise_if_any()
    missing = {path: kinds[n] for n, path in enumerate(columns.paths or []) if tags[n] is None}
    if missing:
        await catalogue.ensure(missing)
        made = [catalogue.get(path) for path in columns.paths or []]
        if any(tag is not None and tag.kind != kind for tag, kind in zip(made, kinds, strict=True)):
            # another process made it at the same time, with another kind
            tags, kinds = made, _kinds(columns, made)
            samples = await _checked_aside(columns, tags, kinds, limits, faults)
            faults.raise_if_any()
        tags = made
    table = np.array([-1 if tag is None else tag.tag_id for tag in tags], np.int32)
    return Samples(table[columns.tag] if len(table) else columns.tag, samples.ts, samples.value, samples.quality, samples.text)


def _check_tags(columns: Columns, tags: list[Tag | None], limits: DecodeLimits, faults: Faults) -> None:
    details: dict[int, str] = {}
    for n, tag in enumerate(tags):
        if tag is not None:
            continue
        if columns.paths is None:
            details[n] = "the catalogue has no tag with this tag_id"
        elif fault := path_fault(columns.paths[n]):
            details[n] = fault
        elif not limits.create_tags:
            details[n] = f"the catalogue has no tag {columns.paths[n][:80]!r}, and this server makes none"
    if not details:
        return
    bad = np.isin(columns.tag, np.fromiter(details, np.int32))
    shown = columns.tag[bad][: BadSamples.SHOWN].tolist()
    faults.add_all(bad, "tag" if columns.paths is not None else "tag_id", [details[n] for n in shown])


def _kinds(columns: Columns, tags: list[Tag | None]) -> list[Kind]:
    """The kind of each tag; of one to be made, by its values."""
    if all(tag is not None for tag in tags):
        return [tag.kind for tag in tags if tag is not None]
    seen = np.zeros((len(tags) + 1, 8), np.bool_)
    seen[columns.tag, columns.form] = True  # -1, no tag, is the last row
    kinds: list[Kind] = []
    for n, tag in enumerate(tags):
        if tag is not None:
            kinds.append(tag.kind)
        elif seen[n, TEXT]:
            kinds.append("text")
        elif seen[n, BOOL] and not seen[n, NUMBER]:
            kinds.append("bool")
        else:
            kinds.append("float")
    return kinds


async def _checked_aside(columns: Columns, tags: list[Tag | None], kinds: list[Kind], limits: DecodeLimits, faults: Faults) -> Samples:
    """`_checked`, in a thread if it takes long."""
    size = columns.number.nbytes + (columns.text.nbytes if columns.text is not None else 0)
    if size > _LARGE:
        return await asyncio.to_thread(_checked, columns, tags, kinds, limits, faults)
    return _checked(columns, tags, kinds, limits, faults)


def _checked(columns: Columns, tags: list[Tag | None], kinds: list[Kind], limits: DecodeLimits, faults: Faults) -> Samples:
    """Samples with the tags' positions for ids; their faults are added."""
    late = (columns.ts < EARLIEST_US) | (columns.ts >= LATEST_US)
    if late.any():
        shown = columns.ts[late][: BadSamples.SHOWN].tolist()
        faults.add_all(late, "ts", [f"{_shown_time(us)} lies outside 1970 to 2100" for us in shown])
    if limits.max_past_s is not None or limits.max_future_s is not None:
        _check_window(columns.ts, late, limits, faults)
    table = np.array([*(KINDS.index(kind) for kind in kinds), _UNKNOWN], np.uint8)
    kind = table[columns.tag]
    value = columns.number.copy()
    is_number = columns.form == NUMBER
    is_text = columns.form == TEXT
    is_bool = columns.form == BOOL
    infinite = np.isinf(value)
    if infinite.any():
        faults.add_all(infinite, "value", "is infinite; no sample can be")
        value[infinite] = np.nan
    present = set(np.unique(kind).tolist())

    text = None
    if _TEXT in present:
        text = _texts(columns, kind == _TEXT, limits, faults)
        value[kind == _TEXT] = np.nan
    if _DIGITAL in present and is_text.any():
        is_text, is_number = _state_names(columns, tags, kind == _DIGITAL, value, is_text, is_number, faults)
    wants_number = (kind != _TEXT) & (kind != _UNKNOWN)
    wrong = wants_number & is_text
    if wrong.any():
        faults.add_all(wrong, "value", [f"is text, and the tag is of kind {KINDS[n]}" for n in kind[wrong][: BadSamples.SHOWN].tolist()])
    wrong = is_bool & wants_number & (kind != _BOOL)
    if wrong.any():
        faults.add_all(
            wrong, "value", [f"is true or false, and the tag is of kind {KINDS[n]}" for n in kind[wrong][: BadSamples.SHOWN].tolist()]
        )
    good = is_number & ~infinite & ~np.isnan(value)
    whole = np.trunc(value) == value
    if _INT in present:
        beyond = np.abs(value) > MAX_INT
        if columns.inexact is not None:
            beyond |= columns.inexact
        faults.add_all(good & (kind == _INT) & ~whole, "value", "is no whole number, and the tag is of kind int")
        faults.add_all(good & (kind == _INT) & whole & beyond, "value", "lies beyond ±2^53, where an int tag is no longer exact")
    if _DIGITAL in present:
        faults.add_all(
            good & (kind == _DIGITAL) & ~(whole & (np.abs(value) < 2**31)), "value", "is no whole 32-bit number, and the tag is digital"
        )
    if _BOOL in present:
        faults.add_all(good & (kind == _BOOL) & (value != 0) & (value != 1), "value", "is neither 0 nor 1, and the tag is of kind bool")

    empty = (columns.form == NOTHING) | ((columns.form == NUMBER) & np.isnan(columns.number))
    if text is not None:
        # in CSV an empty cell has no text; nothing else is without a value where the tag is text
        empty = np.where(kind == _TEXT, _nulls(text), empty)
    return Samples(columns.tag, columns.ts, value, _qualities(columns.quality, empty, faults), text)


def _check_window(ts: Int64s, known: Bools, limits: DecodeLimits, faults: Faults) -> None:
    """A producer whose clock is years off is told so, sample by sample; `known` have been named already."""
    now = time.time_ns() // 1000
    for limit, distance, where, setting in (
        (limits.max_future_s, ts - now, "ahead of", "max_future_s"),
        (limits.max_past_s, now - ts, "behind", "max_past_s"),
    ):
        if limit is None:
            continue
        out = (distance > limit * 1e6) & ~known
        if out.any():
            shown = np.flatnonzero(out)[: BadSamples.SHOWN].tolist()
            faults.add_all(
                out,
                "ts",
                [
                    f"{_shown_time(int(ts[n]))} lies {distance[n] / 1e6:.0f} s {where} the server's clock, beyond its {setting} of {limit:g} s"
                    for n in shown
                ],
            )


def _nulls(array: pa.Array) -> Bools:
    return np.asarray(array.is_null().to_numpy(zero_copy_only=False))


def _texts(columns: Columns, rows: Bools, limits: DecodeLimits, faults: Faults) -> pa.Array:
    """The text of the rows of text tags, null elsewhere."""
    wrong = rows & ((columns.form == NUMBER) | (columns.form == BOOL))
    if columns.text is None:
        # a NaN is a bad sample there too
        faults.add_all(wrong & ~np.isnan(columns.number), "value", "is a number, and the tag is of kind text")
        return pa.nulls(len(columns), pa.string())
    text = pc.if_else(pa.array(rows), columns.text, pa.scalar(None, pa.string()))
    faults.add_all(wrong & _nulls(text) & ~np.isnan(columns.number), "value", "is a number, and the tag is of kind text")
    long = np.asarray(pc.greater(pc.binary_length(text), limits.max_text).fill_null(False).to_numpy(zero_copy_only=False))
    if long.any():
        faults.add_all(long, "value", f"is longer than {limits.max_text} bytes")
    nul = np.asarray(pc.match_substring(text, "\x00").fill_null(False).to_numpy(zero_copy_only=False))
    if nul.any():
        faults.add_all(nul, "value", "has a NUL character, which the database cannot keep")
    return text


def _state_names(
    columns: Columns, tags: list[Tag | None], rows: Bools, value: np.ndarray, is_text: Bools, is_number: Bools, faults: Faults
) -> tuple[Bools, Bools]:
    """Names of states become their codes, in `value`. Returns which rows are text still, and which are numbers now."""
    named = np.flatnonzero(rows & is_text)
    if not len(named) or columns.text is None:
        return is_text, is_number
    encoded = columns.text.take(pa.array(named)).dictionary_encode()
    names = encoded.dictionary.to_pylist()
    codes: dict[tuple[int, int], float] = {}
    pairs = np.stack([columns.tag[named].astype(np.int64), encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)])
    distinct, inverse = np.unique(pairs, axis=1, return_inverse=True)
    for n, name in distinct.T.tolist():
        tag = tags[n]
        code = tag.state_code(names[name]) if tag is not None else None
        codes[n, name] = np.nan if code is None else code
    found = np.array([codes[n, name] for n, name in distinct.T.tolist()], np.float64)[inverse.ravel()]
    value[named] = found
    unknown = np.isnan(found)
    if unknown.any():
        details = []
        for row in named[unknown][: BadSamples.SHOWN].tolist():
            tag = tags[int(columns.tag[row])]
            known = ", ".join(list((tag.states or {}).values())[:10]) if tag is not None else ""
            details.append(
                f"{columns.text[row].as_py()[:80]!r} is no state of the tag"
                + (f"; there are {known}" if known else ", which has none by name")
            )
        faults.add_all(named[unknown], "value", details)
    is_text, is_number = is_text.copy(), is_number.copy()
    is_text[named] = False
    is_number[named[~unknown]] = True
    return is_text, is_number


def _qualities(given: Int64s | None, empty: Bools, faults: Faults) -> Int16s:
    default = np.where(empty, BAD, GOOD).astype(np.int16)
    if given is None:
        return default
    outside = (given < -1) | (given > MAX_QUALITY)
    if outside.any():
        faults.add_all(
            outside, "quality", [f"is {q}; a quality is 0 to {MAX_QUALITY}" for q in given[outside][: BadSamples.SHOWN].tolist()]
        )
    pretended = empty & (given >= UNCERTAIN) & ~outside
    if pretended.any():
        faults.add_all(pretended, "quality", f"a sample without a value is bad: its quality is below {UNCERTAIN}, or left out")
    return np.where((given == -1) | outside, default, given).astype(np.int16)


def _shown_time(us: int) -> str:
    try:
        return str(np.datetime64(us, "us")) + "Z"
    except (ValueError, OverflowError):
        return f"{us} µs"
