"""The decimal form gives back every float64 bit by bit, here and in SQL."""

from __future__ import annotations

import numpy as np
import psycopg
from hypothesis import example, given
from hypothesis import strategies as st

from historian.schema.decimals import MAX_SCALE, POWERS, DecimalForm, decimal_scales, decode
from historian.schema.samples import Floats

DECIMALS = st.builds(lambda mantissa, scale: mantissa / 10**scale, st.integers(-(2**53), 2**53), st.integers(0, MAX_SCALE))
VALUES = st.one_of(st.floats(width=64), DECIMALS, st.integers(-(2**53), 2**53).map(float))


def bits(values: Floats) -> list[int]:
    found: list[int] = values.view(np.uint64).tolist()
    return found


@given(st.lists(st.tuples(st.integers(1, 4), VALUES), max_size=60), st.integers(1, 60))
@example([(1, 0.1), (1, 1e-12), (1, 9007199254740.991)], 1)  # the tag's scale grows beyond what an earlier value fits
@example([(1, -0.0), (1, 0.0), (1, float("nan")), (1, 5e-324), (1, 1.7976931348623157e308)], 60)
def test_what_goes_in_comes_out_bit_by_bit(rows: list[tuple[int, float]], batch: int) -> None:
    form = DecimalForm()
    # the form remembers: batch after batch, each sorted by tag
    for start in range(0, len(rows), batch):
        part = sorted(rows[start : start + batch], key=lambda row: row[0])
        value = np.array([row[1] for row in part], np.float64)
        is_decimal, scale, mantissa = form.encode(np.array([row[0] for row in part], np.int32), value)
        assert bits(np.where(is_decimal, decode(mantissa, scale), value)) == bits(value)
        assert (np.abs(mantissa) < 2**53).all()
        assert ((scale >= 0) & (scale <= MAX_SCALE)).all()
        assert not mantissa[~is_decimal].any()


@given(DECIMALS.filter(lambda value: abs(value) < 1e6 and value != 0))
def test_decimals_are_found(value: float) -> None:
    (scale,) = decimal_scales(np.array([value]))
    written = np.format_float_positional(value, trim="-")
    places = len(written.partition(".")[2])
    # a value that prints with few enough digits is a decimal, and of no more places than printed
    if places <= MAX_SCALE and len(written.replace(".", "").strip("-0")) <= 15:
        assert 0 <= scale <= places


def test_what_has_no_decimal_form() -> None:
    value = np.array([np.nan, -0.0, np.pi, 1e-300, 2.0**60, np.inf, 0.1 + 0.2])
    assert decimal_scales(value).tolist() == [-1] * len(value)
    assert not DecimalForm().encode(np.ones(len(value), np.int32), value)[0].any()


def test_a_walk_keeps_one_scale() -> None:
    rng = np.random.default_rng(1)
    walk = np.round(np.cumsum(rng.normal(size=10_000)), 2)
    form = DecimalForm()
    form.encode(np.ones(10, np.int32), walk[:10])
    is_decimal, scale, mantissa = form.encode(np.ones(len(walk), np.int32), walk)
    assert is_decimal.all()
    assert set(scale.tolist()) == {2}
    assert bits(decode(mantissa, scale)) == bits(walk)


def test_tags_have_scales_of_their_own_and_any_id() -> None:
    form = DecimalForm()
    tag_id = np.array([1, 5_000, 2_000_000], np.int32)
    value = np.array([1.5, 20.0, 3.125])
    is_decimal, scale, mantissa = form.encode(tag_id, value)
    assert is_decimal.all()
    assert scale.tolist() == [1, 0, 3]
    assert mantissa.tolist() == [15, 20, 3125]


def test_nothing_in_nothing_out() -> None:
    assert [len(column) for column in DecimalForm().encode(np.empty(0, np.int32), np.empty(0))] == [0, 0, 0]


def test_sql_divides_as_numpy_does(database: str) -> None:
    rng = np.random.default_rng(2)
    scale = rng.integers(0, len(POWERS), 5_000).astype(np.int16)
    mantissa = rng.integers(-(2**53) + 1, 2**53, 5_000)
    with psycopg.connect(database) as conn:
        rows = conn.execute(
            "SELECT float8send(historian.decimal_value(m, s)) FROM unnest(%s::int8[], %s::int2[]) WITH ORDINALITY AS x (m, s, n) ORDER BY n",
            [mantissa.tolist(), scale.tolist()],
        ).fetchall()
    assert b"".join(row[0] for row in rows) == decode(mantissa, scale).astype(">f8").tobytes()
