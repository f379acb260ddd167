"""What a schema is made of, as the server's own catalogs tell it: for comparing a schema that was upgraded with one that was made new."""

from __future__ import annotations

import re

import psycopg

_QUERIES = {
    "relations": """
        SELECT c.relname, c.relkind, c.relpersistence, c.reloptions, c.relispartition FROM pg_class c WHERE relnamespace = 'historian'::regnamespace""",
    "columns": """
        SELECT c.relname, a.attname, a.attnum, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated, a.attstorage,
            a.attcollation::regcollation, pg_get_expr(d.adbin, d.adrelid)
        FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid LEFT JOIN pg_attrdef d ON d.adrelid = attrelid AND d.adnum = attnum
        WHERE relnamespace = 'historian'::regnamespace AND attnum > 0 AND NOT attisdropped AND relkind IN ('r', 'p', 'v', 'm')""",
    "indexes": """
        SELECT pg_get_indexdef(indexrelid), indisvalid FROM pg_index JOIN pg_class c ON c.oid = indexrelid WHERE relnamespace = 'historian'::regnamespace""",
    "constraints": """
        SELECT conrelid::regclass, conname, pg_get_constraintdef(oid), convalidated FROM pg_constraint WHERE connamespace = 'historian'::regnamespace""",
    "functions": """
        SELECT pg_get_functiondef(oid), proacl FROM pg_proc WHERE pronamespace = 'historian'::regnamespace AND prokind IN ('f', 'p')""",
    "views": """
        SELECT relname, pg_get_viewdef(oid) FROM pg_class WHERE relnamespace = 'historian'::regnamespace AND relkind IN ('v', 'm')""",
    "triggers": """
        SELECT pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid
        WHERE relnamespace = 'historian'::regnamespace AND NOT tgisinternal""",
    "policies": """
        SELECT c.relname, polname, polcmd FROM pg_policy JOIN pg_class c ON c.oid = polrelid WHERE relnamespace = 'historian'::regnamespace""",
    "sequences": "SELECT sequencename, start_value, increment_by, cache_size, cycle FROM pg_sequences WHERE schemaname = 'historian'",
    "types": "SELECT typname, typtype FROM pg_type WHERE typnamespace = 'historian'::regnamespace",
    "comments": """
        SELECT c.relname, objsubid, description FROM pg_description JOIN pg_class c ON c.oid = objoid
        WHERE relnamespace = 'historian'::regnamespace AND classoid = 'pg_class'::regclass""",
    "default rights": "SELECT defaclobjtype, defaclacl FROM pg_default_acl WHERE defaclnamespace = 'historian'::regnamespace",
    "migrations": "SELECT number, name, engine FROM historian.migration",
}
_TIMESCALE = {
    "hypertables": "SELECT hypertable_name, num_dimensions, compression_enabled FROM timescaledb_information.hypertables WHERE hypertable_schema = 'historian'",
    "dimensions": "SELECT hypertable_name, column_name, time_interval FROM timescaledb_information.dimensions WHERE hypertable_schema = 'historian'",
    "columnstore": """
        SELECT hypertable_name, attname, segmentby_column_index, orderby_column_index, orderby_asc, orderby_nullsfirst
        FROM timescaledb_information.compression_settings""",
    "aggregates": "SELECT view_name, materialized_only, compression_enabled, view_definition FROM timescaledb_information.continuous_aggregates",
    "jobs": "SELECT proc_name, schedule_interval, config, hypertable_name, scheduled FROM timescaledb_information.jobs WHERE hypertable_schema IS NOT NULL",
}


def catalogs(dsn: str) -> dict[str, list[str]]:
    """All objects of the schema in words, by kind, sorted."""
    with psycopg.connect(dsn) as conn:
        queries = _QUERIES
        if conn.execute("SELECT FROM pg_extension WHERE extname = 'timescaledb'").fetchone() is not None:
            queries = _QUERIES | _TIMESCALE
        return {kind: sorted(_words(row) for row in conn.execute(query)) for kind, query in queries.items()}  # type: ignore[arg-type]


def _words(row: tuple[object, ...]) -> str:
    # TimescaleDB numbers what it makes
    return re.sub(r"(hypertable_|watermark\(|hypertable_id': )\d+", r"\1N", repr(row))
