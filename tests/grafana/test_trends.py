"""The SQL that Grafana is given: what its dashboard asks gives the same as /v1/range, on both engines, by the index, and to a reader's role."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pytest
from databases import as_role, make_role
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from macros import expand
from processes import ROOT
from psycopg import sql

from historian.client import AsyncClient
from historian.schema.errors import BadInput
from historian.schema.paths import wildcard_regex
from historian.schema.rights import grant
from historian.server.run import Server

US = 1_767_225_600_000_000
HOUR = 3_600_000_000
DASHBOARD = json.loads((ROOT / "docs" / "grafana" / "dashboard.json").read_text(encoding="utf-8"))
VARIABLES = {
    "area": "acme/mill",
    "tag": ["acme/mill/flow", "acme/mill/o'neil"],
    "state": ["acme/mill/pump", "acme/mill/phase", "acme/mill/on"],
}


@pytest.fixture
def reader(postgres: str, database_as_owner: str, database: str) -> Iterator[str]:
    """DSN of a role that may read and nothing else."""
    name = f"historian_test_grafana_{os.getpid()}"
    make_role(postgres, name)
    grant(database_as_owner, name, read_only=True)
    yield as_role(database_as_owner, name)
    with psycopg.connect(database_as_owner, autocommit=True) as conn:
        conn.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
    with psycopg.connect(postgres, autocommit=True) as conn:
        conn.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(name)))


def ask(dsn: str, text: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as conn:
        conn.execute("SET timezone = 'UTC'")
        return conn.execute(text.encode()).fetchall()


def us(moment: Any) -> int:
    return round(moment.timestamp() * 1e6)


def refresh(dsn: str, engine: str) -> None:
    """Have the rollups made: samples that are late, as those of a test are, show in them once they were."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        if engine == "timescale":
            conn.execute("CALL historian.tend_rollups(NULL, '{\"all\": true}')")
            return
        while conn.execute("SELECT historian.refresh_rollups('2026-02-01'::timestamptz)").fetchone() != (0,):
            pass


async def fill(client: AsyncClient) -> None:
    await client.define(
        [
            {"path": "acme/mill/flow", "unit": "m³/h", "low": 0, "high": 40, "description": "Into the mill"},
            {"path": "acme/mill/pump", "kind": "digital", "states": {"0": "stopped", "1": "running"}},
        ]
    )
    rng = np.random.default_rng(5)
    n = 6 * 360
    flow = (20 + rng.normal(size=n).cumsum() / 10).round(2)
    quality = np.where(rng.random(n) < 0.05, 8, 192)
    # an hour of which nothing is known
    quality[720:1080] = 0
    await client.write({"tag": ["acme/mill/flow"] * n, "ts": US + np.arange(n) * 10_000_000, "value": flow, "quality": quality})
    # halves: sums of them are exact, whatever is added up first
    m = 6 * 60
    await client.write({"tag": ["acme/mill/o'neil"] * m, "ts": US + np.arange(m) * 60_000_000 + 1, "value": np.arange(m) / 2})
    await client.write([{"tag": "acme/mill/pump", "ts": US + k * 1_000_000, "value": k % 3} for k in range(6)])
    await client.write([{"tag": "acme/mill/phase", "ts": US + k * 1_000_000, "value": f"p{k}"} for k in range(3)])
    await client.write([{"tag": "acme/mill/on", "ts": US, "value": True}, {"tag": "acme/mill/on", "ts": US + 1, "value": None}])


def panels() -> Iterator[tuple[str, str]]:
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["rawSql"]


