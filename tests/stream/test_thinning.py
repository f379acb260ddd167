"""What a thinned live tail leaves: of each tag and interval the first, the last, the least, the greatest and the bad are there, and nothing is made up."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from historian.schema.samples import Samples
from historian.stream.thinning import Thinning

Row = tuple[int, int, float, int]

rows = st.tuples(
    st.integers(-3, 4).filter(bool),
    st.integers(0, 30),
    st.one_of(st.sampled_from([0.0, -0.0, 1.0, -1.0, math.nan]), st.floats(-1e9, 1e9)),
    st.sampled_from([192, 192, 192, 64, 0, 8]),
)
intervals = st.lists(st.lists(rows, max_size=25), max_size=4)


def samples(rows: list[Row]) -> Samples:
    tag_id, ts, value, quality = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Samples(np.array(tag_id, np.int32), np.array(ts, np.int64), np.array(value, np.float64), np.array(quality, np.int16))


def plain(found: Samples) -> list[tuple[int, int, float | None, int]]:
    values = [None if math.isnan(value) else value for value in found.value.tolist()]
    return list(zip(found.tag_id.tolist(), found.ts.tolist(), values, found.quality.tolist(), strict=True))


@given(intervals)
def test_no_peak_is_lost(stream: list[list[Row]]) -> None:
    thinning = Thinning()
    newest: dict[int, int] = {}
    holds: dict[tuple[int, int], tuple[float | None, int]] = {}
    database: dict[tuple[int, int], tuple[float | None, int]] = {}
    for interval in stream:
        whole = plain(samples(interval))
        sent = thinning.reduce(samples(interval))
        thinning.sent(sent)
        kept = plain(sent)
        final = {(tag, ts): (value, quality) for tag, ts, value, quality in whole}
        database |= final
        holds |= {(tag, ts): (value, quality) for tag, ts, value, quality in kept}
        # in order, each once, and as it was last written
        assert [row[:2] for row in kept] == sorted({row[:2] for row in kept})
        assert all(final[tag, ts] == (value, quality) for tag, ts, value, quality in kept)
        for tag in {row[0] for row in whole}:
            mine = [(ts, *row) for (of, ts), row in sorted(final.items()) if of == tag]
            told = [(ts, value, quality) for of, ts, value, quality in kept if of == tag]
            assert told[0] == mine[0]
            assert told[-1] == mine[-1]
            good = [value for _, value, quality in mine if quality >= 64 and value is not None]
            if good:
                told_good = [value for _, value, quality in told if quality >= 64 and value is not None]
                assert (min(told_good), max(told_good)) == (min(good), max(good))
            bad = [row for row in mine if row[2] < 64]
            if bad:
                assert bad[0] in told
                assert bad[-1] in told
            late = [row for row in mine if row[0] <= newest.get(tag, -1)]
            assert set(late) <= set(told)
            assert len(told) <= 6 + len(late)
            newest[tag] = max(newest.get(tag, -1), told[-1][0])
        # whatever was corrected since: what is shown is what there is
        assert all(database[key] == row for key, row in holds.items())


def test_texts_come_with_their_rows() -> None:
    found = Thinning().reduce(
        Samples(
            np.full(4, 1, np.int32),
            np.arange(4),
            np.full(4, np.nan),
            np.full(4, 192, np.int16),
            pa.array(["a", "b", "c", "d"], pa.string()),
        )
    )
    assert found.text.to_pylist() == ["a", "d"]


def test_before_a_moment_all_are_corrections() -> None:
    """A client that goes on by its cursor has samples that the server does not know of."""
    many = samples([(1, ts, 0.5, 192) for ts in range(10)])
    assert plain(Thinning(since=4).reduce(many)) == plain(many.take(np.array([0, 1, 2, 3, 4, 5, 9])))
