"""Binary COPY: every bit that goes in comes out, through a real database and in pieces of any size."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from historian.schema import copy_binary
from historian.schema.connection import Connection, Pool
from historian.schema.copy_binary import (
    DECIMAL_COLUMNS,
    FLOAT_COLUMNS,
    MAX_ROWS,
    NUMERIC_SELECT,
    TEXT_COLUMNS,
    TEXT_SELECT,
    NumericDecoder,
    TextDecoder,
    encode_decimals,
    encode_floats,
    encode_texts,
)
from historian.schema.errors import HistorianError
from historian.schema.samples import Samples, concat

# n: COPY may put a row into an earlier page than the row before
TABLE = "CREATE TEMP TABLE s (n bigserial, tag_id int4, scale int2 NOT NULL DEFAULT 0, quality int2, ts timestamptz, mantissa int8, value float8, text text)"

#: 1970 to 2100, µs
TIMES = st.integers(0, 4_102_444_800_000_000)
ANY_FLOAT = st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack("<d", struct.pack("<Q", bits))[0])
MANTISSAS = st.integers(-(2**53) + 1, 2**53 - 1)
SCALES = st.integers(0, 12)
# PostgreSQL has no NUL in a text
TEXTS = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))
IDS = st.integers(1, 2**31 - 1)
QUALITIES = st.integers(0, 255)


async def put(conn: Connection, columns: tuple[str, ...], source: object) -> None:
    await conn.copy_to_table("s", source=source, columns=columns, format="binary")


async def get(conn: Connection, select: str, decoder: NumericDecoder | TextDecoder, where: str = "true") -> list[Samples]:
    chunks: list[Samples] = []

    async def take(data: bytes) -> None:
        chunks.extend(decoder.feed(data))

    await conn.copy_from_query(f"SELECT {select} FROM s WHERE {where} ORDER BY n", output=take, format="binary")
    chunks.append(decoder.finish())
    return chunks


async def octets(source: object) -> bytes:
    if isinstance(source, AsyncIterator):
        return b"".join([bytes(chunk) async for chunk in source])
    return bytes(source)  # type: ignore[call-overload, no-any-return]


def texts_of(samples: Samples) -> list[str | None]:
    found: list[str | None] = samples.text_or_nulls().to_pylist()
    return found


@pytest.fixture
async def conn(pool: Pool) -> AsyncIterator[Connection]:
    async with pool.acquire() as conn:
        await conn.execute(TABLE)
        yield conn


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    decimals=st.lists(st.tuples(IDS, QUALITIES, TIMES, MANTISSAS, SCALES), max_size=30),
    floats=st.lists(st.tuples(IDS, QUALITIES, TIMES, ANY_FLOAT), max_size=30),
)
async def test_numbers_come_back_bit_by_bit(
    conn: Connection, decimals: list[tuple[int, int, int, int, int]], floats: list[tuple[int, int, int, float]]
) -> None:
    await conn.execute("TRUNCATE s")
    tag_id = np.array([row[0] for row in [*decimals, *floats]], np.int32)
    quality = np.array([row[1] for row in [*decimals, *floats]], np.int16)
    ts = np.array([row[2] for row in [*decimals, *floats]], np.int64)
    mantissa, scale = np.array([row[3] for row in decimals], np.int64), np.array([row[4] for row in decimals], np.int16)
    value = np.array([row[3] for row in floats], np.float64)
    n = len(decimals)
    await put(conn, DECIMAL_COLUMNS, encode_decimals(tag_id[:n], scale, quality[:n], ts[:n], mantissa))
    await put(conn, FLOAT_COLUMNS, encode_floats(tag_id[n:], quality[n:], ts[n:], value))

    found = concat(await get(conn, NUMERIC_SELECT, NumericDecoder(7)))
    assert found.tag_id.tolist() == tag_id.tolist()
    assert found.quality.tolist() == quality.tolist()
    assert found.ts.tolist() == ts.tolist()
    assert found.value.tolist()[:n] == [row[3] / 10 ** row[4] for row in decimals]
    assert found.value[n:].tobytes() == value.tobytes()
    assert found.text is None
    # and what SQL sees is the same
    seen = await conn.fetch("SELECT tag_id, ts, COALESCE(historian.decimal_value(mantissa, scale), value) AS value FROM s ORDER BY n")
    assert [(row["tag_id"], row["ts"]) for row in seen] == list(zip(found.tag_id.tolist(), found.ts.tolist(), strict=True))
    assert np.array([row["value"] for row in seen], np.float64).tobytes() == found.value.tobytes()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(IDS, QUALITIES, TIMES, TEXTS), max_size=40))
async def test_texts_come_back(conn: Connection, rows: list[tuple[int, int, int, str]]) -> None:
    await conn.execute("TRUNCATE s")
    tag_id, quality = np.array([row[0] for row in rows], np.int32), np.array([row[1] for row in rows], np.int16)
    ts, text = np.array([row[2] for row in rows], np.int64), [row[3] for row in rows]
    await put(conn, TEXT_COLUMNS, encode_texts(tag_id, quality, ts, pa.array(text, pa.string())))
    found = concat(await get(conn, TEXT_SELECT, TextDecoder()))
    assert (found.tag_id.tolist(), found.quality.tolist(), found.ts.tolist()) == (tag_id.tolist(), quality.tolist(), ts.tolist())
    assert texts_of(found) == text
    assert np.isnan(found.value).all()


async def test_many_rows_travel_in_several_pieces_each_way(conn: Connection) -> None:
    n = 100_000
    tag_id, quality = np.arange(1, n + 1, dtype=np.int32), np.full(n, 192, np.int16)
    ts, value = np.arange(n, dtype=np.int64) * 1_000_000, np.random.default_rng(1).normal(size=n)
    sources = (
        encode_floats(tag_id, quality, ts, value),
        encode_decimals(tag_id, np.full(n, 2, np.int16), quality, ts, tag_id.astype(np.int64)),
    )
    assert all(isinstance(source, AsyncIterator) for source in sources)
    await put(conn, FLOAT_COLUMNS, sources[0])
    chunks = await get(conn, NUMERIC_SELECT, NumericDecoder())
    assert [len(chunk) for chunk in chunks] == [MAX_ROWS] * (n // MAX_ROWS) + [n % MAX_ROWS]
    assert concat(chunks).value.tobytes() == value.tobytes()
    await conn.execute("TRUNCATE s")
    await put(conn, DECIMAL_COLUMNS, sources[1])
    assert (concat(await get(conn, NUMERIC_SELECT, NumericDecoder())).value == tag_id / 100).all()

    text = pa.array([f"é{i}" * (i % 30) for i in range(n)])
    source = encode_texts(tag_id, quality, ts, text)
    assert isinstance(source, AsyncIterator)
    await conn.execute("TRUNCATE s")
    await put(conn, TEXT_COLUMNS, source)
    chunks = await get(conn, TEXT_SELECT, TextDecoder())
    assert len(chunks) > 2
    assert max(len(chunk) for chunk in chunks) <= MAX_ROWS
    assert concat(chunks).text.equals(text)
    assert (concat(chunks).ts == ts).all()


async def test_texts_may_be_missing_empty_or_larger_than_any_piece(conn: Connection) -> None:
    texts = ["", "x" * 3_000_000, None, "é" * 700_000, None, ""]
    for n, text in enumerate(texts):
        await conn.execute("INSERT INTO s (tag_id, quality, ts, text) VALUES ($1, 0, $2, $3)", n, n, text)
    assert [text for chunk in await get(conn, TEXT_SELECT, TextDecoder()) for text in texts_of(chunk)] == texts
    only_missing = concat(await get(conn, TEXT_SELECT, TextDecoder(), "text IS NULL"))
    assert len(only_missing) == 2
    assert only_missing.text is None


@pytest.mark.parametrize(("select", "decoder"), [(NUMERIC_SELECT, NumericDecoder), (TEXT_SELECT, TextDecoder)])
async def test_no_rows_are_no_samples(conn: Connection, select: str, decoder: type[NumericDecoder | TextDecoder]) -> None:
    assert [len(chunk) for chunk in await get(conn, select, decoder())] == [0]


# Heads are full of zeros and small numbers: with such ids, times and lengths a row head looks most like the beginning of another.
TRICKY = st.sampled_from([0, 1, 2, 4, 8, 0x0400, 0x040000, 0x00040000_0004, 0x0004_0000_0004_0000, 0x0000_0400_0000_0004, 0x0002_0000_0008])


@settings(max_examples=300, deadline=None)
@given(
    rows=st.lists(st.tuples(TRICKY, TRICKY, TRICKY | TIMES, st.none() | st.text("\x01\x02\x04\x08a", max_size=40)), max_size=30),
    pieces=st.lists(st.integers(1, 70)),
    searched_at=st.integers(1, 200),
)
def test_rows_of_text_are_found_however_they_look_and_wherever_they_are_cut(
    rows: list[tuple[int, int, int, str | None]], pieces: list[int], searched_at: int
) -> None:
    stream = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
    for tag, quality, ts, text in rows:
        size = -1 if text is None else len(text)
        stream += struct.pack(">hiiihiqi", 4, 4, tag % 2**31, 2, quality % 256, 8, ts, size) + (text or "").encode()
    stream += b"\xff\xff"
    decoder = TextDecoder()
    decoder._decode_at = searched_at
    found = []
    while stream:
        size = pieces.pop() if pieces else 64
        found += decoder.feed(stream[:size])
        stream = stream[size:]
    samples = concat([*found, decoder.finish()])
    assert texts_of(samples) == [row[3] for row in rows]
    assert samples.ts.tolist() == [row[2] + 946_684_800_000_000 for row in rows]


@settings(max_examples=100, deadline=None)
@given(pieces=st.lists(st.integers(1, 120)), rows=st.integers(0, 14))
def test_numbers_are_found_wherever_the_stream_is_cut(pieces: list[int], rows: int) -> None:
    stream = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
    for n in range(rows):
        stream += struct.pack(">hiiihihiq", 6, 4, n, 2, 1, 2, 192, 8, n) + (
            struct.pack(">iqi", 8, n, -1) if n % 3 else struct.pack(">iid", -1, 8, n / 7)
        )
    stream += b"\xff\xff"
    decoder = NumericDecoder(4, first_rows=1)
    found = []
    while stream:
        size = pieces.pop() if pieces else 64
        found += decoder.feed(stream[:size])
        stream = stream[size:]
    samples = concat([*found, decoder.finish()])
    assert [len(chunk) for chunk in found] == [1, 2, 4, 4][: len(found)]
    assert samples.value.tolist() == [n / 10 if n % 3 else n / 7 for n in range(rows)]


async def test_a_damaged_stream_is_refused() -> None:
    one, two = np.array([1], np.int32), np.array([1, 2], np.int16)
    texts = await octets(encode_texts(one, two[:1], np.array([5], np.int64), pa.array(["abc"])))
    for decoder, stream in [
        (NumericDecoder(), b"PGCOPX\n\xff\r\n\x00" + bytes(10)),
        (NumericDecoder(), b"PGCOPY\n\xff\r\n\x00" + bytes(8)),
        (NumericDecoder(), b"PGCOPY"),
        (NumericDecoder(), b""),
        (NumericDecoder(), b"PGCOPY\n\xff\r\n\x00" + bytes(8 + 50) + b"\xff\xff"),
        (TextDecoder(), texts[:-1]),
        (TextDecoder(), texts[:-4]),
        (TextDecoder(), texts[:-2] + b"junk"),
        (TextDecoder(), texts + b"\xff\xff"),
        (TextDecoder(), texts[:19] + b"\x00" + texts[19:]),
    ]:
        with pytest.raises(HistorianError, match="binary COPY"):
            concat([*decoder.feed(stream), decoder.finish()])


async def test_a_row_that_is_neither_decimal_nor_float_is_refused(conn: Connection) -> None:
    await conn.execute("INSERT INTO s (tag_id, quality, ts, text) VALUES (1, 192, now(), 'text')")
    with pytest.raises(HistorianError, match="binary COPY"):
        await get(conn, NUMERIC_SELECT, NumericDecoder())


async def test_encoded_streams_are_what_the_manual_says() -> None:
    source = encode_floats(np.array([7], np.int32), np.array([192], np.int16), np.array([946_684_800_000_001], np.int64), np.array([1.5]))
    row = struct.pack(">hiiihiqid", 4, 4, 7, 2, 192, 8, 1, 8, 1.5)
    assert await octets(source) == b"PGCOPY\n\xff\r\n\x00" + bytes(8) + row + b"\xff\xff"
    assert copy_binary.FLOAT_COLUMNS == ("tag_id", "quality", "ts", "value")
