"""Grafana's macros and variables in SQL, expanded as its PostgreSQL data source expands them (pkg/tsdb/grafana-postgresql-datasource/macros.go, with TimescaleDB off)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

_MACRO = re.compile(r"\$__(timeFilter|timeFrom|timeTo)\(([^)]*)\)")
_VARIABLE = re.compile(r"\$(\w+)")


def _shown(us: int) -> str:
    return f"'{datetime.fromtimestamp(us / 1e6, UTC):%Y-%m-%dT%H:%M:%SZ}'"


def expand(sql: str, start: int, stop: int, interval: str, variables: Mapping[str, str | Sequence[str]]) -> str:
    """The SQL that Grafana sends for a panel of this span (µs), with points so far apart. Variables of several values are quoted, those of one are not."""

    def macro(match: re.Match[str]) -> str:
        match match[1]:
            case "timeFilter":
                return f"{match[2]} BETWEEN {_shown(start)} AND {_shown(stop)}"
            case "timeFrom":
                return _shown(start)
            case _:
                return _shown(stop)

    def variable(match: re.Match[str]) -> str:
        value = variables[match[1]]
        return value if isinstance(value, str) else ",".join("'" + one.replace("'", "''") + "'" for one in value)

    return _VARIABLE.sub(variable, _MACRO.sub(macro, sql.replace("$__interval", interval)))
