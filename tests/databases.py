"""Names of databases on the server that the tests use."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit


def with_database(dsn: str, name: str) -> str:
    """The DSN (a URI) of another database on the same server."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))
