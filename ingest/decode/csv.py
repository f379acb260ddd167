"""CSV bodies: a header `tag,ts,value[,quality]` (in any order; `tag_id` instead of `tag`), comma-separated, RFC 4180 quotes, UTF-8.

A value that reads as a number is one, `true` and `false` are, everything else is text; for a text tag all is text. An empty cell is no value.
"""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from historian.ingest.decode.columns import BOOL, NOTHING, NUMBER, TEXT, Columns, Faults
from historian.ingest.decode.limits import DecodeLimits
from historian.ingest.decode.stamps import parse_stamps
from historian.schema.errors import BadInput, BadSamples
from historian.schema.samples import MAX_INT, Bools, Int64s

_COLUMNS = ("tag", "tag_id", "ts", "value", "quality")
_NUMBER = r"^\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*$"
_NAN = r"^\s*[+-]?(?i:nan)\s*$"
_INFINITY = r"^\s*[+-]?(?i:inf|infinity)\s*$"
_BOOL = r"^\s*(?i:true|false)\s*$"


def parse(body: bytes | memoryview, limits: DecodeLimits) -> Columns:
    """Columns of a body. Raises BadInput; faults of rows are in the columns."""
    faults = Faults()
    names = _header(body)
    rejected: list[tuple[int, str]] = []

    def on_invalid(row: csv.InvalidRow) -> str:
        rejected.append((row.number or 0, f"has {row.actual_columns} cells, the header {row.expected_columns}"))
        return "skip" if len(rejected) < BadSamples.SHOWN else "error"

    try:
        table = csv.read_csv(
            io.BytesIO(body),
            # in one thread rows have numbers
            read_options=csv.ReadOptions(use_threads=False, block_size=4 << 20, column_names=names, skip_rows=1),
            parse_options=csv.ParseOptions(newlines_in_values=True, invalid_row_handler=on_invalid),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
            ),
        )
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        if not rejected:
            raise BadInput(f"the body is no CSV: {str(error).splitlines()[0]}") from None
        table = None
    # the first line is the header; rows count from 0
    for line, detail in rejected:
        faults.add(max(line - 2, 0), "row", detail)
    if table is None or rejected:
        faults.raise_if_any()
    assert table is not None
    if table.num_rows and _is_open(body, table.column(names[-1])[-1].as_py()):
        faults.add(table.num_rows - 1, names[-1], "begins with a quote that is never closed, and takes in all that follows")
        faults.raise_if_any()
    cells = {name: table.column(name).combine_chunks() for name in names}
    cells = {name: column.chunk(0) if isinstance(column, pa.ChunkedArray) else column for name, column in cells.items()}
    count = table.num_rows
    us, good = parse_stamps(cells["ts"])
    _refuse(cells["ts"], ~good, "ts", "is no RFC 3339 time, nor integer µs", faults)
    number, form = np.full(count, np.nan), np.full(count, TEXT, np.uint8)
    text = cells["value"]
    form[_mask(text.is_null())] = NOTHING
    is_number = _matches(text, _NUMBER)
    number[is_number] = _floats(text, is_number)
    form[is_number | _matches(text, _NAN)] = NUMBER
    infinite = _matches(text, _INFINITY)
    number[infinite], form[infinite] = np.inf, NUMBER
    is_bool = _matches(text, _BOOL)
    number[is_bool] = _mask(pc.match_substring_regex(text.filter(pa.array(is_bool)), r"^\s*(?i:t)"))
    form[is_bool] = BOOL
    with np.errstate(invalid="ignore"):
        # whole numbers beyond float64's exactness: the text knows, the number does not
        large = is_number & (np.abs(number) >= MAX_INT)
    inexact = None
    if large.any():
        inexact = np.zeros(count, np.bool_)
        for n in np.flatnonzero(large).tolist():
            digits = text[n].as_py().strip().lstrip("+")
            inexact[n] = digits.lstrip("-").isdigit() and len(digits) < 400 and int(digits) != int(number[n])
    quality = None
    if "quality" in cells:
        quality = _integers(cells["quality"], "quality", faults)
    if "tag" in cells:
        encoded = cells["tag"].dictionary_encode()
        paths = encoded.dictionary.to_pylist()
        tag = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
        faults.add_all(tag < 0, "tag", "is empty")
    else:
        paths = None
        ids = _integers(cells["tag_id"], "tag_id", faults)
        wrong = (ids < 0) | (ids >= 2**31)
        faults.add_all(_mask(cells["tag_id"].is_null()), "tag_id", "is empty")
        tag = np.where(wrong, -1, ids).astype(np.int32)
    return Columns(paths, tag, us, number, form, text, quality, inexact, faults)


def _is_open(body: bytes | memoryview, last: str | None) -> bool:
    """Whether the body ends within quotes, by its last cell. Arrow does not mind, and makes the lines that follow a part of the cell."""
    if last is None or "\n" not in last:
        return False
    # a cell that is closed has its other quote behind it; a row has three cells at least
    written = b',"' + last.replace('"', '""').encode()
    return bytes(body[-len(written) :]) == written


def _header(body: bytes | memoryview) -> list[str]:
    first = bytes(body[:4096]).split(b"\n", 1)[0].rstrip(b"\r").removeprefix(b"\xef\xbb\xbf")
    try:
        names = [name.strip().strip('"') for name in first.decode().split(",")]
    except UnicodeDecodeError:
        raise BadInput("the body is no UTF-8") from None
    for name in names:
        if name not in _COLUMNS:
            raise BadInput(f"the first line is the header, and {name[:80]!r} is no column; there are {', '.join(_COLUMNS)}")
    if len(set(names)) < len(names):
        raise BadInput("a column stands twice in the header")
    missing = [name for name in ("ts", "value") if name not in names]
    if ("tag" in names) == ("tag_id" in names):
        missing.insert(0, "tag (or tag_id)")
    if missing:
        raise BadInput(
            f"the header names no column {', '.join(missing)}"
            if "tag" not in names or "tag_id" not in names
            else "give tag or tag_id, not both"
        )
    return names


def _mask(found: pa.BooleanArray) -> Bools:
    return np.asarray(found.fill_null(False).to_numpy(zero_copy_only=False))


def _matches(text: pa.StringArray, pattern: str) -> Bools:
    return _mask(pc.match_substring_regex(text, pattern))


def _floats(text: pa.StringArray, rows: Bools) -> np.ndarray:
    some = pc.utf8_trim_whitespace(text.filter(pa.array(rows)))
    return np.asarray(pc.cast(some, pa.float64()).to_numpy(zero_copy_only=False))


def _integers(cells: pa.StringArray, column: str, faults: Faults) -> Int64s:
    """Integers, -1 where a cell is empty."""
    found = np.full(len(cells), -1, np.int64)
    good = _matches(cells, r"^\s*-?\d{1,18}\s*$")
    found[good] = pc.cast(pc.utf8_trim_whitespace(cells.filter(pa.array(good))), pa.int64()).to_numpy(zero_copy_only=False)
    found[good & (found == -1)] = -2
    _refuse(cells, ~good & ~_mask(cells.is_null()), column, "is no integer", faults)
    return found


def _refuse(cells: pa.StringArray, rows: Bools, column: str, what: str, faults: Faults) -> None:
    if rows.any():
        shown = [cells[n].as_py() for n in np.flatnonzero(rows)[: BadSamples.SHOWN].tolist()]
        faults.add_all(rows, column, [f"{cell[:40]!r} {what}" if cell is not None else "is empty" for cell in shown])
