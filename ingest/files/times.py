"""Times in files: what form they have, and as int64 µs since 1970 UTC, a column at a time.

Recognised are ISO 8601 (`2026-03-01 12:00:00.5`, with or without an offset), `1.3.2026 12:00`, `2026/03/01 12:00`, `3/1/2026 12:00 PM` and `1/3/2026 12:00`
(told apart by a day above 12 somewhere in the file), and seconds, ms, µs or ns since 1970. Digits beyond the microsecond are cut off.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from historian.ingest.files.faults import FaultyRow
from historian.ingest.files.zones import Zone, zone
from historian.schema.errors import BadInput
from historian.schema.samples import Bools, Int64s

_US = 1_000_000
EARLIEST_US = 0
LATEST_US = 4_102_444_800_000_000  # 2100-01-01

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = np.array([0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])

_TIME = (
    r"(?:[Tt,]?\s*(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<fraction>\d{1,18}))?)?"
    r"\s*(?P<ampm>[AaPp]\.?[Mm]\.?)?)?\s*(?P<offset>[Zz]|UTC|[+-]\d{2}(?::?\d{2})?)?"
)
_YEAR = r"(?P<year>\d{4}|\d{2})"
#: by the name that a user can give, too
_SHAPES = {
    "iso": r"(?P<year>\d{4})-(?P<month>\d{1,2})-(?P<day>\d{1,2})" + _TIME,
    "compact iso": r"(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})[Tt]?(?P<hour>\d{2})(?P<minute>\d{2})(?P<second>\d{2})(?:[.,](?P<fraction>\d{1,18}))?"
    r"(?P<ampm>)(?P<offset>[Zz]|[+-]\d{2}(?::?\d{2})?)?",
    "year/month/day": r"(?P<year>\d{4})[/.](?P<month>\d{1,2})[/.](?P<day>\d{1,2})" + _TIME,
    "day.month.year": r"(?P<day>\d{1,2})\.(?P<month>\d{1,2})\." + _YEAR + _TIME,
    "day/month/year": r"(?P<day>\d{1,2})[/-](?P<month>\d{1,2})[/-]" + _YEAR + _TIME,
    "month/day/year": r"(?P<month>\d{1,2})[/-](?P<day>\d{1,2})[/-]" + _YEAR + _TIME,
}
_PARTS = ("year", "month", "day", "hour", "minute", "second", "fraction", "ampm", "offset")
#: a number since 1970 in each unit between 1973 and 2100: the ranges lie far from each other
_UNITS = {"s": 10**8, "ms": 10**11, "us": 10**14, "ns": 10**17}
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_NUMBER = r"^([+-]?)(\d{1,19})(?:\.(\d{0,30}))?$"

_DIRECTIVES = {
    "Y": r"(?P<year>\d{4})",
    "y": r"(?P<year>\d{2})",
    "m": r"(?P<month>\d{1,2})",
    "b": r"(?P<month>[A-Za-z]{3})",
    "B": r"(?P<month>[A-Za-z]{3,9})",
    "d": r"(?P<day>\d{1,2})",
    "H": r"(?P<hour>\d{1,2})",
    "I": r"(?P<hour>\d{1,2})",
    "M": r"(?P<minute>\d{1,2})",
    "S": r"(?P<second>\d{1,2})",
    "f": r"(?P<fraction>\d{1,18})",
    "p": r"(?P<ampm>[AaPp]\.?[Mm]\.?)",
    "z": r"(?P<offset>[Zz]|[+-]\d{2}:?\d{2})",
    "%": "%",
}


@dataclass(frozen=True, slots=True)
class TimeForm:
    """One way to write times: `pattern`, an RE2 expression with the parts as named groups, or the `unit` of numbers since 1970."""

    name: str
    pattern: str | None = None
    unit: str | None = None

    def parse(self, column: pa.Array, first_row: int, local: Zone | None) -> tuple[Int64s, bool]:
        """µs, and whether any time was without an offset. Raises FaultyRow for the first that is no time, or none in the zone, or beyond 1970 to 2100."""
        if column.null_count:
            raise FaultyRow(first_row + _first(~_valid(column)), "has no time")
        us, is_local = self._numbers(column, first_row) if self.unit else self._texts(column, first_row)
        if is_local.any():
            us = us.copy()
            us[is_local] = _to_utc(us[is_local], local, column, np.flatnonzero(is_local) + first_row, first_row)
        beyond = (us < EARLIEST_US) | (us >= LATEST_US)
        if beyond.any():
            row = _first(beyond)
            raise FaultyRow(first_row + row, f"time {_shown(column, row)} lies outside 1970 to 2100")
        return us, bool(is_local.any())

    def _numbers(self, column: pa.Array, first_row: int) -> tuple[Int64s, Bools]:
        per_second = _PER_SECOND[self.unit or "s"]
        none = np.zeros(len(column), np.bool_)
        if pa.types.is_integer(column.type):
            number = np.asarray(column.cast(pa.int64()).to_numpy(zero_copy_only=False))
            far = LATEST_US // _US * per_second
            number = np.clip(number, -far, far)
            return (number * (_US // per_second) if per_second <= _US else number // (per_second // _US)), none
        if pa.types.is_floating(column.type):
            seconds = np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False))
            wrong = ~np.isfinite(seconds)
            if wrong.any():
                raise FaultyRow(first_row + _first(wrong), "has no time")
            return np.rint(np.clip(seconds / per_second, -1e10, 1e10) * _US).astype(np.int64), none
        texts = pc.utf8_trim_whitespace(column)
        parts = pc.extract_regex(texts, r"^(?P<sign>[+-]?)(?P<whole>\d{1,19})(?:\.(?P<fraction>\d{0,30}))?$")
        self._refuse(column, parts, first_row)
        whole = pc.cast(pc.struct_field(parts, "whole"), pa.uint64()).to_numpy(zero_copy_only=False)
        far = LATEST_US // _US * per_second
        value = np.minimum(whole, np.uint64(far)).astype(np.int64)
        fraction = _fraction(pc.struct_field(parts, "fraction"))
        us = value * (_US // per_second) + fraction // per_second if per_second <= _US else value // (per_second // _US)
        negative = _mask(pc.equal(pc.struct_field(parts, "sign"), "-"))
        return np.where(negative, -us, us), none

    def _texts(self, column: pa.Array, first_row: int) -> tuple[Int64s, Bools]:
        if self.name == "iso":
            # what programs write, in one pass; the ordinary way knows more, and where the faults are
            for kind, without_offset in ((pa.timestamp("us"), True), (pa.timestamp("us", "UTC"), False)):
                try:
                    us = pc.cast(pc.cast(column, kind), pa.int64())
                except pa.ArrowInvalid:
                    continue
                return np.asarray(us.to_numpy(zero_copy_only=False)), np.full(len(column), without_offset)
        parts = pc.extract_regex(pc.utf8_trim_whitespace(column), f"^(?:{self.pattern})$")
        self._refuse(column, parts, first_row)
        found = {field.name for field in parts.type}
        number = {name: _integers(pc.struct_field(parts, name)) for name in _PARTS[:6] if name in found and name != "month"}
        number["month"] = _months(pc.struct_field(parts, "month"))
        year = number["year"]
        # as strptime does
        year = np.where(year < 69, year + 2000, np.where(year < 100, year + 1900, year))
        zero = np.zeros(len(column), np.int64)
        hour, minute, second = (number.get(name, zero) for name in ("hour", "minute", "second"))
        wrong: Bools = (number["month"] < 1) | (number["month"] > 12)
        month = np.where(wrong, 1, number["month"])
        leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
        longest = np.where((month == 2) & ~leap, 28, _DAYS[month])
        wrong |= (number["day"] < 1) | (number["day"] > longest) | (hour > 23) | (minute > 59) | (second > 59)
        if "ampm" in found:
            letter = pc.utf8_lower(pc.utf8_slice_codeunits(pc.struct_field(parts, "ampm"), 0, 1))
            afternoon, morning = _mask(pc.equal(letter, "p")), _mask(pc.equal(letter, "a"))
            wrong |= (afternoon | morning) & ((hour < 1) | (hour > 12))
            hour = np.where(afternoon | morning, hour % 12 + np.where(afternoon, 12, 0), hour)
        if wrong.any():
            row = _first(wrong)
            raise FaultyRow(first_row + row, f"time {_shown(column, row)} does not exist: no such day, or no such time of day")
        months = ((year - 1970) * 12 + month - 1).astype("M8[M]")
        days = months.astype("M8[D]").astype(np.int64) + number["day"] - 1
        us = ((days * 24 + hour) * 60 + minute) * 60 * _US + second * _US
        if "fraction" in found:
            us += _fraction(pc.struct_field(parts, "fraction"))
        is_local: Bools = np.ones(len(column), np.bool_)
        if "offset" in found:
            offset = pc.struct_field(parts, "offset")
            is_local = _mask(pc.equal(offset, ""))
            ahead = pc.extract_regex(offset, r"^(?P<sign>[+-])(?P<hours>\d{2}):?(?P<minutes>\d{2})?$")
            minutes = _integers(pc.struct_field(ahead, "hours")) * 60 + _integers(pc.struct_field(ahead, "minutes"))
            behind = _mask(pc.equal(pc.struct_field(ahead, "sign"), "-"))
            us -= np.where(behind, -minutes, minutes) * 60 * _US
        return us, is_local

    def _refuse(self, column: pa.Array, parts: pa.StructArray, first_row: int) -> None:
        wrong = ~_valid(parts)
        if wrong.any():
            row = _first(wrong)
            raise FaultyRow(
                first_row + row,
                f"time {_shown(column, row)} is not of the form {self.name!r} that the others have"
                if not self.name.startswith("%")
                else f"time {_shown(column, row)} does not fit --time-format {self.name!r}",
            )


#: columns that are timestamps already
_TYPED = TimeForm("timestamp")


@dataclass(frozen=True, slots=True)
class Times:
    """How the times of one file are read."""

    form: TimeForm
    zone: Zone | None

    def parse(self, column: pa.Array, first_row: int) -> tuple[Int64s, bool]:
        """As `TimeForm.parse`, for typed columns too."""
        if self.form is not _TYPED:
            return self.form.parse(column, first_row, self.zone)
        if column.null_count:
            raise FaultyRow(first_row + _first(~_valid(column)), "has no time")
        if pa.types.is_date(column.type):
            column = column.cast(pa.timestamp("ms"))
        unit, is_local = column.type.unit, column.type.tz is None
        number = np.asarray(column.cast(pa.int64()).to_numpy(zero_copy_only=False))
        far = LATEST_US // _US * _PER_SECOND[unit]
        number = np.clip(number, -far, far)
        us = number // 1000 if unit == "ns" else number * (_US // _PER_SECOND[unit])
        beyond = (us < EARLIEST_US) | (us >= LATEST_US)
        if beyond.any():
            row = _first(beyond)
            raise FaultyRow(first_row + row, f"time {_shown(column, row)} lies outside 1970 to 2100")
        if is_local:
            us = _to_utc(us, self.zone, column, np.arange(len(us)) + first_row, first_row)
        return us, is_local


def is_time_type(kind: pa.DataType) -> bool:
    """Whether a column of this type holds times, whatever it is called."""
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def looks_like_times(column: pa.Array) -> bool:
    """Whether texts, not mere numbers, are all times."""
    if not pa.types.is_string(column.type):
        return False
    texts = pc.utf8_trim_whitespace(column.drop_null())
    return len(texts) > 0 and any(_all_match(texts, f"^(?:{pattern})$") for pattern in _SHAPES.values())


def times_of(columns: Iterable[pa.Array], time_format: str | None, tz: str | None) -> Times:
    """How to read the times of a file, from its time column, a part at a time: only as many are taken as are needed. Raises BadInput, FaultyRow."""
    local = zone(tz) if tz is not None else None
    parts = iter(columns)
    first = next((part for part in parts if len(part)), None)
    if first is not None and is_time_type(first.type):
        return Times(_TYPED, local)
    if time_format is not None:
        return Times(_given(time_format), local)
    if first is None:
        return Times(TimeForm("iso", _SHAPES["iso"]), local)
    if pa.types.is_integer(first.type) or pa.types.is_floating(first.type):
        return Times(_epoch(first), local)
    if not pa.types.is_string(first.type):
        raise BadInput(f"the time column is of type {first.type}")
    if first.null_count == len(first):
        raise FaultyRow(0, "has no time")
    texts = pc.utf8_trim_whitespace(first.drop_null())
    if _all_match(texts, _NUMBER) and not _all_match(texts, r"^\d{14}$"):
        return Times(_epoch(pc.cast(texts, pa.float64())), local)
    fitting = [name for name, pattern in _SHAPES.items() if _all_match(texts, f"^(?:{pattern})$")]
    if not fitting:
        # the first one decides what is expected; the first that is not so is named
        head = texts.slice(0, 1)
        fitting = [name for name, pattern in _SHAPES.items() if _all_match(head, f"^(?:{pattern})$")]
        if not fitting:
            raise FaultyRow(
                _first(_valid(first)), f"{head[0].as_py()[:60]!r} is no time that is recognised; say --time-format, as '%Y-%m-%d %H:%M:%S'"
            )
    if fitting[0] != "day/month/year":
        return Times(TimeForm(fitting[0], _SHAPES[fitting[0]]), local)
    return Times(_day_or_month_first(first, parts), local)


def _day_or_month_first(first: pa.Array, rest: Iterable[pa.Array]) -> TimeForm:
    """Some day above 12 tells which of the two numbers it is."""
    for part in itertools.chain([first], rest):
        if (form := _settled(part)) is not None:
            return form
    shown = first.drop_null()[0].as_py().strip()[:60]
    raise BadInput(
        f"whether {shown!r} begins with the day or the month, no time in the file tells: say --time-format '%d/%m/%Y %H:%M:%S' or '%m/%d/%Y %H:%M:%S'"
        " (or day/month/year, month/day/year)"
    )


def _settled(part: pa.Array) -> TimeForm | None:
    found = pc.extract_regex(pc.utf8_trim_whitespace(part), r"^(?P<one>\d{1,2})[/-](?P<two>\d{1,2})[/-]")
    one, two = (_integers(pc.struct_field(found, name)) for name in ("one", "two"))
    day_first, month_first = one > 12, two > 12
    if not (day_first.any() or month_first.any()):
        return None
    # where they contradict each other, the first wins, and the other is refused with its row
    name = "day/month/year" if _first(day_first | month_first) == _first(day_first) and day_first.any() else "month/day/year"
    return TimeForm(name, _SHAPES[name])


def _epoch(column: pa.Array) -> TimeForm:
    number = np.abs(np.asarray(column.drop_null().cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)))
    for unit, least in _UNITS.items():
        if len(number) and ((number >= least) & (number < 42 * least)).all():
            return TimeForm(unit, unit=unit)
    shown = column.drop_null()
    raise BadInput(
        f"the times are numbers such as {shown[0].as_py() if len(shown) else 'none'}, which are no seconds, ms, µs or ns since 1970 for sure:"
        " say --time-format s, ms, us or ns"
    )


def _given(time_format: str) -> TimeForm:
    wanted = time_format.strip()
    if wanted in _PER_SECOND:
        return TimeForm(wanted, unit=wanted)
    if wanted.lower() in _SHAPES:
        return TimeForm(wanted.lower(), _SHAPES[wanted.lower()])
    return TimeForm(wanted, _strptime(wanted))


def _strptime(time_format: str) -> str:
    """The expression of a strptime format. Raises BadInput."""
    text = time_format.replace("%T", "%H:%M:%S").replace("%F", "%Y-%m-%d").replace("%R", "%H:%M").replace("%D", "%m/%d/%y")
    pattern, groups = "", set()
    for literal, letter in re.findall(r"([^%]+)|%(.?)", text):
        if literal:
            pattern += re.sub(r"(\\?\s)+", r"\\s+", re.escape(literal))
            continue
        if letter not in _DIRECTIVES:
            raise BadInput(
                f"--time-format {time_format!r}: %{letter} is not known; there are {' '.join('%' + known for known in _DIRECTIVES)}"
            )
        group = re.match(r"\(\?P<(\w+)>", _DIRECTIVES[letter])
        if group and group[1] in groups:
            raise BadInput(f"--time-format {time_format!r} has the {group[1]} twice")
        groups.add(group[1] if group else "")
        pattern += _DIRECTIVES[letter]
    missing = [name for name in ("year", "month", "day") if name not in groups]
    if missing:
        raise BadInput(
            f"--time-format {time_format!r} has no {' and no '.join(missing)}; it is as for strptime, or one of iso, s, ms, us, ns"
        )
    if "%I" in text and "ampm" not in groups:
        raise BadInput(f"--time-format {time_format!r} has %I without %p")
    return pattern


def _to_utc(us: Int64s, local: Zone | None, column: pa.Array, rows: Int64s, first_row: int) -> Int64s:
    if local is None:
        return us
    utc, missing, twice = local.to_utc(us)
    wrong = missing | twice
    if wrong.any():
        n = _first(wrong)
        row = int(rows[n])
        what = (
            "does not exist: the clock was put forward over it"
            if missing[n]
            else "is ambiguous: the clock was put back and ran through it twice"
        )
        raise FaultyRow(
            row,
            f"time {_shown(column, row - first_row)} {what} in {local.name}; if the recorder's clock is not put forward and back, say its offset,"
            " as --tz +01:00, else write the offset behind the time",
        )
    return utc


def _all_match(texts: pa.Array, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(texts, pattern), min_count=0).as_py())


def _shown(column: pa.Array, row: int) -> str:
    # not by way of Python: a datetime has neither nanoseconds nor the year 33658
    return repr(str(column.slice(row, 1).cast(pa.string())[0].as_py())[:60])


def _first(found: Bools) -> int:
    return int(np.argmax(found))


def _valid(array: pa.Array) -> Bools:
    return np.asarray(array.is_valid().to_numpy(zero_copy_only=False))


def _mask(found: pa.BooleanArray) -> Bools:
    return np.asarray(found.fill_null(False).to_numpy(zero_copy_only=False))


def _integers(texts: pa.StringArray) -> Int64s:
    """0 where a text is empty or there is none."""
    filled = pc.if_else(pc.equal(texts, ""), "0", texts).fill_null("0")
    return np.asarray(pc.cast(filled, pa.int64()).to_numpy(zero_copy_only=False))


def _months(texts: pa.StringArray) -> Int64s:
    """Numbers of months, which may be English names; 0 for what is neither."""
    short = pc.utf8_lower(pc.utf8_slice_codeunits(texts, 0, 3))
    for n, name in enumerate(_MONTHS):
        short = pc.if_else(pc.equal(short, name), str(n + 1), short)
    return _integers(pc.replace_substring_regex(short, "^[^0-9].*$", "0"))


def _fraction(digits: pa.StringArray) -> Int64s:
    """Decimals of a second as µs; what follows is cut off."""
    six = pc.utf8_slice_codeunits(pc.utf8_rpad(digits.fill_null(""), 6, "0"), 0, 6)
    return _integers(six)