async def test_every_query_of_the_dashboard_gives_what_it_shows_to_a_reader(
    server: Server, database_as_owner: str, reader: str, engine: str
) -> None:
    async with AsyncClient(server.url) as client:
        await fill(client)
    refresh(database_as_owner, engine)
    shown = {title: ask(reader, expand(text, US, US + 6 * HOUR, "5m", VARIABLES)) for title, text in panels()}
    assert {title: bool(rows) for title, rows in shown.items()} == dict.fromkeys(shown, True)
    assert {row[1] for row in shown["Trend"]} == set(VARIABLES["tag"])
    assert len(shown["Trend"]) == 2 * 72
    assert {row[1] for row in shown["Least and greatest"]} == {f"{tag} {which}" for tag in VARIABLES["tag"] for which in ("min", "max")}
    assert {row[2] for row in shown["Percent good"] if row[1] == "acme/mill/flow"} >= {0.0}
    assert [row[2] for row in shown["States"] if row[1] == "acme/mill/pump"] == ["stopped", "running", "2"] * 2
    assert [row[2] for row in shown["States"] if row[1] == "acme/mill/phase"] == ["p0", "p1", "p2"]
    assert [row[2] for row in shown["States"] if row[1] == "acme/mill/on"] == ["true", None]
    assert ("acme/mill/pump", "2") in [row[:2] for row in shown["Last values"]]
    assert [row[0] for row in shown["Out of range, or bad"]] == ["acme/mill/on"]
    assert len(shown["Averages of the hours"]) == 12
    for variable in DASHBOARD["templating"]["list"]:
        found = [row[0] for row in ask(reader, expand(variable["query"], US, US + HOUR, "1m", VARIABLES))]
        wanted = VARIABLES[variable["name"]]
        assert found == (sorted(wanted) if not isinstance(wanted, str) else [wanted])
    # what a reader may not do is not done in another's name
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        ask(reader, "DELETE FROM historian.tag")


def test_the_queries_of_the_page_are_those_of_the_dashboard() -> None:
    page = " ".join((ROOT / "docs" / "grafana.md").read_text(encoding="utf-8").split())
    asked = [text for _, text in panels()] + [variable["query"] for variable in DASHBOARD["templating"]["list"][:2]]
    assert [text for text in asked if " ".join(text.split()) not in page] == []


async def test_trends_are_what_the_range_query_gives(server: Server, database_as_owner: str, engine: str) -> None:
    async with AsyncClient(server.url) as client:
        await fill(client)
        refresh(database_as_owner, engine)
        raw = await client.range("acme/mill/#", US, US + 6 * HOUR)
        for every in (None, "10s", "20s", "7m", "10m", "1h", "2h", "1d"):
            interval = "NULL" if every is None else f"'{every}'"
            found = ask(
                database_as_owner,
                'SELECT metric, "time", value, min, max, percent_good FROM historian.trend'
                f"('{{acme/mill/o''neil,acme/+/flow,nothing/#}}', '2026-01-01', '2026-01-02', {interval})",
            )
            assert found == sorted(found, key=lambda row: row[:2])
            for path in ("acme/mill/flow", "acme/mill/o'neil"):
                width = {None: 1, "s": 10**6, "m": 60 * 10**6, "h": HOUR, "d": 24 * HOUR}[every and every[-1]] * int(
                    every[:-1] if every else 1
                )
                compare([row[1:] for row in found if row[0] == path], raw, path, width)


def compare(found: list[tuple[Any, ...]], raw: pa.Table, path: str, width: int) -> None:
    """Buckets against what the samples of the range query give."""
    of_tag = raw.filter(pa.compute.equal(raw.column("tag"), path))
    ts = of_tag.column("ts").cast(pa.int64()).to_numpy() // width * width
    value, quality = of_tag.column("value").to_numpy(), of_tag.column("quality").to_numpy()
    begins = np.unique(ts)
    assert [us(row[0]) for row in found] == begins.tolist()
    for (_, average, least, greatest, percent), begin in zip(found, begins, strict=True):
        known = value[(ts == begin) & (quality >= 64)]
        assert percent == pytest.approx(100 * (quality[ts == begin] >= 192).mean())
        if len(known):
            assert (least, greatest) == (known.min(), known.max())
            assert average == pytest.approx(known.mean(), rel=1e-12)
        else:
            assert (average, least, greatest) == (None, None, None)


