"""M4 and LTTB: what a plain reading of their definitions keeps, whatever the chunks; and that lines drawn through M4 cover the pixels that all samples do."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from historian.query.lttb import Lttb
from historian.query.m4 import M4
from historian.schema.catalogue import Tag
from historian.schema.samples import UNCERTAIN, Samples, concat

TAGS = [Tag(3, "a/x", "float"), Tag(7, "a/y", "int"), Tag(9, "a/z", "digital", step=True)]


def line(n: int, seed: int, tag_id: int = 3, bad: float = 0.0) -> Samples:
    """About n samples in 100 n µs."""
    rng = np.random.default_rng(seed)
    ts = np.unique(rng.integers(0, 100 * n, n))
    n = len(ts)
    quality = np.where(rng.random(n) < bad, 0, 192).astype(np.int16)
    value = np.where(quality < UNCERTAIN, np.nan, np.round(rng.normal(0, 1, n).cumsum(), 1))
    return Samples(np.full(n, tag_id, np.int32), ts, value, quality)


def through(reducer: M4 | Lttb, samples: Samples, cuts: list[int]) -> Samples:
    edges = [0, *sorted(min(cut, len(samples)) for cut in cuts), len(samples)]
    return concat([*[reducer.feed(samples.slice(a, b)) for a, b in pairwise(edges)], reducer.finish()])


def several(n: int, seed: int, bad: float) -> Samples:
    return concat([line(n, seed + tag.tag_id, tag.tag_id, bad) for tag in TAGS])


@settings(max_examples=50, deadline=None)
@given(
    n=st.integers(1, 300), seed=st.integers(0, 10_000), points=st.integers(10, 80), bad=st.sampled_from([0.0, 0.05, 0.5]), data=st.data()
)
def test_m4_keeps_four_of_each_column(n: int, seed: int, points: int, bad: float, data: st.DataObject) -> None:
    samples = several(n, seed, bad)
    start, end = 0, 100 * n
    cuts = data.draw(st.lists(st.integers(0, len(samples)), max_size=5))
    found = through(M4(TAGS, start, end, points), samples, cuts)
    width = -(-(end - start) // (points // 4))
    kept: set[tuple[int, int]] = set()
    for tag in TAGS:
        mine = samples.take(samples.tag_id == tag.tag_id)
        for column in np.unique(mine.ts // width):
            inside = mine.take(mine.ts // width == column)
            is_bad = inside.quality < UNCERTAIN
            known, broken = inside.take(~is_bad), inside.take(is_bad)
            if len(known):
                kept |= {
                    (tag.tag_id, int(known.ts[at])) for at in (0, len(known) - 1, int(known.value.argmin()), int(known.value.argmax()))
                }
            if len(broken):
                kept |= {(tag.tag_id, int(broken.ts[0])), (tag.tag_id, int(broken.ts[-1]))}
    assert list(zip(found.tag_id.tolist(), found.ts.tolist(), strict=True)) == sorted(kept)


def pixels(samples: Samples, width: int, columns: int, low: float, high: float, height: int) -> np.ndarray:
    """A line through the samples as columns of pixels: those from the lowest to the highest point that it has in a column."""
    picture = np.zeros((columns, height), np.bool_)
    edges = np.arange(columns + 1) * float(width)
    # the line's points, and where it passes from one column to the next
    ts = np.union1d(samples.ts.astype(float), edges[(edges > samples.ts[0]) & (edges < samples.ts[-1])])
    row = np.floor((np.interp(ts, samples.ts, samples.value) - low) / (high - low) * (height - 1)).astype(int)
    for a, b in zip(range(len(ts) - 1), range(1, len(ts)), strict=True):
        column = int(min(ts[a], ts[b] - 1e-9) // width)
        picture[column, min(row[a], row[b]) : max(row[a], row[b]) + 1] = True
    return picture


@pytest.mark.parametrize("seed", range(5))
def test_a_line_through_m4_covers_the_pixels_of_all_samples(seed: int) -> None:
    samples = line(5000, seed)
    columns = 50
    end = 100 * 5000
    found = through(M4(TAGS[:1], 0, end, 4 * columns), samples, [])
    assert len(found) <= 4 * columns
    low, high = samples.value.min(), samples.value.max()
    width = -(-end // columns)
    assert (pixels(found, width, columns, low, high, 200) == pixels(samples, width, columns, low, high, 200)).all()


def plain_lttb(ts: np.ndarray, value: np.ndarray, points: int) -> list[int]:
    """As the thesis has it, one triangle at a time."""
    n = len(ts)
    edges = np.linspace(1, n - 1, points - 1).astype(int)
    taken = [0]
    for i in range(points - 2):
        behind = slice(edges[i + 1], edges[i + 2]) if i + 2 < len(edges) else slice(n - 1, n)
        t, v = ts[behind].mean(), value[behind].mean()
        a = taken[-1]
        areas = [abs((ts[a] - t) * (value[k] - value[a]) - (ts[a] - ts[k]) * (v - value[a])) for k in range(edges[i], edges[i + 1])]
        taken.append(edges[i] + int(np.argmax(areas)))
    return [*taken, n - 1]


@pytest.mark.parametrize("cuts", [[], [1, 100, 101, 350]])
def test_lttb_takes_the_largest_triangles(cuts: list[int]) -> None:
    rng = np.random.default_rng(4)
    n, points = 400, 60
    ts = np.cumsum(rng.integers(1, 1_000_000, n))
    value = rng.normal(0, 1, n).cumsum()
    samples = Samples(np.full(n, 3, np.int32), ts, value, np.full(n, 192, np.int16))
    found = through(Lttb(TAGS, 0, int(ts[-1]) + 1, points), samples, cuts)
    assert found.ts.tolist() == ts[plain_lttb(ts.astype(float), value, points)].tolist()


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 2000), seed=st.integers(0, 10_000), points=st.integers(10, 60), bad=st.sampled_from([0.0, 0.002, 0.2]), data=st.data()
)
def test_lttb_keeps_real_samples_and_shows_the_bad_ones(n: int, seed: int, points: int, bad: float, data: st.DataObject) -> None:
    samples = several(n, seed, bad)
    cuts = data.draw(st.lists(st.integers(0, len(samples)), max_size=5))
    found = through(Lttb(TAGS, 0, 100 * n, points), samples, cuts)
    whole = through(Lttb(TAGS, 0, 100 * n, points), samples, [])
    assert (found.tag_id.tolist(), found.ts.tolist()) == (whole.tag_id.tolist(), whole.ts.tolist()), "however the chunks are cut"
    key = list(zip(found.tag_id.tolist(), found.ts.tolist(), strict=True))
    assert key == sorted(set(key))
    assert set(key) <= set(zip(samples.tag_id.tolist(), samples.ts.tolist(), strict=True))
    for tag in TAGS:
        mine, kept = (some.take(some.tag_id == tag.tag_id) for some in (samples, found))
        assert (kept.quality < UNCERTAIN).any() == (mine.quality < UNCERTAIN).any()
        if len(mine) <= points:
            assert kept.ts.tolist() == mine.ts.tolist()
        elif bad == 0:
            assert len(kept) <= points
            if tag.kind == "float":
                assert (kept.ts[0], kept.ts[-1]) == (mine.ts[0], mine.ts[-1])
