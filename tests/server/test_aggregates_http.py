"""Aggregates over HTTP: computed values in every format, and described as what they are."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import aiohttp
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from historian.server.run import Server

TAGS = [
    {"path": "p/flow", "kind": "float", "unit": "l/s", "low": 0, "high": 10, "high_limit": 8},
    {"path": "p/parts", "kind": "int"},
    {"path": "p/state", "kind": "digital", "states": {"0": "off", "1": "on"}},
]
#: the day on which Europe's clocks are put forward
SAMPLES = [
    {"tag": "p/flow", "ts": "2026-03-28T23:00:00Z", "value": 2},
    {"tag": "p/flow", "ts": "2026-03-29T22:00:00Z", "value": 4},
    {"tag": "p/parts", "ts": "2026-03-28T23:00:00Z", "value": 1},
    {"tag": "p/parts", "ts": "2026-03-28T23:30:00Z", "value": 2},
    {"tag": "p/state", "ts": "2026-03-28T23:00:00Z", "value": 1},
    {"tag": "p/state", "ts": "2026-03-29T05:00:00Z", "value": 0},
]
DAY = {"start": "2026-03-29T00:00:00+01:00", "end": "2026-03-30T00:00:00+02:00", "interval": "1d", "tz": "Europe/Amsterdam"}


@pytest.fixture
async def plant(server: Server) -> Server:
    async with aiohttp.ClientSession() as http:
        async with http.put(f"{server.url}/v1/tags", json={"tags": TAGS}) as answer:
            assert answer.status == 200, await answer.text()
        async with http.post(f"{server.url}/v1/write", json={"samples": SAMPLES}) as answer:
            assert answer.status == 200, await answer.text()
    return server


async def get(server: Server, tag: str, mode: str, form: str = "json", **parameters: str) -> bytes:
    params = {"tag": tag, "mode": mode, "format": form, **(parameters or DAY)}
    async with aiohttp.ClientSession() as http, http.get(f"{server.url}/v1/range", params=params) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.read()


async def test_a_day_has_the_hours_that_the_clock_gives_it(plant: Server) -> None:
    (day,) = json.loads(await get(plant, "p/flow", "integral"))["samples"]
    assert day == {"tag": "p/flow", "ts": "2026-03-28T23:00:00Z", "value": 3 * 23 * 3600, "quality": 192}
    shifts = json.loads(await get(plant, "p/state", "duration", **{**DAY, "interval": "8h", "origin": "06:00"}))["samples"]
    assert [(row["ts"], row["state"], row["value"]) for row in shifts] == [
        # the night is cut by the midnight that the span begins at
        ("2026-03-28T21:00:00Z", "on", 5 * 3600),
        ("2026-03-29T04:00:00Z", "off", 7 * 3600),
        ("2026-03-29T04:00:00Z", "on", 3600),
        ("2026-03-29T12:00:00Z", "off", 8 * 3600),
        ("2026-03-29T20:00:00Z", "off", 2 * 3600),
    ]


async def test_an_average_of_whole_numbers_is_none(plant: Server) -> None:
    found = {mode: json.loads(await get(plant, "p/parts", mode))["samples"][0]["value"] for mode in ("avg", "max", "sum", "count", "total")}
    assert found == {"avg": 1.5, "max": 2, "sum": 3, "count": 2, "total": 1}
    assert b"1.5,192" in await get(plant, "p/parts", "avg", "csv")
    assert b",2,192" in await get(plant, "p/parts", "count", "csv")


async def test_states_have_a_column_in_every_format(plant: Server) -> None:
    expected = [("off", 17 * 3600.0), ("on", 6 * 3600.0)]
    rows = json.loads(await get(plant, "p/state", "duration"))["samples"]
    assert [(row["state"], row["value"]) for row in rows] == expected
    table = list(csv.DictReader(io.StringIO((await get(plant, "p/state", "duration", "csv")).decode())))
    assert list(table[0]) == ["tag", "ts", "value", "quality", "state"]
    assert [(row["state"], float(row["value"])) for row in table] == expected
    for found in (
        pa.ipc.open_stream(await get(plant, "p/state", "duration", "arrow")).read_all(),
        pq.read_table(io.BytesIO(await get(plant, "p/state", "duration", "parquet"))),
    ):
        assert list(zip(found["text"].to_pylist(), found["value"].to_pylist(), strict=True)) == expected
    # many rows are written in another way than few
    minutes = {**DAY, "interval": "1m"}
    many = json.loads(await get(plant, "p/state", "duration", **minutes))["samples"]
    assert [row["state"] for row in many] == ["on"] * 360 + ["off"] * 1020
    assert all(row["value"] == 60 for row in many)
    assert [row["state"] for row in csv.DictReader(io.StringIO((await get(plant, "p/state", "duration", "csv", **minutes)).decode()))] == [
        row["state"] for row in many
    ]


async def test_results_are_described_as_what_they_are(plant: Server) -> None:
    async def description(tag: str, mode: str) -> dict[str, Any]:
        schema = pa.ipc.open_stream(await get(plant, tag, mode, "arrow")).schema
        (row,) = json.loads(schema.metadata[b"historian.tags"])
        return {name: row[name] for name in ("kind", "unit", "low", "high")}

    assert await description("p/flow", "twa") == {"kind": "float", "unit": "l/s", "low": 0, "high": 10}
    assert await description("p/flow", "integral") == {"kind": "float", "unit": "l/s·s", "low": None, "high": None}
    assert await description("p/flow", "count") == {"kind": "int", "unit": None, "low": None, "high": None}
    assert await description("p/flow", "percent_good") == {"kind": "float", "unit": "%", "low": 0, "high": 100}
    # what is compared with limits is a value in the unit of the tag
    for mode, limit in (("raw", 8), ("twa", 8), ("max", 8), ("sum", None), ("count", None), ("percent_good", None)):
        (row,) = json.loads(pa.ipc.open_stream(await get(plant, "p/flow", mode, "arrow")).schema.metadata[b"historian.tags"])
        assert row["high_limit"] == limit, mode
    assert await description("p/parts", "avg") == {"kind": "float", "unit": None, "low": None, "high": None}
    assert await description("p/parts", "max") == {"kind": "int", "unit": None, "low": None, "high": None}
    assert await description("p/state", "duration") == {"kind": "float", "unit": "s", "low": None, "high": None}


async def test_a_mode_that_fits_no_tag_is_a_fault_of_the_question(plant: Server) -> None:
    params = {"tag": "p/flow", "mode": "duration", **DAY}
    async with aiohttp.ClientSession() as http, http.get(f"{plant.url}/v1/range", params=params) as answer:
        assert answer.status == 400
        assert "p/flow is of kind float" in (await answer.json(content_type=None))["detail"]
