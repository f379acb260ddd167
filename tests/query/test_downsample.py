"""Minmax: what a plain reading of its definition keeps, whatever the chunks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from historian.query.downsample import MinMax
from historian.schema.catalogue import Kind, Tag
from historian.schema.samples import UNCERTAIN, Samples, concat

KINDS: list[Kind] = ["float", "int", "bool", "digital", "text", "float"]
TAGS = [Tag(10 * n + 3, f"a/t{n}", kind, step=kind not in ("float", "int") or n == 5) for n, kind in enumerate(KINDS)]

Row = tuple[int, int, float, int, str | None]


def oracle(rows: list[Row], tags: list[Tag], start: int, end: int, points: int, *, auto: bool) -> list[Row]:
    """The definition, one sample at a time."""
    kept: list[Row] = []
    for tag in tags:
        mine = [row for row in rows if row[0] == tag.tag_id]
        if auto and len(mine) <= points:
            kept += mine
            continue
        stepped = tag.step and tag.kind != "text"
        buckets = points // 4 if stepped else points // 2
        width = -(-(end - start) // buckets)
        for bucket in range(buckets):
            inside = [row for row in mine if start + bucket * width <= row[1] < start + (bucket + 1) * width]
            bad = [row for row in inside if row[3] < UNCERTAIN or (row[4] is None if tag.kind == "text" else np.isnan(row[2]))]
            rest = [row for row in inside if row not in bad]
            chosen = [*bad[:1], *bad[-1:]]
            if tag.kind == "text" or stepped:
                chosen += [*rest[:1], *rest[-1:]]
            if tag.kind != "text" and rest:
                chosen += [min(rest, key=lambda row: (row[2], row[1])), min(rest, key=lambda row: (-row[2], row[1]))]
            kept += sorted({row[1]: row for row in chosen}.values(), key=lambda row: row[1])
    return kept


def samples_of(rows: list[Row]) -> Samples:
    text = [row[4] for row in rows]
    return Samples(
        np.array([row[0] for row in rows], np.int32),
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], np.float64),
        np.array([row[3] for row in rows], np.int16),
        pa.array(text, pa.string()) if any(t is not None for t in text) else None,
    )


def shown(samples: Samples) -> list[tuple[object, ...]]:
    """Rows that compare: NaN by its text."""
    columns = (
        samples.tag_id.tolist(),
        samples.ts.tolist(),
        samples.value.tolist(),
        samples.quality.tolist(),
        samples.text_or_nulls().to_pylist(),
    )
    return [(a, b, repr(c), d, e) for a, b, c, d, e in zip(*columns, strict=True)]


def reduced(samples: Samples, cuts: list[int], tags: list[Tag], start: int, end: int, points: int, *, auto: bool = False) -> Samples:
    reducer = MinMax(tags, start, end, points, auto=auto)
    edges = [0, *sorted(min(cut, len(samples)) for cut in cuts), len(samples)]
    parts = [reducer.feed(samples.slice(a, b)) for a, b in pairwise(edges)]
    return concat([*parts, reducer.finish()])


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Row], int, int]:
    start = draw(st.sampled_from([0, 1_000, 1_767_225_600_000_000]))
    span = draw(st.integers(1, 300))
    rows: list[Row] = []
    for tag in draw(st.lists(st.sampled_from(TAGS), unique=True, max_size=4)):
        for offset in sorted(draw(st.sets(st.integers(0, span - 1), max_size=60))):
            value = draw(st.sampled_from([np.nan, 0.0, -0.0, 1.0, 1.0, 2.5, -3.0, 1e300]))
            quality = draw(st.sampled_from([0, 20, 63, 64, 191, 192, 192, 192]))
            text = draw(st.sampled_from([None, "", "heat", "hold"])) if tag.kind == "text" else None
            rows.append((tag.tag_id, start + offset, np.nan if tag.kind == "text" else value, quality, text))
    rows.sort(key=lambda row: row[:2])
    return rows, start, start + span


@settings(max_examples=400, deadline=None)
@given(history=histories(), points=st.integers(10, 40), cuts=st.lists(st.integers(0, 240), max_size=8), auto=st.booleans())
def test_minmax_keeps_what_its_definition_says_however_the_chunks_are_cut(
    history: tuple[list[Row], int, int], points: int, cuts: list[int], auto: bool
) -> None:
    rows, start, end = history
    found = reduced(samples_of(rows), cuts, TAGS, start, end, points, auto=auto)
    assert shown(found) == shown(samples_of(oracle(rows, TAGS, start, end, points, auto=auto)))


@pytest.mark.parametrize("chunk", [1_000, 7_919, 100_000])
def test_many_samples_are_reduced_to_the_extremes_of_each_bucket(chunk: int) -> None:
    n, points = 100_000, 2_000
    value = np.random.default_rng(3).normal(size=n).cumsum()
    samples = Samples(np.full(n, 3, np.int32), np.arange(n, dtype=np.int64), value, np.full(n, 192, np.int16))
    found = reduced(samples, list(range(0, n, chunk)), TAGS[:1], 0, n, points)
    assert len(found) == points
    per_bucket = value.reshape(points // 2, -1)
    pairs = np.sort(found.value.reshape(-1, 2), axis=1)
    assert (pairs[:, 0] == per_bucket.min(axis=1)).all()
    assert (pairs[:, 1] == per_bucket.max(axis=1)).all()
    assert (np.diff(found.ts) > 0).all()
    assert (value[found.ts] == found.value).all()


def test_a_bad_sample_breaks_the_trend_line() -> None:
    n = 10_000
    samples = Samples(np.full(n, 3, np.int32), np.arange(n, dtype=np.int64), np.sin(np.arange(n) / 100), np.full(n, 192, np.int16))
    samples.quality[5_432] = 0
    samples.value[5_432] = 1e9
    found = reduced(samples, [2_000, 5_433], TAGS[:1], 0, n, 20)
    bad = np.flatnonzero(found.quality == 0)
    assert found.ts[bad].tolist() == [5_432]
    assert found.value[found.quality == 192].max() <= 1


def test_what_waits_between_chunks_is_bounded_by_the_points() -> None:
    reducer = MinMax(TAGS[:1], 0, 10_000_000, 1_000, auto=True)
    for start in range(0, 1_000_000, 1_000):
        ts = np.arange(start, start + 1_000, dtype=np.int64)
        reducer.feed(Samples(np.full(1_000, 3, np.int32), ts, ts * 0.5, np.full(1_000, 192, np.int16)))
        assert len(reducer._held) <= 1_000
    assert len(reducer._held) <= 6
