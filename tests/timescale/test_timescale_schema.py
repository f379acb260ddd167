"""The hypertable, its columnstore, the rollups and what looks after them: as the migrations say, seen through TimescaleDB's own views."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from rollup_reference import LEVELS
from timescale_samples import Conn, connected


@pytest.fixture
def conn(timescale: str) -> Iterator[Conn]:
    with connected(timescale) as opened:
        yield opened


def test_samples_are_cut_by_time_into_days(conn: Conn) -> None:
    found = conn.execute(
        "SELECT hypertable_name, column_name, time_interval FROM timescaledb_information.dimensions WHERE hypertable_schema = 'historian'"
    ).fetchall()
    assert found == [("sample", "ts", timedelta(days=1))]


def test_samples_lie_in_the_columnstore_by_tag_and_in_the_order_of_time(conn: Conn) -> None:
    found = conn.execute(
        "SELECT segmentby, orderby FROM timescaledb_information.hypertable_columnstore_settings WHERE hypertable = 'historian.sample'::regclass"
    ).fetchall()
    assert found == [("tag_id", "ts")]


def test_samples_have_one_index_that_is_not_unique_and_looks_for_no_duplicates(conn: Conn) -> None:
    found = conn.execute(
        "SELECT c.relname, i.indisunique, c.reloptions FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        " WHERE i.indrelid = 'historian.sample'::regclass"
    ).fetchall()
    assert found == [("sample_tag_ts", False, ["deduplicate_items=off"])]


def test_a_chunk_takes_over_the_index_as_it_is(conn: Conn) -> None:
    with conn.transaction(force_rollback=True):
        conn.execute("INSERT INTO historian.sample (tag_id, quality, ts, mantissa) VALUES (1, 192, '2026-01-01 00:00:00+00', 1)")
        found = conn.execute(
            "SELECT c.reloptions FROM timescaledb_information.chunks k JOIN pg_index i"
            " ON i.indrelid = format('%I.%I', k.chunk_schema, k.chunk_name)::regclass JOIN pg_class c ON c.oid = i.indexrelid"
        ).fetchall()
        assert found == [(["deduplicate_items=off"],)]


def test_jobs_of_ours_look_after_chunks_retention_and_rollups_and_no_policy_converts_samples(conn: Conn) -> None:
    found = conn.execute(
        "SELECT proc_name, schedule_interval, scheduled FROM timescaledb_information.jobs WHERE proc_schema = 'historian' ORDER BY 1"
    ).fetchall()
    assert found == [
        ("tend_chunks", timedelta(minutes=10), True),
        ("tend_retention", timedelta(hours=1), True),
        ("tend_rollups", timedelta(minutes=1), True),
    ]
    policies = conn.execute(
        "SELECT proc_name FROM timescaledb_information.jobs WHERE proc_name LIKE 'policy_%' AND hypertable_name = 'sample'"
    ).fetchall()
    assert policies == []


def test_each_level_of_rollups_adds_what_is_not_refreshed_yet_lies_in_the_columnstore_and_is_refreshed_however_late_its_samples(
    conn: Conn,
) -> None:
    found = conn.execute(
        "SELECT c.view_name, c.materialized_only, c.compression_enabled, s.segmentby,"
        " r.config ->> 'start_offset', (r.config ->> 'end_offset')::interval, r.scheduled, k.scheduled"
        " FROM timescaledb_information.continuous_aggregates c"
        " JOIN timescaledb_information.hypertable_columnstore_settings s"
        "   ON s.hypertable = format('%I.%I', c.materialization_hypertable_schema, c.materialization_hypertable_name)::regclass"
        " LEFT JOIN timescaledb_information.jobs r ON r.proc_name = 'policy_refresh_continuous_aggregate'"
        "   AND r.hypertable_name IN (c.view_name, c.materialization_hypertable_name)"
        " LEFT JOIN timescaledb_information.jobs k ON k.proc_name = 'policy_compression'"
        "   AND k.hypertable_name IN (c.view_name, c.materialization_hypertable_name)"
        " WHERE c.view_schema = 'historian'"
    ).fetchall()
    # the refresh policies say how, and are run by our job in turn
    assert sorted(found, key=lambda row: row[5]) == [
        (f"rollup_{level}", False, True, "tag_id", None, timedelta(seconds=seconds), False, True) for level, seconds in LEVELS.items()
    ]