@pytest.fixture
def matches(database: str) -> Iterator[Callable[[str, str], bool]]:
    with psycopg.connect(database, autocommit=True) as conn:

        def ask_whether(path: str, pattern: str) -> bool:
            row = conn.execute("SELECT historian.matches(%s, %s)", [path, pattern]).fetchone()
            assert row is not None
            return bool(row[0])

        yield ask_whether


def test_wildcards_in_sql_are_those_of_the_api(matches: Callable[[str, str], bool]) -> None:
    level = st.text(st.sampled_from("ab.*\\[(|^$ ö-'é{"), min_size=1, max_size=3)
    path = st.lists(level, min_size=1, max_size=4).map("/".join)
    pattern = st.one_of(
        st.lists(st.one_of(st.just("+"), level), min_size=1, max_size=4).map("/".join),
        st.lists(st.one_of(st.just("+"), level), max_size=3).map(lambda levels: "/".join([*levels, "#"])),
    )

    # this machine may be busy with other things
    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(path, pattern, st.booleans())
    def same(path: str, pattern: str, own: bool) -> None:
        if own:
            # of the path itself, so that it matches more than by chance
            pattern = "/".join("+" if n % 2 else level for n, level in enumerate(path.split("/")))
        assert matches(path, pattern) == bool(wildcard_regex(pattern).fullmatch(path))

    same()
    for wrong in ("a/#/b", "a+/b", "#a", "a/b#"):
        with pytest.raises(BadInput):
            wildcard_regex(wrong)
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="whole levels"):
            matches("a", wrong)
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        matches("a", "+b")


async def test_a_time_filter_reaches_the_index_and_leaves_other_months_alone(server: Server, database_as_owner: str, engine: str) -> None:
    day = 24 * HOUR
    async with AsyncClient(server.url) as client:
        for month in range(4):
            n = 2000
            await client.write(
                {
                    "tag": [f"x/{k % 20}" for k in range(n)],
                    "ts": US + month * 31 * day + np.arange(n) // 20 * 1_000_000,
                    "value": np.arange(n),
                }
            )
    refresh(database_as_owner, engine)
    with psycopg.connect(database_as_owner, autocommit=True) as conn:
        conn.execute("ANALYZE")
        conn.execute("SET timezone = 'UTC'")
        # tables of a test are small enough to be read whole; it is about what could be done
        conn.execute("SET enable_seqscan = off; SET enable_bitmapscan = off")
        asked = 'SELECT "time", value FROM historian.trend_raw WHERE $__timeFilter("time") AND metric = $tag ORDER BY 1'
        plan = explained(conn, expand(asked, US, US + HOUR, "1m", {"tag": ["x/3"]}))
        assert "tag_path_key" in plan
        assert re.search(r"Index Cond: \(\(tag_id = t.tag_id\) AND \(ts >= '2026-01-01 00:00:00\+00'.* AND \(ts <= ", plan), plan
        # of four months, or days, one
        assert len(re.findall(r"Scan using \S+ on (?!tag)", plan)) == 1, plan
        # what historian.trend reads of a level; what is not made yet is aggregated beside it, of that tag
        plan = explained(
            conn,
            "SELECT x.* FROM (SELECT tag_id FROM historian.tag WHERE path = 'x/3' UNION SELECT 0) t CROSS JOIN LATERAL (SELECT min(r.min_value)"
            " FROM historian.rollup_1m r WHERE r.tag_id = t.tag_id AND r.bucket >= '2026-01-01' AND r.bucket < '2026-01-01 01:00') x",
        )
        by_tag = r"Index Cond: \(\(tag_id = \S*tag_id\) AND (?=.*bucket >= '2026-01-01 00:00:00\+00)"
        assert len(re.findall(by_tag, plan)) == 1, plan


def explained(conn: psycopg.Connection, text: str) -> str:
    return "\n".join(str(row[0]) for row in conn.execute(f"EXPLAIN {text}".encode()))
