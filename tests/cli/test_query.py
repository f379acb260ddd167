"""`historian query`: modes and their parameters, sparklines, wide tables, zones."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from historian.cli import app
from historian.cli.query import Bounds, Mode
from historian.cli.sparklines import BLOCKS, FINE, Sparklines
from historian.client import AsyncClient
from historian.client.results import Labels
from historian.query import range_query
from historian.query.interval import parse_zone
from historian.schema.catalogue import Tag
from historian.schema.errors import BadInput, HistorianError
from historian.schema.samples import Samples, arrow_schema
from historian.server.run import Server

US = 1_767_225_600_000_000
MINUTE = 60_000_000
SPAN = ["--start", "2026-01-01T00:00:00Z", "--end", "2026-01-01T01:00:00Z"]
UTC = parse_zone("UTC")

FLOW = Tag(1, "acme/mill/flow", "float", unit="m³/h")
PUMP = Tag(2, "acme/mill/pump", "digital", step=True, states={"0": "stopped", "1": "running"})
PHASE = Tag(3, "acme/mill/phase", "text", step=True)


def lines_of(tag: Tag, samples: list[tuple[int, float, int]], *, text: list[str] | None = None, width: int = 80) -> list[str]:
    """The picture of one tag; times in minutes of an hour."""
    schema = arrow_schema([tag])
    columns = Samples(
        np.full(len(samples), tag.tag_id, np.int32),
        np.array([US + round(minute * MINUTE) for minute, _, _ in samples], np.int64),
        np.array([value for _, value, _ in samples], np.float64),
        np.array([quality for _, _, quality in samples], np.int16),
        None if text is None else pa.array(text, pa.string()),
    )
    picture = Sparklines(US, US + 60 * MINUTE)
    labels = Labels(schema)
    # in pieces, as it comes
    for n in range(0, max(len(samples), 1), 7):
        picture.add(labels.add(columns.slice(n, min(n + 7, len(samples))).to_record_batch(schema)))
    return [str(line) for line in picture.lines(width, UTC)]


def spark(tag: Tag, samples: list[tuple[int, float, int]], **more: list[str]) -> str:
    prefix, heading, line, axis = lines_of(tag, samples, **more)
    assert prefix == "acme/mill/"
    columns = len(axis.lstrip())
    begin = len(axis) - columns
    assert axis[begin:].startswith("01-01 00:00")
    assert axis.endswith("01-01 01:00")
    assert max(map(len, (prefix, heading, line, axis))) <= 80
    return line[begin : begin + columns].ljust(columns)


def test_a_ramp_climbs_the_blocks() -> None:
    drawn = spark(FLOW, [(minute, float(minute), 192) for minute in range(60)])
    assert "".join(dict.fromkeys(drawn.strip())) == BLOCKS
    assert list(drawn.strip()) == sorted(drawn.strip())
    line = lines_of(FLOW, [(minute, float(minute), 192) for minute in range(60)])[2]
    assert line.endswith("59  59 m³/h")


def test_bad_spans_are_gaps_and_rare_samples_are_joined() -> None:
    known = spark(FLOW, [(0, 0.0, 192), (59, 10.0, 192)])
    assert " " not in known.rstrip()
    # held up to the bad one, then nothing until the next good one
    broken = spark(FLOW, [(0, 5.0, 192), (20, 6.0, 0), (40, 5.0, 192), (59, 5.0, 192)])
    third = len(broken) // 3
    assert re.fullmatch(rf"▅{{{third - 1},{third + 1}}} {{{third - 1},{third + 1}}}▅+ *", broken), broken
    # a line ends with its last sample, a step holds
    assert spark(FLOW, [(0, 1.0, 192), (30, 1.0, 192)]).rstrip() == "▅" * (len(broken) // 2 + 1)
    assert " " not in spark(PUMP, [(0, 0.0, 192), (30, 1.0, 192)])


def test_states_and_texts() -> None:
    line = lines_of(PUMP, [(0, 0.0, 192), (30, 1.0, 192)])[2]
    assert line.startswith("pump")
    assert line.endswith("1 running")
    assert "▁▁▁" in line
    assert "███" in line
    text = lines_of(PHASE, [(0, np.nan, 192), (30, np.nan, 192)], text=["mash", "lauter"])[2]
    assert text.endswith("lauter")
    assert text.count("▁") == 2


def test_nothing_and_constants_and_numbers_at_the_end_of_all_numbers() -> None:
    assert lines_of(FLOW, [])[2].split() == ["flow", "–"]
    assert lines_of(FLOW, [(3, np.nan, 0)])[2].split() == ["flow", "–"]
    assert set(spark(FLOW, [(0, 3.0, 192), (59, 3.0, 192)]).strip()) == {"▅"}
    extreme = spark(FLOW, [(0, -1.7e308, 192), (59, 1.7e308, 192)])
    assert extreme[0] == "▁"
    assert extreme.rstrip()[-1] == "█"


@pytest.mark.parametrize("width", [20, 40, 79, 120, 1000])
def test_it_is_as_wide_as_the_terminal(width: int) -> None:
    lines = lines_of(Tag(1, "acme/mill/a_rather_long_name_of_a_measurement", "float"), [(n, n / 7, 192) for n in range(60)], width=width)
    assert max(map(len, lines)) <= max(width, 60)
    assert max(map(len, lines)) >= min(width, FINE) - 12


def test_there_is_an_end_to_what_is_drawn() -> None:
    schema = arrow_schema([Tag(n, f"x/{n}", "float") for n in range(1001)])
    with pytest.raises(BadInput, match="1001 sparklines"):
        Sparklines(0, 1).add(Labels(schema).add(Samples.empty().to_record_batch(schema)))


def test_the_modes_are_those_of_the_query() -> None:
    # spelled out, for --help loads nothing heavy
    assert [mode.value for mode in Mode] == list(get_args(range_query.Mode))
    assert [bounds.value for bounds in Bounds] == list(get_args(range_query.Bounds))


@pytest.fixture
async def filled(server: Server) -> Server:
    async with AsyncClient(server.url) as client:
        await client.define([FLOW, PUMP, PHASE])
        minutes = US + np.arange(60) * MINUTE
        await client.write(
            {"tag": ["acme/mill/flow"] * 60, "ts": minutes, "value": np.arange(60) / 4, "quality": np.where(np.arange(60) == 5, 0, 192)}
        )
        await client.write({"tag": ["acme/mill/pump"] * 2, "ts": minutes[::30], "value": [0.0, 1.0]})
        await client.write({"tag": ["acme/mill/phase"] * 2, "ts": minutes[::30], "value": ["mash", "lauter"]})
    return server


async def query(server: Server, *args: str, code: int = 0, columns: int = 100) -> str:
    """What the command says, in this process; its stdout, or its error."""

    def run() -> str:
        env = {"HISTORIAN_URL": server.url, "COLUMNS": str(columns), "NO_COLOR": "1"}
        result = CliRunner().invoke(app, ["query", *args], env=env)
        if isinstance(result.exception, HistorianError):
            # which main() makes a line and a code of
            assert code == 1
            return str(result.exception)
        assert result.exit_code == code, result.output
        return result.output if code else result.stdout

    return await asyncio.to_thread(run)


async def test_sparklines_in_a_pipe_are_plain_text(filled: Server) -> None:
    lines = (await query(filled, "acme/mill/#", *SPAN, "--format", "spark", "--tz", "Europe/Amsterdam")).splitlines()
    assert lines[0] == "acme/mill/"
    assert [line.split()[0] for line in lines[2:5]] == ["flow", "phase", "pump"]
    assert lines[2].endswith("0  14.75  14.75 m³/h")
    assert "01-01 01:00" in lines[5]
    assert max(map(len, lines)) <= 100
    assert "\x1b" not in "".join(lines)


async def test_wide_tables_and_files(filled: Server, tmp_path: Path) -> None:
    lines = (await query(filled, "acme/mill/#", *SPAN, "--format", "table", "--wide", "--tz", "Asia/Kolkata")).splitlines()
    assert lines[0] == "acme/mill/"
    assert lines[1].split() == ["flow"]
    assert lines[2].split() == ["time", "(Asia/Kolkata)", "m³/h", "phase", "pump"]
    assert lines[3].split() == ["2026-01-01", "05:30:00", "0", "mash", "stopped"]
    assert lines[8].split() == ["2026-01-01", "05:35:00"]
    assert len(lines) == 63

    rows = list(csv.DictReader(io.StringIO(await query(filled, "acme/mill/#", *SPAN, "--format", "csv", "--wide", "--tz", "Asia/Kolkata"))))
    assert len(rows) == 60
    assert rows[5] == {"ts": "2026-01-01T05:35:00.000000+0530", "acme/mill/flow": "", "acme/mill/phase": "", "acme/mill/pump": ""}
    assert rows[30] == {
        "ts": "2026-01-01T06:00:00.000000+0530",
        "acme/mill/flow": "7.5",
        "acme/mill/phase": "lauter",
        "acme/mill/pump": "running",
    }
    await query(filled, "acme/mill/#", *SPAN, "--wide", "-o", str(tmp_path / "x.parquet"))
    frame = pd.read_parquet(str(tmp_path / "x.parquet"))
    assert frame["acme/mill/flow"].sum() == sum(range(60)) / 4 - 1.25
    assert pq.read_metadata(str(tmp_path / "x.parquet")).num_rows == 60
    assert "--wide is for table" in await query(filled, "acme/mill/#", "--format", "json", "--wide", code=2)

    shown = await query(filled, "acme/mill/flow", *SPAN, "--format", "table", "--tz", "Europe/Amsterdam", "--limit", "2")
    assert "time (Europe/Amsterdam)" in shown
    assert "2026-01-01 01:01:00" in shown
    assert "no time zone" in await query(filled, "acme/mill/flow", "--format", "table", "--tz", "Mars", code=1)


async def test_parameters_reach_the_server_and_its_refusals_the_user(filled: Server) -> None:
    for args, says in [
        (["--mode", "avg", "--interval", "soon"], "no interval: 'soon'"),
        (["--mode", "avg", "--interval", "1h", "--origin", "25:00"], "origin is a time of day"),
        (["--origin", "06:00"], "go with interval"),
        (["--mode", "avg", "--interval", "1h", "--tz", "Mars"], "no time zone"),
        (["--mode", "at"], "mode at wants instants"),
        (["--at", "2026-01-01T00:00:00Z"], "no instants"),
        (["--mode", "at", "--at", "soon"], "no time: 'soon'"),
    ]:
        assert says in await query(filled, "acme/mill/flow", *args, code=1)
    assert "no instants" in " ".join((await query(filled, "acme/mill/flow", "--format", "spark", "--at", "now", code=2)).split())
    lines = (await query(filled, "acme/mill/pump", *SPAN, "--format", "ndjson")).splitlines()
    assert json.loads(lines[1]) == {"tag": "acme/mill/pump", "ts": "2026-01-01T00:30:00Z", "value": 1, "quality": 192}
