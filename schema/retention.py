"""Retention by groups of tags: how many days raw samples, and the buckets of each rollup level, are kept; and whether raw samples go into the archive first.

A group is a list of wildcard patterns. The first one that has a tag, by priority and then by name, is the tag's; the group `default` has all others, keeps everything for
ever until it is told otherwise, and stays. Tags change their group when the patterns do; what was removed until then stays removed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from historian.schema.administration import administering
from historian.schema.errors import BadInput, NotFound
from historian.schema.paths import check_path, is_wildcard, wildcard_regex

DEFAULT = "default"
LEVELS = ("1m", "10m", "1h", "6h", "1d")
#: the newest are still being written, and their rollups made
FEWEST_DAYS = 2
MOST_DAYS = 100_000
MAX_PATTERNS = 64
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_NAME_PRIORITY = 100


@dataclass(frozen=True, slots=True)
class Group:
    """`raw_days`, `days_…`: None keeps for ever. `tags`: how many the group has now."""

    name: str
    priority: int
    patterns: tuple[str, ...]
    raw_days: int | None = None
    archive: bool = False
    days_1m: int | None = None
    days_10m: int | None = None
    days_1h: int | None = None
    days_6h: int | None = None
    days_1d: int | None = None
    tags: int = 0


@dataclass(frozen=True, slots=True)
class Horizon:
    """Raw samples and buckets before `at` may have been removed; up to `wanted` they have expired. None: nothing has."""

    wanted: datetime | None
    at: datetime | None


_GROUPS = """
WITH counted AS (SELECT historian.retention_group_of(path) AS name, count(*)::int AS tags FROM historian.tag GROUP BY 1)
SELECT g.name, priority, patterns, raw_days, archive, days_1m, days_10m, days_1h, days_6h, days_1d, COALESCE(tags, 0)
FROM historian.retention_group g LEFT JOIN counted USING (name) ORDER BY priority, name
"""
_DENIED = "let its owner run: historian db grant ROLE"


def groups(dsn: str) -> tuple[list[Group], Horizon]:
    """All groups in the order in which tags are looked for in them. Raises Unavailable, SchemaError."""
    with administering(dsn, name="historian retention", denied=_DENIED) as conn:
        found = [Group(row[0], row[1], tuple(row[2]), *row[3:]) for row in conn.execute(_GROUPS)]  # type: ignore[arg-type]
        row = conn.execute("SELECT wanted, horizon FROM historian.retention_state").fetchone()
        assert row is not None
        return found, Horizon(*row)  # type: ignore[arg-type]


def set_group(
    dsn: str,
    name: str,
    *,
    patterns: tuple[str, ...] | None = None,
    priority: int | None = None,
    archive: bool | None = None,
    days: dict[str, int | None] | None = None,
) -> None:
    """Make a group, or change what is named here of one. `days` are by `raw` and the levels, None for ever. Raises BadInput, NotFound, Unavailable, SchemaError."""
    if not _NAME.fullmatch(name):
        raise BadInput(f"{name!r} is no name for a group: lower case letters, digits, - and _, 40 at most")
    if name == DEFAULT and (patterns is not None or priority is not None):
        raise BadInput("the group default has all tags that no other has; its patterns and its priority stay")
    for what, count in (days or {}).items():
        if count is not None and not FEWEST_DAYS <= count <= MOST_DAYS:
            raise BadInput(f"{what}: {count} days; {FEWEST_DAYS} to {MOST_DAYS:,}, or forever")
    if patterns is not None and not 0 < len(patterns) <= MAX_PATTERNS:
        raise BadInput(f"{len(patterns)} patterns; 1 to {MAX_PATTERNS}")
    if priority is not None and not 0 <= priority <= 1_000_000:
        raise BadInput(f"priority {priority}; 0 to 1,000,000, the lowest first")
    with administering(dsn, name="historian retention", denied=_DENIED) as conn, conn.transaction():
        row = conn.execute(
            "SELECT patterns, priority, archive FROM historian.retention_group WHERE name = %s FOR UPDATE", [name]
        ).fetchone()
        if row is None and patterns is None:
            raise NotFound(
                f"there is no group {name!r}; give its tags to make it, as: historian retention set {name} --match 'site/line1/#'"
            )
        conn.execute(
            """
            INSERT INTO historian.retention_group AS g (name, priority, patterns, regexes, archive) VALUES (%s, %s, %s, %s, %s)
            ON CONFLICT (name) DO UPDATE SET
                priority = EXCLUDED.priority, patterns = EXCLUDED.patterns, regexes = EXCLUDED.regexes, archive = EXCLUDED.archive
            """,
            _group_row(name, row, patterns, priority, archive),
        )
        for what, count in (days or {}).items():
            column = {"raw": "raw_days"} | {level: f"days_{level}" for level in LEVELS}
            conn.execute(f"UPDATE historian.retention_group SET {column[what]} = %s WHERE name = %s".encode(), [count, name])  # noqa: S608
        # from now on writers leave word of what they write into the past
        conn.execute("SELECT historian.want_horizon()")


def _group_row(
    name: str, standing: tuple[object, ...] | None, patterns: tuple[str, ...] | None, priority: int | None, archive: bool | None
) -> list[object]:
    known = standing or ([], _NAME_PRIORITY, True)
    wanted = list(patterns) if patterns is not None else known[0]
    assert isinstance(wanted, list)
    return [
        name,
        priority if priority is not None else known[1],
        wanted,
        [_expression(pattern) for pattern in wanted],
        archive if archive is not None else known[2],
    ]


def _expression(pattern: str) -> str:
    """The pattern as PostgreSQL matches it: what Python's escapes mean, its advanced expressions mean too."""
    found = wildcard_regex(pattern).pattern if is_wildcard(pattern) else re.escape(check_path(pattern))
    return f"^(?:{found})$"


def remove_group(dsn: str, name: str) -> None:
    """Its tags are then of other groups. Raises BadInput, NotFound, Unavailable, SchemaError."""
    if name == DEFAULT:
        raise BadInput("the group default stays; to keep everything: historian retention set default --raw forever")
    with administering(dsn, name="historian retention", denied=_DENIED) as conn:
        if conn.execute("DELETE FROM historian.retention_group WHERE name = %s", [name]).rowcount == 0:
            raise NotFound(f"there is no group {name!r}; historian retention list shows those that there are")
