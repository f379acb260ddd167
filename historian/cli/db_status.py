"""`historian db status`, in words and as JSON: engine, versions, migrations to come, size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from historian.schema.chunks import Layout
    from historian.schema.migrate import SchemaStatus


def size_bytes(dsn: str) -> int:
    """Of the whole database. Raises Unavailable."""
    import psycopg

    from historian.schema.errors import Unavailable

    try:
        with psycopg.connect(dsn, connect_timeout=15, application_name="historian db status") as conn:
            row = conn.execute("SELECT pg_database_size(current_database())").fetchone()
    except psycopg.Error as error:
        raise Unavailable(f"the size of the database cannot be read: {str(error).strip().splitlines()[0]}") from error
    return int(row[0]) if row else 0


def show(name: str, found: SchemaStatus, size_bytes: int, lies: Layout | None, *, json: bool) -> None:
    """Print it, in lines for people or as JSON. `name` is the database's, for people; `lies`: how the samples lie on disk, if that is known."""
    from historian.cli import db_chunks

    if json:
        import orjson

        document = {
            "database": name,
            "engine": found.engine,
            "server_version": found.server_version or None,
            "extension_version": found.extension_version,
            "schema_version": found.version,
            "latest_version": found.latest,
            "pending": found.pending,
            "size_bytes": size_bytes,
            "storage": db_chunks.document(lies) if lies is not None else None,
        }
        typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
        return
    engines = {"timescale": f"TimescaleDB {found.extension_version}", "plain": "plain PostgreSQL", None: "none yet"}
    version = f"{found.version} of {found.latest}" if found.version is not None else "none; run: historian db init"
    rows = [
        ("database", name),
        ("server", f"PostgreSQL {found.server_version}" if found.server_version else "not made yet"),
        ("engine", engines[found.engine]),
        ("schema", version),
        ("pending", ", ".join(found.pending) or "nothing"),
        ("size", f"{size_bytes / 1e6:,.1f} MB"),
        *(db_chunks.summary(lies) if lies is not None else ()),
    ]
    for label, text in rows:
        typer.echo(f"{label:<28}{text}" if label.startswith("  ") else f"{label:<10}{text}")
